"""The arrays of a network; mostly zero ones are stored as their non-zeros.

A layer's weight is needed dense only while it is packed for a kernel. Until then a sparse one
takes five bytes for each non-zero, as in a file (see ``sparse_file``).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
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


def nonzeros(array: Array) -> int:
    """Return the number of non-zeros, counted once while the array is in use."""
    return fact(array, "nonzeros", lambda: int(np.count_nonzero(array)))


class Constants(MutableMapping[str, Array]):
    """Arrays by name. A sparse ``weight`` is packed when it is set and dense when it is read."""

    __slots__ = ("_stored",)

    def __init__(self, arrays: Mapping[str, Array] | None = None) -> None:
        self._stored: dict[str, Array | Packed] = {}
        self.update(arrays or {})

    def __getitem__(self, name: str) -> Array:
        stored = self._stored[name]
        return stored.dense() if isinstance(stored, Packed) else stored

    def __setitem__(self, name: str, array: Array) -> None:
        self._stored[name] = packed(array) if name == "weight" else array

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
            if isinstance(array, Packed) or array.size > LARGEST_SHARED:
                continue
            key = array.dtype.str, array.shape, array.tobytes()
            if key not in known:
                known[key] = np.asarray(array).view()  # NumPy makes scalars of arrays of no axes
                known[key].flags.writeable = False
            self._stored[name] = known[key]

    def stored(self, name: str) -> Iterable[Array]:
        """Return the stored arrays of one: itself, or its non-zeros and the gaps before them."""
        stored = self._stored[name]
        return (stored.values, stored.gaps) if isinstance(stored, Packed) else (stored,)
