"""Steps (kernel calls on named buffers) and their assembly into a compiled program."""

from __future__ import annotations

import weakref
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from gossamer.errors import UserError
from gossamer.kernels._kernels import ALIGNMENT, SLACK, Program
from gossamer.kernels.registry import Kernel
from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.packing import up_to

# What ``shared`` made that is in use, by id and by bytes, shape and type; and what was packed of
# read-only constants.
_VIEWS: WeakValueDictionary[int, Array] = WeakValueDictionary()
_EQUAL: WeakValueDictionary[tuple[Hashable, ...], Array] = WeakValueDictionary()
_ONCE: dict[tuple[Hashable, ...], tuple[weakref.ref[Array], list[weakref.ref[Array]]]] = {}


def once(constant: Array, make: Callable[[], Sequence[Array]], of: Hashable) -> list[Array]:
    """Return the arrays that ``make`` packs from a constant, computed once while both are in use.

    The steps of an unrolled recurrent layer share a weight. ``of`` identifies the packing.
    """
    key = id(constant), of
    source, made = _ONCE.get(key, (None, []))
    if source is not None and source() is constant:
        packed = [array for array in (each() for each in made) if array is not None]
        if len(packed) == len(made):
            return packed
    packed = [shared(array) for array in make()]
    if not constant.flags.writeable:
        for old in [k for k, (each, _) in _ONCE.items() if each() is None]:
            del _ONCE[old]
        _ONCE[key] = weakref.ref(constant), [*map(weakref.ref, packed)]
    return packed


def shared(array: Array) -> Array:
    """Return the array in memory that kernels read: one copy for all steps and programs."""
    if _VIEWS.get(id(array)) is array:
        return array
    array = np.ascontiguousarray(array)
    raw = array.reshape(-1).view(np.uint8)
    key = blake2b(raw.data, digest_size=16).digest(), array.shape, array.dtype
    equal = _EQUAL.get(key)
    if equal is not None:
        return equal
    memory = np.zeros(raw.size + SLACK + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    memory[start : start + raw.size] = raw
    view: Array = np.ndarray(array.shape, array.dtype, memory, start)
    view.flags.writeable = False
    _VIEWS[id(view)] = _EQUAL[key] = view
    return view


class Buffer(NamedTuple):
    """Memory for one value in one form. ``floats`` are per example.

    A part of a larger buffer, ``whole``, lies ``at`` floats from its start: only where a program
    runs one example at a time.
    """

    name: str
    floats: int
    whole: Buffer | None = None
    at: int = 0


@dataclass(frozen=True)
class Link:
    """One operation of an epilogue, see ``Link`` in ``kernels/kernel.h``.

    ``other`` is the second operand of a binary operation if that is a value; ``data`` is its
    constant operand, or the limits of a unary operation, in memory of ``shared``.
    """

    binary: bool
    kind: int
    data: Array
    other: Buffer | None = None
    reversed: bool = False
    size: int = 1
    repeat: int = 1
    count: int = 1

    def numbers(self, inputs: Sequence[Buffer | None]) -> list[int]:
        """Return the integers of the kernel's shape struct, for a call with these inputs."""
        position = -1 if self.other is None else inputs.index(self.other)
        plain = (self.binary, self.kind, self.reversed, position, self.size, self.repeat)
        return [*map(int, plain), self.count]


@dataclass(slots=True)
class Step:
    """One kernel call, and the elementwise operations on its output (``epilogue``).

    ``macs`` are multiply-adds per example, ``dense_macs`` those of the dense layer; for kernels
    that read a list, ``macs`` counts every input as active. Equal arrays in ``data`` of different
    steps share memory.
    """

    kernel: Kernel
    inputs: tuple[Buffer | None, ...]
    outputs: tuple[Buffer, ...]
    shape: Mapping[str, int | Sequence[int]]  # the fields of the kernel's struct
    data: Sequence[Array] = ()
    scratch: int = 0
    items: int = 1
    node: str = ""
    value: str = ""  # that the node computes: names of nodes are not unique
    macs: float = 0.0
    dense_macs: float = 0.0
    epilogue: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        self.data = [shared(array) for array in self.data]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.data)


def arrange(
    steps: Sequence[Step], inputs: Sequence[Buffer], outputs: Sequence[Buffer]
) -> dict[Buffer, int]:
    """Return the buffers' positions in the arena, where none in use at a time overlap (first fit).

    They are of one example.
    """
    first: dict[Buffer, int] = dict.fromkeys(inputs, -1)
    last: dict[Buffer, int] = dict.fromkeys(inputs, -1)
    parts: list[Buffer] = []
    for time, step in enumerate(steps):
        for buffer in (*step.inputs, *step.outputs):
            if buffer is not None:
                if buffer.whole is not None:
                    parts.append(buffer)
                    buffer = buffer.whole
                first.setdefault(buffer, time)
                last[buffer] = time
    for buffer in outputs:
        first.setdefault(buffer, -1)
        last[buffer] = len(steps)
    positions: dict[Buffer, int] = {}
    alive: list[tuple[int, int]] = []  # from and to, in this order
    ending: list[tuple[int, int, int]] = []  # a heap: until when, from and to
    for buffer in sorted(first, key=lambda b: (first[b], -b.floats)):
        size, position = up_to(buffer.floats, 16), 0
        while ending and ending[0][0] < first[buffer]:
            _, *extent = heappop(ending)
            del alive[bisect_left(alive, tuple(extent))]
        for start, end in alive:
            if position + size <= start:
                break
            position = max(position, end)
        positions[buffer] = position
        insort(alive, (position, position + size))
        heappush(ending, (last[buffer], position, position + size))
    for buffer in parts:
        if buffer.whole is not None:
            positions[buffer] = positions[buffer.whole] + buffer.at
    return positions


def assemble(
    steps: Sequence[Step],
    inputs: Sequence[Buffer],
    outputs: Sequence[Buffer],
    input_shapes: Sequence[Shape],
    output_shapes: Sequence[Shape],
    *,
    threads: int = 1,
    chunk: int = 1,
) -> Program:
    """Return the compiled program of steps."""
    try:
        program = Program(threads, chunk)
    except RuntimeError as error:
        raise UserError(f"{error}; use fewer threads or raise the limit of processes") from None
    slots = {
        buffer: program.slot(buffer.floats, position)
        for buffer, position in arrange(steps, inputs, outputs).items()
    }
    for step in steps:
        program.add(
            step.kernel.number,
            [-1 if buffer is None else slots[buffer] for buffer in step.inputs],
            [slots[buffer] for buffer in step.outputs],
            step.kernel.shape(step.shape)
            + [number for link in step.epilogue for number in link.numbers(step.inputs)],
            [*step.data, *(link.data for link in step.epilogue)],
            int(step.scratch),
            step.items,
        )
    program.finish(
        [slots[b] for b in inputs], [slots[b] for b in outputs], input_shapes, output_shapes
    )
    return program
