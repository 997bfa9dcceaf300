"""The arrays of a network; mostly zero ones are stored as their non-zeros, 8-bit ones as codes.

A layer's weight is needed as floats only while it is packed for a kernel. Until then a sparse one
takes five bytes for each non-zero, as in a file (see ``sparse_file``), and one of 8 bits one byte
for each number, or none of its own where it lies in a mapped file.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gossamer.runtime.sparse_file import decode, encode

Array = NDArray[Any]
Fact = TypeVar("Fact")

SMALLEST = 1 << 16  # numbers of an array that is worth it
DENSEST = 0.25
LARGEST_SHARED = 1 << 12  # numbers of an array that is compared with those of other nodes


@dataclass(eq=False)
class Packed:
    """A float32 or int8 array stored as its non-zeros and the number of zeros before each."""

    values: Array
    gaps: Array
    shape: tuple[int, ...]
    _made: weakref.ref[Array] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def made(self, array: Array) -> bool:
        """Whether an array is the one that ``dense`` returned, and was not written to."""
        return self._made is not None and self._made() is array and not array.flags.writeable

    def dense(self) -> Array:
        """Return the read-only array; it is expanded only once while it is in use."""
        decoded = self._made() if self._made is not None else None
        if decoded is None:
            decoded = decode(self.values, self.gaps, self.shape)
            decoded.flags.writeable = False
            self._made = weakref.ref(decoded)
            _MADE_BY[id(decoded)] = self
        return decoded


@dataclass(eq=False)
class Quantized:
    """A float32 array stored as whole multiples of its steps.

    Attributes:
        codes: int8, not written to.
        step: float32, with as many dimensions; it broadcasts to the codes.
    """

    codes: Array
    step: Array
    _made: weakref.ref[Array] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.codes = self.codes.view()  # whose flag is its own
        self.codes.flags.writeable = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def ndim(self) -> int:
        return self.codes.ndim

    @property
    def size(self) -> int:
        return self.codes.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.step.dtype

    def steps(self, axis: int) -> Array | None:
        """Return the step of each entry of an axis; None if the steps are along another axis."""
        if self.step.size > 1 and self.step.shape[axis] != self.step.size:
            return None
        return np.broadcast_to(self.step.ravel(), self.shape[axis]).astype(np.float32)

    @cached_property
    def turned(self) -> Quantized:
        """A matrix's transpose, the same for all layers that share it."""
        return Quantized(self.codes.T, self.step.T)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, parts: tuple[slice | None, ...]) -> Quantized:
        """Return it with new dimensions; the slices are whole ones."""
        return Quantized(self.codes[parts], self.step[parts])

    def dense(self) -> Array:
        """Return the read-only floats; they are computed only once while they are in use."""
        floats = self._made() if self._made is not None else None
        if floats is None:
            floats = self.codes * self.step
            floats.flags.writeable = False
            self._made = weakref.ref(floats)
        return floats


Stored = Array | Packed | Quantized

# By the id of an array, the non-zeros that it was made of last.
_MADE_BY: weakref.WeakValueDictionary[int, Packed] = weakref.WeakValueDictionary()
# By their ids, read-only arrays that are known to have few zeros.
_DENSE: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()


def packed(array: Array) -> Array | Packed:
    """Return the array, or its non-zeros if they are few (a negative zero becomes a zero).

    An array that was expanded from its non-zeros is always stored as these again.
    """
    origin = _MADE_BY.get(id(array))
    if origin is not None and origin.made(array):
        return origin
    if array.dtype != np.float32 or array.size < SMALLEST or _DENSE.get(id(array)) is array:
        return array
    fixed = not array.flags.writeable and array.base is None  # what layers share
    if np.count_nonzero(array) > DENSEST * array.size:
        if fixed:
            _DENSE[id(array)] = array
        return array
    made = Packed(*encode(array), array.shape)
    if fixed:
        made._made = weakref.ref(array)
        _MADE_BY[id(array)] = made
    return made


# By its id and a name, what is known of a read-only array that is in use.
_FACTS: dict[tuple[int, Hashable], Any] = {}


def fact(array: Array, name: Hashable, find: Callable[[], Fact]) -> Fact:
    """Return the result of ``find``, computed once while the array is in use.

    The steps of an unrolled recurrent layer share a weight.
    """
    key = id(array), name
    if key in _FACTS:
        known: Fact = _FACTS[key]
        return known
    result = find()
    if not array.flags.writeable:
        _FACTS[key] = result
        weakref.finalize(array, _FACTS.pop, key, None).atexit = False
    return result


def in_16_bits(array: Array) -> Array | None:
    """Return a float32 array as float16 if it holds each number exactly, or None."""

    def find() -> Array | None:
        if array.dtype != np.float32 or not _are_halves(array.ravel()[:1024]):
            return None
        if not _are_halves(array):
            return None
        half = array.astype(np.float16)
        half.flags.writeable = False
        return half

    return fact(array, "in 16 bits", find)


def _are_halves(array: Array) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16), array)


def nonzeros(array: Array) -> int:
    """Return the number of non-zeros, counted once while the array is in use."""
    return fact(array, "nonzeros", lambda: int(np.count_nonzero(array)))


class Constants(MutableMapping[str, Array]):
    """Arrays by name. A sparse ``weight`` is packed when it is set and dense when it is read.

    One of 8 bits stays in codes, and the constant ``step`` of its outputs, its first dimension,
    is set with it.
    """

    __slots__ = ("_stored",)

    def __init__(self, arrays: Mapping[str, Stored] | None = None) -> None:
        self._stored: dict[str, Stored] = {}
        if isinstance(arrays, Constants):
            self._stored.update(arrays._stored)
        else:
            for name, array in (arrays or {}).items():
                self[name] = array

    def __getitem__(self, name: str) -> Array:
        stored = self._stored[name]
        return stored.dense() if isinstance(stored, Packed | Quantized) else stored

    def __setitem__(self, name: str, array: Stored) -> None:
        if name == "weight":
            self._stored.pop("step", None)
            if not isinstance(array, Packed | Quantized):
                array = packed(array)
            elif isinstance(array, Quantized) and (steps := array.steps(0)) is not None:
                self._stored["step"] = steps
        self._stored[name] = array

    def __delitem__(self, name: str) -> None:
        del self._stored[name]

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._stored[name].shape

    def share(self, known: dict[tuple[Any, ...], Array]) -> None:
        """Replace small arrays by equal ones among ``known``, which is extended; read-only."""
        for name, array in self._stored.items():
            if isinstance(array, Packed | Quantized) or array.size > LARGEST_SHARED:
                continue
            key = array.dtype.str, array.shape, array.tobytes()
            if key not in known:
                known[key] = np.asarray(array).view()  # NumPy makes scalars of arrays of no axes
                known[key].flags.writeable = False
            self._stored[name] = known[key]

    def stored(self, name: str) -> Iterable[Array]:
        """Return the stored arrays of one: itself, its non-zeros and gaps, or codes and steps."""
        match self._stored[name]:
            case Packed(values, gaps):
                return values, gaps
            case Quantized(codes, step):
                return codes, step
            case array:
                return (array,)

    def quantized(self) -> Quantized | None:
        """Return the ``weight`` of 8 bits; None if it is not of these."""
        weight = self._stored.get("weight")
        return weight if isinstance(weight, Quantized) else None
