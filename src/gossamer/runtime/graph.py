"""The network in the runtime: a few kinds of nodes on named values.

A value's shape is ``(items, ...)``: its first dimension is ``items`` times the number of
examples in the batch, all others are fixed.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError
from gossamer.runtime.constants import Constants

if TYPE_CHECKING:
    from gossamer.runtime.c.writer import Writer
    from gossamer.runtime.lowering.layouts import Lowering

Array = NDArray[Any]

Shape = tuple[int, ...]

DEEPEST = 1 << 16  # products of two bytes whose sum fits 32 bits


def strides(shape: Shape) -> list[int]:
    """Return the strides, in numbers, of a contiguous array of this shape."""
    steps, step = [], 1
    for size in reversed(shape):
        steps.append(step)
        step *= size
    return steps[::-1]


def merged(sizes: Sequence[int], *steps: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Return the sizes and strides of the fewest loops over the same numbers in the same order.

    ``steps`` are the strides of each array. Neighboring dimensions that are contiguous in every
    array are merged; dimensions of size one are dropped.
    """
    loops: list[tuple[int, tuple[int, ...]]] = []
    for size, *each in zip(sizes, *steps, strict=True):
        if size == 1:
            continue
        if loops and all(a == size * b for a, b in zip(loops[-1][1], each, strict=True)):
            loops[-1] = loops[-1][0] * size, tuple(each)
        else:
            loops.append((size, tuple(each)))
    loops = loops or [(1, (1,) * len(steps))]
    return [size for size, _ in loops], [[each[i] for _, each in loops] for i in range(len(steps))]


def repeating(shape: Shape, within: Shape) -> list[int]:
    """Return the strides of an operand of shape ``shape`` broadcast to ``within``."""
    padded = (*[1] * (len(within) - len(shape)), *shape)
    return [0 if n == 1 else step for n, step in zip(padded, strides(padded), strict=True)]


@dataclass
class Candidate:
    """One way to compute a node: its name in a plan, and how to emit its steps."""

    name: str
    emit: Callable[[], None]


@dataclass(frozen=True)
class Operation(ABC):
    """Base of operations, which define attributes, candidate kernels and C text of nodes.

    A subclass is one kind of operation; its fields are the attributes (see ``operators``).
    """

    op: ClassVar[str]

    @abstractmethod
    def candidates(self, lowering: Lowering, node: Node[Any]) -> Iterable[Candidate]:
        """Return the ways to compute a node, at least one."""

    @abstractmethod
    def write(self, writer: Writer, node: Node[Any]) -> None:
        """Add the function that computes a node to a C file."""


@dataclass(frozen=True)
class Single(Operation):
    """An operation with one way to compute it."""

    def candidates(self, lowering: Lowering, node: Node[Any]) -> Iterable[Candidate]:
        return [Candidate(self.op, lambda: self.lower(lowering, node))]

    @abstractmethod
    def lower(self, lowering: Lowering, node: Node[Any]) -> None:
        """Add the steps that compute a node."""


Kind = TypeVar("Kind", bound=Operation)


@dataclass(slots=True)
class Node(Generic[Kind]):
    """One operation on named values, with its constants."""

    operation: Kind
    name: str
    inputs: tuple[str, ...]
    output: str
    constants: MutableMapping[str, Array] = field(default_factory=dict)
    store: Constants = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.constants = self.store = Constants(self.constants)

    @property
    def op(self) -> str:
        return self.operation.op


AnyNode = Node[Any]


def whole(node: AnyNode) -> Array:
    """Return the weight of a node with a ``step``, divided by it, as int8."""
    weight = node.store.quantized()
    assert weight is not None, f"{node.name!r} has steps, but no weight in 8 bits"
    return weight.codes


def living(nodes: Sequence[AnyNode], outputs: Iterable[str]) -> list[AnyNode]:
    """Return the nodes that an output depends on."""
    wanted, needed = set(outputs), list[AnyNode]()
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            needed.append(node)
    return needed[::-1]


class File(Protocol):
    """A mapped file; see ``importer.mmap``."""

    def check(self) -> None: ...
    def release(self) -> None: ...


@dataclass
class Graph:
    """Nodes in an order in which they can run, and the shape of every value.

    All values are computed in float32, booleans as 0 and 1. ``dtypes`` are the types of inputs that
    the file declares as integers or booleans, ``output_dtypes`` those of outputs. ``scalars`` are
    inputs and outputs without dimensions in the file; here they have shape [1].
    """

    inputs: list[str]
    outputs: list[str]
    nodes: list[AnyNode]
    shapes: dict[str, Shape]
    dynamic: bool  # may the number of examples vary?
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    output_dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    scalars: frozenset[str] = frozenset()
    metadata: dict[str, str] = field(default_factory=dict)  # what the file says of itself
    files: Sequence[File] = ()  # in which constants lie

    @property
    def input_items(self) -> list[int]:
        """Return the items of each input: its rows that belong to one example."""
        return [self.shapes[name][0] for name in self.inputs]

    def check_batch(self, rows: int) -> None:
        """Check a number of rows of the first input.

        Raises:
            UserError: the network's batch is fixed at another size.
        """
        items = self.input_items[0]
        if rows % items or (not self.dynamic and rows != items):
            raise UserError(
                f"batch {rows}: the network's batch is fixed at {items}; "
                "export it with a dynamic batch"
            )

    def item(self, value: str) -> int:
        """Return the number of floats of one item (one entry of the first dimension)."""
        return math.prod(self.shapes[value][1:])

    def rows(self, value: str) -> int | None:
        """Return the rows of the smallest table that an input indexes, None if it indexes none."""
        same, lengths = {value}, []
        for node in self.nodes:
            if node.op == "embed" and node.inputs[0] in same:
                lengths.append(len(node.constants["table"]))
            elif node.op in ("reshape", "transpose", "strided") and node.inputs[0] in same:
                same.add(node.output)
        return min(lengths, default=None)

    def consumers(self, value: str) -> list[AnyNode]:
        return [node for node in self.nodes if value in node.inputs]

    def check(self) -> None:
        """Check that mapped files are unchanged; call this before constants are read again later.

        Raises:
            UserError: a file that contains constants was written to.
        """
        for file in self.files:
            file.check()

    def release(self) -> None:
        """Drop mapped pages from memory; call this after the constants were read."""
        for file in self.files:
            file.release()

    def rounding(self, value: str) -> Any:
        """Return the ``Round`` whose result a value is, also after moves; None if there is none."""
        made = {node.output: node for node in self.nodes}
        node = made.get(value)
        while node is not None and node.op in ("reshape", "transpose", "strided"):
            node = made.get(node.inputs[0])
        return node.operation if node is not None and node.op == "round" else None

    def fingerprint(self) -> str:
        """Return a text that changes with everything that a plan depends on."""
        digest, digests = hashlib.sha256(), dict[int, bytes]()
        for node in self.nodes:
            digest.update(repr((node.operation, node.inputs, node.output)).encode())
            digest.update(repr(self.shapes[node.output]).encode())
            for key in sorted(node.constants):
                for array in node.store.stored(key):
                    if id(array) not in digests:  # steps of a recurrent layer share weights
                        whole = np.ascontiguousarray(array).data
                        digests[id(array)] = hashlib.sha256(whole).digest()
                    digest.update(digests[id(array)])
        return digest.hexdigest()[:16]
