"""What is known of a network while its file is read, and how one of its nodes is converted."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.runtime import sparse_file
from gossamer.runtime.constants import Constants, Packed
from gossamer.runtime.graph import Array, Node, Shape
from gossamer.runtime.importer import folding
from gossamer.runtime.importer.folding import FOLD, SPARSE
from gossamer.runtime.importer.folding import LARGEST as LARGEST_FOLDED
from gossamer.runtime.importer.unsupported import Unsupported as Unsupported

# Stands for the number of examples while shapes are worked out: a prime that no real
# dimension has, so that a multiple of it is a multiple of the batch.
BATCH = 1_000_003

# Dimensions of a value: what every numpy can hold.
MOST_DIMENSIONS = 32

# Floats of one value for one example; a file that asks for more is wrong.
LARGEST = 1 << 28

# Floats of all values together for one example.
LARGEST_IN_ALL = 1 << 30

# Numbers that may be computed while a file is read, beside those that it holds (times a few).
FREE_NUMBERS = 1 << 24


@dataclass(frozen=True)
class BatchAxis:
    """How to read a value whose batch is not first, from one whose batch is.

    ``source`` is [batch, ...]; the value has the batch in dimension ``axis`` of the rest, with
    ``after`` numbers of this dimension behind each example.
    """

    source: str
    axis: int
    after: int = 1


@dataclass(frozen=True)
class BatchIndex:
    """Integers of example i: ``step`` * i + ``start``, both [1, ...] for [batch, ...].

    To the last one of the last dimension the value ``own`` is added, if there is one: integers
    that the example has itself, of as many dimensions as are left without the last.
    """

    step: Array
    start: Array
    own: str = ""


class Context:
    """State while one file is read: what is constant, what shape the rest has."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.constants = Constants()
        self.shapes: dict[str, Shape] = {}
        self.kinds: dict[str, str] = {}  # as numpy calls them: "i", "b"; all others are floats
        self.dtypes: dict[str, np.dtype[Any]] = {}  # of inputs that are not float32
        self.repeated: dict[str, Shape] = {}  # constants held once for all examples
        self.once: set[str] = set()  # what is made of these
        self.nodes: list[Node] = []
        self.made_by: dict[str, Node] = {}
        self.uses: Counter[str] = Counter()
        self.batch = BATCH  # what the first dimension of the inputs is
        self.batch_axes: dict[
            str, BatchAxis
        ] = {}  # values whose batch is not first (see batch_axis)
        self.batch_indices: dict[
            str, BatchIndex | None
        ] = {}  # see batch_index; None: no more than a shape
        self.codes: dict[str, tuple[float, int]] = {}  # steps and zero points of quantised values
        self.steps: dict[str, tuple[Array, int | None]] = {}  # of dequantised weights, and axis
        self.further: dict[str, str] = {}  # outputs that are not computed, and of which node
        self.outputs: list[str] = []  # of the ONNX node that is being converted
        self.floats = 0  # of all values, for one example
        self.free = FREE_NUMBERS  # numbers that may still be computed

    def shape(self, value: str) -> Shape:
        if value in self.repeated:
            return self.repeated[value]
        if value in self.constants:
            return self.constants.shape(value)
        return self.shapes[value]

    def kind(self, value: str) -> str:
        """ "f", "i" or "b": whether a value holds floats, integers or truth."""
        if value in self.constants:
            kind = self.constants[value].dtype.kind
            return "i" if kind == "u" else kind
        return self.kinds.get(value, "f")

    def constant(self, value: str, what: str) -> Array:
        if value not in self.constants:
            raise Unsupported(f"its {what} must be a constant; export with constants folded")
        return self.constants[value]

    def step(self, value: str, axis: int, outputs: int) -> dict[str, Array]:
        """A layer's constant ``step``, where the weight ``value`` is whole multiples of one."""
        found, along = self.steps.get(value, (np.zeros(0, np.float32), None))
        if not found.size or (along not in (None, axis) and found.size > 1):
            return {}
        return {"step": np.broadcast_to(found, outputs).astype(np.float32)}

    def emit(self, node: Node, shape: Shape, kind: str | None = None) -> None:
        """Adds a node; ``kind`` of its output is that of its first input if not given."""
        shape = tuple(int(size) for size in shape)
        if any(value in self.constants for value in node.inputs):
            raise Unsupported("it works on a constant; export with constants folded")
        if any(value in self.batch_axes for value in node.inputs):
            turned = next(self.shape(value) for value in node.inputs if value in self.batch_axes)
            raise Unsupported(f"its input is {shown(turned)}; the batch must stay first")
        check_rank(len(shape))
        if any(size < 1 for size in shape):
            raise Unsupported(f"its output has the impossible shape {shown(shape)}")
        floats = math.prod(shape) // (BATCH if shape[:1] and shape[0] % BATCH == 0 else 1)
        self.floats += floats
        if floats > LARGEST or self.floats > LARGEST_IN_ALL:
            raise Unsupported(f"its output of shape {shown(shape)} is too large")
        self.nodes.append(node)
        self.made_by[node.output] = node
        self.shapes[node.output] = shape
        self.kinds[node.output] = kind or self.kind(node.inputs[0])

    def spend(self, wanted: int, most: int = LARGEST_FOLDED) -> None:
        """Asks for a constant of so many numbers, before it is made."""
        self.free -= wanted
        if wanted > most or self.free < 0:
            raise Unsupported(f"it makes a constant of {wanted} numbers, too many for this file")

    def fold(self, operator: str, output: str, inputs: list[str], a: Attributes) -> None:
        """Computes a constant, if the file is large enough to ask for it."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        values = [self.constants[name] if name else folding.LEFT_OUT for name in inputs]
        if operator in ("ConstantOfShape", "Expand"):
            sizes = np.ravel(values[-1])
            if np.any(sizes == BATCH):  # the same for every example
                values[-1] = np.where(sizes == BATCH, 1, sizes)
                shape = tuple(int(size) for size in sizes)
                own = values[0].shape if operator == "Expand" else ()
                self.repeated[output] = np.broadcast_shapes(own, shape)
        once = any(self._is_once(name) for name in inputs)
        if once and self._joins(operator, inputs, values, a):
            raise Unsupported("it may join the examples of a batch; compute it of one example")
        if operator == "Tile" and values[1].size and values[1].flat[0] % BATCH == 0:
            times = [int(n) for n in np.ravel(values[1])]
            shape = tuple(n * by for n, by in zip(values[0].shape, times, strict=True))
            self.repeated[output], values[1] = shape, np.array([times[0] // BATCH, *times[1:]])
        if operator == "Range" and any(value % BATCH == 0 and value for value in values):
            raise Unsupported("it counts the examples of the batch")
        if once:
            self._repeat(operator, output, inputs, values, a)
            self.once.add(output)
        wanted = folding.numbers(operator, values, a)
        limit = LARGEST if operator == SPARSE else LARGEST_FOLDED
        self.spend(wanted, max(limit, *(value.size for value in values)))
        if operator == SPARSE:  # stays as it is until a kernel is made of it
            try:
                shape = sparse_file.check(values[0], values[1], a["shape"])
            except ValueError as error:
                raise Unsupported(str(error)) from None
            self.constants.hold(output, Packed(values[0], values[1], shape))
            return
        found = np.asarray(FOLD[operator](values, a))
        check_rank(found.ndim)
        self.constants[output] = found

    def _is_once(self, value: str) -> bool:
        return value in self.repeated or value in self.once

    def _joins(self, operator: str, inputs: list[str], values: list[Array], a: Attributes) -> bool:
        """Whether examples of a constant that is held once for all of them may be joined."""
        shape = self.repeated.get(inputs[0], ())
        if operator in ("CumSum", "Softmax"):
            axis = values[1].item() if operator == "CumSum" else a.get("axis", -1)
            return not shape or shape[int(axis)] % BATCH == 0
        if operator == "MatMul":
            whole = len(shape) > 2 and shape[0] % BATCH == 0 and values[1].ndim == 2
            return not whole or self._is_once(inputs[1])
        return operator in folding.JOINING

    def _repeat(
        self, operator: str, output: str, inputs: list[str], values: list[Array], a: Attributes
    ) -> None:
        """Remembers what shape a constant has that is made of some held once for all examples."""
        shapes = [self.shape(name) for name in inputs if name]
        if operator in folding.ELEMENTWISE:
            self.repeated[output] = np.broadcast_shapes(*shapes)
        elif inputs[0] not in self.repeated:
            return
        elif operator in folding.POINTWISE or operator in ("CumSum", "Softmax"):
            self.repeated[output] = shapes[0]
        elif operator in folding.VIEWS:
            view = np.broadcast_to(np.int8(0), shapes[0])
            self.repeated[output] = FOLD[operator]([view, *values[1:]], a).shape
        elif operator == "MatMul":
            self.repeated[output] = (*shapes[0][:-1], *shapes[1][1:])
        elif operator == "Reshape" and shapes[0][0] % BATCH == 0:
            shape = reshaped(shapes[0], [int(size) for size in np.ravel(values[1])])
            if shape[0] % BATCH:
                raise Unsupported(f"it reshapes {shown(shapes[0])} to {shown(shape)}")
            self.repeated[output] = shape
            values[1] = np.array([shape[0] // BATCH, *shape[1:]])

    def alone(self, value: str, *ops: str) -> Node | None:
        """The node that made ``value``, if it is one of ``ops`` and nobody else reads it."""
        node = self.made_by.get(value)
        return node if node is not None and node.op in ops and self.uses[value] == 1 else None

    def rename(self, node: Node, output: str, shape: Shape | None = None) -> None:
        """Lets ``node`` take the place of the one after it."""
        self.shapes[output] = shape or self.shapes[node.output]
        self.made_by[output] = node
        node.output = output


def check_rank(rank: int) -> None:
    if rank > MOST_DIMENSIONS:
        raise Unsupported(f"it makes {rank} dimensions; {MOST_DIMENSIONS} at most can run")


def shown(shape: Shape) -> str:
    """A shape as a context of the file would write it."""
    return in_words(str(list(shape)))


def in_words(text: str) -> str:
    """A message in which the number that stands for the batch is called so."""

    def batch(found: re.Match[str]) -> str:
        times, rest = divmod(int(found[0]), BATCH)
        return found[0] if rest or not times else "batch" if times == 1 else f"{times} * batch"

    return re.sub(r"\d{7,15}", batch, text)


def reshaped(shape: Shape, sizes: list[int], keep_zero: bool = True) -> Shape:
    """The shape that Reshape makes of one, by sizes of which one may be -1."""
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


def floats(array: Array) -> Array:
    """Weights as contiguous float32."""
    if array.dtype not in (np.float32, np.float64, np.float16):
        raise Unsupported(f"its weights are {array.dtype}; export in float32")
    return np.ascontiguousarray(array, dtype=np.float32)


def numbers(constant: Array) -> Array:
    """A constant as float32, which integers must fit."""
    found = np.asarray(constant, np.float32)
    if constant.dtype.kind in "iu" and not np.array_equal(found.astype(np.float64), constant):
        raise Unsupported("a constant holds integers that are not exact in float32")
    return found


Attributes = dict[str, Any]
Convert = Callable[[Context, str, list[str], str, Attributes], None]
