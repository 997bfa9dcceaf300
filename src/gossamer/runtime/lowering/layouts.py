"""The forms of values in memory, and the steps that convert between them.

A value may be in memory in several forms; a form is computed when a kernel first needs it:

- ``dense``: as ONNX has it, channels first;
- ``last``: dense, channels last;
- ``list`` and ``list last``: its non-zeros as (index, value), indices into that form;
- padded copies, for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from gossamer.kernels._kernels import LIST_HEADER
from gossamer.kernels.registry import Kernel, find, loops
from gossamer.runtime.constants import fact
from gossamer.runtime.graph import AnyNode, Array, Candidate, Graph, Shape, merged
from gossamer.runtime.program import Buffer, Step

L1 = 28 << 10  # bytes of the first cache that a tile may fill
L2 = 512 << 10  # of the second cache
COPY_LOOPS = loops("copy")
SUMS = 48 << 10  # of sums of a tile: a little more than L1, since every pass has its price


def copy_shape(
    sizes: Sequence[int],
    from_: Sequence[int],
    to: Sequence[int],
    *,
    start: int = 0,
    at: int = 0,
    clear: int = 0,
    clear_at: int = 0,
    pixels: int = 0,
) -> dict[str, Any]:
    """Return the fields of the shape of a copy by strides.

    Args:
        sizes, from_, to: of each loop: its size, and its strides in source and target.
        start, at: where the first number is in the source, and in the target.
        clear, clear_at: floats of the target that are zero elsewhere, and where those begin.
        pixels: of a channel of an image, where the source has one channel behind the other:
            threads share those.
    """
    sizes, (from_, to) = merged(sizes, from_, to)
    missing = COPY_LOOPS - len(sizes)
    return {
        "sizes": [*[1] * missing, *sizes],
        "in_strides": [*[0] * missing, *from_],
        "out_strides": [*[0] * missing, *to],
        "in_offset": start,
        "out_offset": at,
        "clear_offset": clear_at,
        "clear": clear,
        "pixels": pixels,
    }


def copy_loops(step: Step) -> list[tuple[int, int, int]]:
    """Return the size of each loop of a copy, and its strides in the input and the output."""
    fields = (cast(Sequence[int], step.shape[k]) for k in ("sizes", "in_strides", "out_strides"))
    return [loop for loop in zip(*fields, strict=True) if loop[0] > 1]


@dataclass
class Value:
    """Record of a value while the network is lowered."""

    name: str
    shape: Shape
    channels: int  # of the channels-last form, if the value has one
    pixels: int
    forms: dict[str, Buffer] = field(default_factory=dict)
    density: float = 1.0
    joined: tuple[int, tuple[str, ...]] = (0, ())  # axis and inputs, of a concatenation

    @property
    def items(self) -> int:
        """Items (rows of the first dimension) of one example."""
        return self.shape[0]

    @property
    def item(self) -> int:
        """Numbers of one item."""
        return math.prod(self.shape[1:])


class Lowering:
    """The steps of a program in the making, and the forms of every value so far.

    Args:
        graph: the network.
        isa: instruction set of the kernels.
        threads: threads that share a layer when there are fewer examples than threads.
        sparse: offer kernels that skip zeros; off where inputs may be infinite or NaN.
        batched: whether it is for batches (else for single examples).
        every: offer every kernel that can compute a node, not only those that could win.
        densities: measured share of non-zeros of values, where known.
    """

    def __init__(
        self,
        graph: Graph,
        isa: str,
        *,
        threads: int = 1,
        sparse: bool = True,
        batched: bool = False,
        every: bool = False,
        densities: dict[str, float] | None = None,
    ) -> None:
        self.densities = {} if densities is None else densities
        self.graph, self.isa, self.threads = graph, isa, threads
        self.sparse, self.batched, self.every = sparse, batched, every
        self.width = find(isa, "gemm")[0].width
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        for name in graph.inputs:
            value = self.value(name)
            value.forms["dense"] = Buffer(name, value.items * value.item)

    def candidates(self, node: AnyNode) -> list[Candidate]:
        """Return the ways to compute a node, at least one."""
        return list(node.operation.candidates(self, node))

    # values and forms

    def value(self, name: str) -> Value:
        shape = self.graph.shapes[name]
        channels = shape[1] if len(shape) > 1 else 1
        value = Value(name, shape, channels, math.prod(shape[2:]))
        value.density = self.densities.get(name, 1.0)
        self.values[name] = value
        return value

    def new(self, value: Value, form: str, floats: int) -> Buffer:
        """Add a form to a value and return its buffer; ``floats`` are per item."""
        buffer = Buffer(f"{value.name}|{form}", value.items * floats)
        value.forms[form] = buffer
        return buffer

    def kernel(self, operation: str, layout: str | None = None) -> Kernel:
        return find(self.isa, operation, layout)[0]

    def add(
        self, node: str, kernel: Kernel, inputs: Any, output: Buffer, shape: Any, **more: Any
    ) -> None:
        value = output.name.partition("|")[0] if node else ""
        self.steps.append(
            Step(kernel, tuple(inputs), (output,), shape, node=node, value=value, **more)
        )

    def one(
        self, node: AnyNode, shape: dict[str, Any], data: Sequence[Array] = (), **more: Any
    ) -> None:
        """Lower a node to the one kernel of its name, with dense inputs and output."""
        sources = [self.values[name] for name in node.inputs]
        result = self.value(node.output)
        inputs = [self.form(value, "dense") for value in sources]
        target = self.new(result, "dense", result.item)
        items = sources[0].items
        self.add(
            node.name, self.kernel(node.op), inputs, target, shape, data=data, items=items, **more
        )

    def each(
        self, node: AnyNode, shape: dict[str, Any], data: Sequence[Array], *, keeps_zero: bool
    ) -> None:
        """Lower an elementwise function; on a list's values only if ``keeps_zero``."""
        value = self.values[node.inputs[0]]
        result = self.value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        form = self.layout(value)
        listed = keeps_zero and any(name in value.forms for name in ("list", "list last"))
        if listed:
            form, result.density = self.list_form(value), min(result.density, value.density)
        source = self.form(value, form)
        floats = source.floats // value.items
        capacity = (floats - LIST_HEADER) // 2 if listed else 0
        shape = {"size": value.item, "capacity": capacity, **shape}
        target, items = self.new(result, form, floats), value.items
        self.add(node.name, self.kernel(node.op), (source,), target, shape, data=data, items=items)

    def copy(
        self,
        source: Buffer,
        target: Buffer,
        items: int,
        sizes: Sequence[int],
        from_: Sequence[int],
        to: Sequence[int],
        **places: int,
    ) -> None:
        """Add a copy by strides; see ``copy_shape``."""
        shape = copy_shape(sizes, from_, to, **places)
        self.add("", self.kernel("copy"), (source,), target, shape, items=items)

    def form(self, value: Value, form: str) -> Buffer:
        """Return the buffer of a value in a form; add the conversion if it is missing."""
        if form in value.forms:
            return value.forms[form]
        c, p = value.channels, value.pixels
        if form in ("list", "list last"):
            source = self.form(value, "last" if form == "list last" else "dense")
            floats = LIST_HEADER + 2 * value.item
            return self._listed(value, form, "nonzeros", source, floats, value.item)
        listed = "list" if form == "dense" else "list last"
        if listed in value.forms:
            source = value.forms[listed]
            capacity = (source.floats // value.items - LIST_HEADER) // 2
            return self._listed(value, form, "scatter", source, value.item, capacity)
        source = self.form(value, "last" if form == "dense" else "dense")
        if 1 in (c, p):  # the same order
            value.forms[form] = source
            return source
        buffer = self.new(value, form, value.item)
        rows, columns = (p, c) if form == "dense" else (c, p)
        pixels = 0 if form == "dense" else p
        self.copy(
            source, buffer, value.items, [rows, columns], [columns, 1], [1, rows], pixels=pixels
        )
        return buffer

    def _listed(
        self, value: Value, form: str, kernel: str, source: Buffer, floats: int, capacity: int
    ) -> Buffer:
        """Add a form that is made by a kernel from or to a list of so many non-zeros."""
        target, shape = self.new(value, form, floats), {"size": value.item, "capacity": capacity}
        self.add("", self.kernel(kernel), (source,), target, shape, items=value.items)
        return target

    def layout(self, value: Value) -> str:
        """Return the layout ("dense" or "last") from which other forms are made."""
        for form, plain in (("dense", "dense"), ("last", "last"), ("list", "dense")):
            if form in value.forms:
                return plain
        return "last"

    def list_form(self, value: Value) -> str:
        for form in ("list", "list last"):
            if form in value.forms:
                return form
        return "list last" if self.layout(value) == "last" else "list"

    def image(self, node: AnyNode) -> tuple[Value, tuple[int, int, int]]:
        value = self.values[node.inputs[0]]
        _, channels, *size = value.shape
        return value, (channels, size[0] if len(size) == 2 else 1, size[-1])

    def padded_image(
        self, value: Value, size: tuple[int, int, int], pads: tuple[int, ...], plain: str
    ) -> Buffer:
        """Return the buffer of an image padded with zeros, in form "dense" or "last"."""
        if not any(pads):
            return self.form(value, plain)
        form = f"{plain} padded {pads}"
        if form in value.forms:
            return value.forms[form]
        c, h, w = size
        source = self.form(value, self.layout(value))
        high, wide = h + pads[0] + pads[2], w + pads[1] + pads[3]
        buffer = self.new(value, form, c * high * wide)
        from_ = [w, h * w, 1] if self.layout(value) == "dense" else [w * c, 1, c]
        if plain == "dense":
            to, at = [wide, high * wide, 1], pads[0] * wide + pads[1]
        else:
            to, at = [wide * c, 1, c], (pads[0] * wide + pads[1]) * c
        sizes = [h, c, w]
        if from_[1] == 1 and to[1] == 1:  # channels last on both sides: whole rows
            sizes, from_, to = [h, c * w], [from_[0], 1], [to[0], 1]
        elif from_[1] == 1:
            sizes, from_, to = [h, w, c], [from_[0], from_[2], 1], [to[0], 1, to[1]]
        elif plain == "dense":  # in the order of the output, so that only the border is cleared
            sizes, from_, to = [c, h, w], [from_[1], from_[0], 1], [to[1], to[0], 1]
        self.copy(
            source,
            buffer,
            value.items,
            sizes,
            from_,
            to,
            at=at,
            clear=c * high * wide,
            pixels=h * w if self.layout(value) == "dense" else 0,
        )
        return buffer

    def usable(self, weight: Array) -> bool:
        return self.sparse and fact(weight, "finite", lambda: bool(np.isfinite(weight).all()))
