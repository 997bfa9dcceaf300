"""State of an import: the values read so far and the nodes made of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gossamer.kernels._kernels import MOST_DIMENSIONS
from gossamer.runtime.constants import Constants, Packed, Quantized, Stored
from gossamer.runtime.graph import AnyNode, Array, Node, Operation, Shape
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.unsupported import Unsupported

# By the output of a node that quantizes and "scale" or "zero point": how many times it is missing.
Units = dict[tuple[str, str], int]

# Stands for the number of examples while shapes are worked out: a prime that no real
# dimension has, so that a multiple of it is a multiple of the batch.
BATCH = 1_000_003

# Floats of one value for one example; a file that asks for more is wrong.
LARGEST = 1 << 28

# Numbers of a constant that may be stored a second time.
LARGEST_COPIED = 1 << 16

# Floats of all values together for one example.
LARGEST_IN_ALL = 1 << 30

# Numbers of one constant that is computed while a file is read.
LARGEST_FOLDED = 1 << 24

# Numbers that may be computed while a file is read, beside those that it holds (times a few).
FREE_NUMBERS = 1 << 24


@dataclass(frozen=True)
class BatchAxis:
    """Reading of a value whose batch is not first from the batch-first value ``source``.

    ``source`` is [batch, ...]. The value lacks that first dimension; where ``source`` has n
    entries in dimension ``axis`` of the rest, the value has [n / after, batch, after], flattened.
    """

    source: str
    axis: int
    after: int = 1


@dataclass(frozen=True)
class BatchIndex:
    """Indices that depend on the example: ``step`` * i + ``start`` for example i.

    ``step`` and ``start`` are [1, ...] for a value of [batch, ...]. If ``own`` names a value,
    [batch, ...] without the last dimension, it is added to the last entry of the last dimension.
    """

    step: Array
    start: Array
    own: str = ""


@dataclass(eq=False)
class Value:
    """Shape, type and origin of one value of the file.

    ``shape`` is the file's; for a constant that is stored once for all examples it includes the
    batch. ``kind`` is NumPy's: "f" for floats, "i" for integers, "b" for booleans.
    """

    shape: Shape
    kind: str = "f"
    constant: Stored | None = None
    repeated: bool = False  # a constant that is stored once for all examples
    once: bool = False  # the same, or made of such constants
    batch_axis: BatchAxis | None = None
    batch_index: BatchIndex | None = None
    codes: tuple[float, int] | None = None  # step and zero point, where it was quantized
    units: Units = field(default_factory=dict)  # see ``operators.dynamic_int8``


class Context:
    """State while one file is read: all values by name, and the nodes so far."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[str, Value] = {}
        self.nodes: list[AnyNode] = []
        self.batch = BATCH  # what the first dimension of the inputs is
        self.uncomputed: dict[str, str] = {}  # further outputs of nodes, and of which
        self.name = ""  # of the ONNX node that is being converted
        self.floats = 0  # of all values, for one example
        self._turned: dict[int, tuple[Array, Array]] = {}  # by the id of the first
        self.free = FREE_NUMBERS  # numbers that may still be computed

    def shape(self, value: str) -> Shape:
        return self.values[value].shape

    def kind(self, value: str) -> str:
        return self.values[value].kind

    def is_constant(self, value: str) -> bool:
        known = self.values.get(value)
        return known is not None and known.constant is not None

    def is_once(self, value: str) -> bool:
        """Whether a constant is stored once for all examples, or computed from such constants."""
        known = self.values.get(value)
        return known is not None and known.once

    def array(self, value: str) -> Array:
        """Return a constant as an array; a packed or quantized one is expanded."""
        constant = self.values[value].constant
        if constant is None:
            raise KeyError(value)
        return constant.dense() if isinstance(constant, Packed | Quantized) else constant

    def add_constant(
        self, name: str, array: Stored, shape: Shape | None = None, *, once: bool = False
    ) -> None:
        """Add a constant; pass a ``shape`` with the batch if it is stored once for all examples."""
        kind = array.dtype.kind.replace("u", "i")
        whole = array.shape if shape is None else shape
        repeated = shape is not None
        self.values[name] = Value(whole, kind, array, repeated, once or repeated)

    def turned(self, matrix: Array | Quantized) -> Array | Quantized:
        """Return a constant's transpose, the same for all layers that share it.

        A large one is a view: a copy would take memory as long as the network, and what is mapped
        from a file takes none once it is packed.
        """
        if isinstance(matrix, Quantized):
            return matrix.turned
        known = self._turned.get(id(matrix))
        if known is None:
            turned = matrix.T.view()
            if matrix.size < LARGEST_COPIED:
                turned = np.ascontiguousarray(turned)
            turned.flags.writeable = False
            known = self._turned[id(matrix)] = matrix, turned
        return known[1]

    def constant(self, value: str, what: str) -> Array:
        if not self.is_constant(value):
            raise Unsupported(f"its {what} must be a constant; export with constants folded")
        return self.array(value)

    def integers(self, value: str, what: str) -> list[int]:
        """Return a constant as a list of integers."""
        return [int(number) for number in np.ravel(self.constant(value, what))]

    def weight(self, value: str, what: str, axis: int) -> Array | Quantized:
        """Return a layer's constant weight, whose outputs are along ``axis``.

        One of 8 bits stays so if its steps are those of outputs; others are floats.
        """
        stored = self.values[value].constant
        if isinstance(stored, Quantized) and stored.steps(axis) is not None:
            return stored
        return floats(self.constant(value, what))

    def emit(
        self,
        operation: Operation,
        inputs: str | tuple[str, ...],
        output: str = "",
        shape: Sequence[int] | None = None,
        kind: str | None = None,
        constants: Mapping[str, Stored] | None = None,
    ) -> str:
        """Add a node and return the name of its output.

        Args:
            operation: its operation.
            inputs: names of the values that it reads.
            output: name of its output; a new name if empty.
            shape: of its output; that of its first input if None.
            kind: of its output (see ``Value``); that of its first input if None.
            constants: of the operation.

        Raises:
            Unsupported: an input is constant or not batch-first, or the output is too large.
        """
        inputs = (inputs,) if isinstance(inputs, str) else inputs
        for value in (self.values[name] for name in inputs):
            if value.constant is not None:
                raise Unsupported("it works on a constant; export with constants folded")
            if value.batch_axis is not None:
                raise Unsupported(f"its input is {shown(value.shape)}; the batch must stay first")
        first = self.values[inputs[0]]
        shape = first.shape if shape is None else tuple(int(size) for size in shape)
        check_rank(len(shape))
        if any(size < 1 for size in shape):
            raise Unsupported(f"its output has the impossible shape {shown(shape)}")
        floats = math.prod(shape) // (BATCH if shape[:1] and shape[0] % BATCH == 0 else 1)
        self.floats += floats
        if floats > LARGEST or self.floats > LARGEST_IN_ALL:
            raise Unsupported(f"its output of shape {shown(shape)} is too large")
        output = output or self._new_name(operation.op)
        self.nodes.append(Node(operation, self.name, inputs, output, Constants(constants)))
        self.values[output] = Value(shape, kind or first.kind)
        return output

    def engine_shapes(self) -> dict[str, Shape]:
        """Return the shapes of the engine's values, of one example where the batch is free."""
        shapes: dict[str, Shape] = {}
        for value, known in self.values.items():
            if any(v is not None for v in (known.constant, known.batch_axis, known.batch_index)):
                continue
            shape = known.shape
            if self.batch == BATCH:
                if not shape or shape[0] % BATCH:
                    raise Unsupported(f"value {value!r} of shape {shown(shape)} has no batch axis")
                shape = (shape[0] // BATCH, *shape[1:])
            if not shape or any(size >= BATCH and size % BATCH == 0 for size in shape[1:]):
                raise Unsupported(f"the batch is not the first dimension of value {value!r}")
            shapes[value] = shape
        return shapes

    def _new_name(self, op: str) -> str:
        names = (f"{self.name} {op} {i}" for i in itertools.count(len(self.nodes)))
        return next(name for name in names if name not in self.values)

    def spend(self, wanted: int, most: int = LARGEST_FOLDED) -> None:
        """Count a constant of ``wanted`` numbers before it is computed; raise if too many."""
        self.free -= wanted
        if wanted > most or self.free < 0:
            raise Unsupported(f"it makes a constant of {wanted} numbers, too many for this file")


def check_rank(rank: int) -> None:
    if rank > MOST_DIMENSIONS:
        raise Unsupported(f"it makes {rank} dimensions; {MOST_DIMENSIONS} at most can run")


def shown(shape: Shape) -> str:
    """Return a shape as text for messages, its dynamic batch written as "batch"."""
    return in_words(str(list(shape)))


def in_words(text: str) -> str:
    """Return a message with "batch" in place of each number that stands for the batch."""

    def batch(match: re.Match[str]) -> str:
        times, rest = divmod(int(match[0]), BATCH)
        return match[0] if rest or not times else "batch" if times == 1 else f"{times} * batch"

    return re.sub(r"\d{7,15}", batch, text)


def reshaped(shape: Shape, sizes: list[int], keep_zero: bool = True) -> Shape:
    """Return the output shape of Reshape; one of ``sizes`` may be -1."""
    if keep_zero:
        sizes = [shape[i] if s == 0 and i < len(shape) else s for i, s in enumerate(sizes)]
    known = math.prod(s for s in sizes if s != -1)
    total = math.prod(shape)
    if sizes.count(-1) > 1 or any(s < -1 for s in sizes) or known == 0:
        raise Unsupported(f"it reshapes {shown(shape)} to {sizes}")
    sizes = [total // known if s == -1 else s for s in sizes]
    if math.prod(sizes) != total:
        raise Unsupported(f"it reshapes {shown(shape)} to {shown(tuple(sizes))}")
    return tuple(sizes)


def axes_of(context: Context, call: Call) -> list[int]:
    """Return the axes in a call's second input or its attribute ``axes``."""
    axes = call.get("axes", [])
    if named := call.optional(1):
        axes = context.integers(named, "axes")
    check_rank(len(axes))
    return [int(axis) for axis in axes]


def floats(array: Array) -> Array:
    """Return weights as contiguous float32."""
    if array.dtype not in (np.float32, np.float64, np.float16):
        raise Unsupported(f"its weights are {array.dtype}; export in float32")
    return np.ascontiguousarray(array, dtype=np.float32)


def numbers(constant: Array | float) -> Array:
    """Return a constant as float32; raise if an integer of it is not exact in float32."""
    constant = np.asarray(constant)
    converted = np.asarray(constant, np.float32)
    if constant.dtype.kind in "iu" and not np.array_equal(converted.astype(np.float64), constant):
        raise Unsupported("a constant has integers that are not exact in float32")
    return converted
