"""From a node to the kernels that could compute it.

A value may lie in memory in several forms; a form is made when a kernel first wants it:

- ``dense``: as ONNX has it, channels first;
- ``last``: dense, channels last;
- ``list`` and ``list last``: its non-zeros as (index, value), indices into that form;
- padded copies, for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array, Graph, Node, Shape
from gossamer.runtime.packing import (
    BLOCK,
    InputMajor,
    by_chunk,
    by_count,
    by_output,
    limits,
    padded,
    panels,
    up_to,
)
from gossamer.runtime.steps import LIST_HEADER, Buffer, Step
from gossamer.runtime.table import Kernel, find

L1 = 28 << 10  # bytes of the first cache that a tile may fill
UNARY = (
    "clip",
    "gelu",
    "gelu_tanh",
    "sigmoid",
    "tanh",
    "erf",
    "leaky_relu",
    "silu",
    "hard_sigmoid",
    "sqrt",
    "exp",
    "neg",
)
BINARY = ("add", "sub", "mul", "div")


@dataclass
class Value:
    """What is known about a value while the network is lowered."""

    name: str
    shape: Shape
    channels: int  # of the channels-last form, if the value has one
    pixels: int
    forms: dict[str, Buffer] = field(default_factory=dict)
    density: float = 1.0

    @property
    def lead(self) -> int:
        return self.shape[0]

    @property
    def item(self) -> int:
        return math.prod(self.shape[1:])


@dataclass
class Candidate:
    """One way to compute a node: its name in a plan, and how to emit its steps."""

    name: str
    emit: Callable[[], None]


class Lowering:
    """Collects steps; knows every value's forms.

    Args:
        graph: the network.
        isa: instruction set of the kernels.
        threads: threads that share a layer when there are fewer examples than threads.
        sparse: offer kernels that skip zeros; off where inputs may be infinite or NaN.
        many: whether it is for batches (else for single examples).
        densities: measured share of non-zeros of values, where known.
    """

    def __init__(
        self,
        graph: Graph,
        isa: str,
        *,
        threads: int = 1,
        sparse: bool = True,
        many: bool = False,
        densities: dict[str, float] | None = None,
    ) -> None:
        self.densities = densities or {}
        self.graph, self.isa, self.threads = graph, isa, threads
        self.sparse, self.many = sparse, many
        self.width = find(isa, "gemm")[0].width
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        for name in graph.inputs:
            value = self._value(name)
            value.forms["dense"] = Buffer(name, value.lead * value.item)

    # values and forms

    def _value(self, name: str) -> Value:
        shape = self.graph.shapes[name]
        channels = shape[1] if len(shape) > 1 else 1
        value = Value(name, shape, channels, math.prod(shape[2:]))
        value.density = self.densities.get(name, 1.0)
        self.values[name] = value
        return value

    def new(self, value: Value, form: str, floats: int) -> Buffer:
        """A buffer for a form of a value; ``floats`` are per item."""
        buffer = Buffer(f"{value.name}|{form}", value.lead * floats)
        value.forms[form] = buffer
        return buffer

    def kernel(self, operation: str, layout: str | None = None) -> Kernel:
        return find(self.isa, operation, layout)[0]

    def add(
        self, node: str, kernel: Kernel, inputs: Any, output: Buffer, shape: Any, **more: Any
    ) -> None:
        self.steps.append(Step(kernel, tuple(inputs), (output,), shape, node=node, **more))

    def copy(
        self,
        source: Buffer,
        target: Buffer,
        lead: int,
        sizes: list[int],
        from_: list[int],
        to: list[int],
        *,
        start: int = 0,
        at: int = 0,
        clear: int = 0,
    ) -> None:
        missing = 5 - len(sizes)
        shape = [
            *[1] * missing,
            *sizes,
            *[0] * missing,
            *from_,
            *[0] * missing,
            *to,
            start,
            at,
            clear,
        ]
        self.add("", self.kernel("copy"), (source,), target, shape, lead=lead)

    def form(self, value: Value, form: str) -> Buffer:
        """The value in a form, made now if it is not there yet."""
        if form in value.forms:
            return value.forms[form]
        c, p = value.channels, value.pixels
        if form in ("list", "list last"):
            dense = self.form(value, "last" if form == "list last" else "dense")
            buffer = self.new(value, form, LIST_HEADER + 2 * value.item)
            self.add(
                "",
                self.kernel("nonzeros"),
                (dense,),
                buffer,
                (value.item, value.item),
                lead=value.lead,
            )
            return buffer
        for listed, plain in (("list", "dense"), ("list last", "last")):
            if listed in value.forms and plain not in value.forms and form == plain:
                source = value.forms[listed]
                buffer = self.new(value, plain, value.item)
                capacity = (source.floats // value.lead - LIST_HEADER) // 2
                self.add(
                    "",
                    self.kernel("scatter"),
                    (source,),
                    buffer,
                    (value.item, capacity),
                    lead=value.lead,
                )
                return buffer
        if form == "dense":
            source = self.form(value, "last")
            buffer = self.new(value, form, value.item)
            self.copy(source, buffer, value.lead, [p, c], [c, 1], [1, p])
            return buffer
        source = self.form(value, "dense")
        buffer = self.new(value, form, value.item)
        self.copy(source, buffer, value.lead, [c, p], [p, 1], [1, c])
        return buffer

    def layout(self, value: Value) -> str:
        """ "dense" or "last", whichever is nearer at hand."""
        for form, plain in (("dense", "dense"), ("last", "last"), ("list", "dense")):
            if form in value.forms:
                return plain
        return "last"

    def image(self, node: Node) -> tuple[Value, tuple[int, int, int]]:
        value = self.values[node.inputs[0]]
        _, channels, *size = value.shape
        return value, (channels, size[0] if len(size) == 2 else 1, size[-1])

    def padded_image(
        self, value: Value, size: tuple[int, int, int], pads: list[int], plain: str
    ) -> Buffer:
        """The image with zeros around it, in form "dense" or "last"."""
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
        if from_[1] == 1 and to[1] == 1:  # channels last on both sides: channels innermost
            sizes, from_, to = [h, w, c], [from_[0], from_[2], 1], [to[0], to[2], 1]
        elif from_[1] == 1:
            sizes, from_, to = [h, w, c], [from_[0], from_[2], 1], [to[0], 1, to[1]]
        self.copy(source, buffer, value.lead, sizes, from_, to, at=at, clear=c * high * wide)
        return buffer

    # nodes

    def candidates(self, node: Node) -> list[Candidate]:
        """The ways to compute a node, at least one."""
        if node.op == "conv":
            return list(self._conv(node))
        if node.op == "linear":
            return list(self._linear(node))
        return [Candidate(node.op, lambda: getattr(self, f"_{node.op}")(node))]

    def _usable(self, weight: Array) -> bool:
        return self.sparse and bool(np.isfinite(weight).all())

    def _gemm_kernels(self, outputs: int) -> list[Kernel]:
        """Tiles worth trying: none wider than the outputs ask for."""
        kernels = find(self.isa, "gemm")
        fit = [k for k in kernels if (int(k.tile) - 1) * self.width < outputs]
        waste = {k: up_to(outputs, int(k.tile) * self.width) for k in fit}
        return [k for k in fit if waste[k] <= 1.3 * min(waste.values())][:2]

    def _linear(self, node: Node) -> Iterator[Candidate]:
        value = self.values[node.inputs[0]]
        weight, bias = node.constants["weight"], node.constants["bias"]
        outputs, depth = weight.shape
        lead = value.lead * value.item // depth
        clip = limits(node.settings["low"], node.settings["high"])
        nonzero = int(np.count_nonzero(weight))
        facts = {"node": node.name, "lead": lead, "dense_macs": float(lead * weight.size)}
        flat = lead == value.lead

        def order(plain: str) -> Array:
            """Columns of the weight in the order of a form."""
            if plain == "last" and flat and value.pixels > 1:
                inner = weight.reshape(outputs, value.channels, value.pixels)
                return np.ascontiguousarray(inner.transpose(0, 2, 1)).reshape(outputs, depth)
            return weight

        def source() -> str:
            return self.layout(value) if flat else "dense"

        def out() -> Buffer:
            result = self._value(node.output)
            return self.new(result, "dense", result.item)

        def gemm(kernel: Kernel) -> None:
            plain = source()
            columns = int(kernel.tile) * self.width
            data = [
                panels(order(plain), columns),
                padded(bias, up_to(outputs, columns)),
                np.arange(depth, dtype=np.int32),
                np.zeros(1, np.int32),
                clip,
            ]
            self.add(
                node.name,
                kernel,
                (self.form(value, plain),),
                out(),
                (1, depth, outputs, 1, outputs, 0),
                data=data,
                macs=float(lead * weight.size),
                **{k: v for k, v in facts.items() if k != "node"},
            )

        def columns(kernel: Kernel) -> None:
            plain = source()
            bounds, index, values = by_output(order(plain), np.arange(depth))
            lanes = int(kernel.tile) * self.width
            self.add(
                node.name,
                kernel,
                (self.form(value, plain),),
                out(),
                (1, depth, outputs),
                data=[bounds, index, values, bias, clip],
                lead=lead,
                scratch=(depth + self.width) * lanes,
                macs=float(lead * nonzero),
                dense_macs=facts["dense_macs"],
            )

        def active(kernel: Kernel) -> None:
            listed = self._list_form(value)
            source = self.form(value, listed)
            inputs = np.ascontiguousarray(order("last" if listed == "list last" else "dense").T)
            major = InputMajor(inputs[:, None, :], np.zeros(1, np.int64), self._tiles(1, outputs))
            self._active(
                node,
                kernel,
                value,
                source,
                major,
                bias,
                clip,
                out(),
                inner=1,
                channel_first=True,
                taps=1,
                kernel_width=1,
                size=(1, 1),
                pool=1,
                place=np.zeros(2, np.int32),
                lead=lead,
                macs=float(nonzero * lead),
            )

        for kernel in self._gemm_kernels(outputs):
            yield Candidate(str(kernel), partial(gemm, kernel))
        if not self._usable(weight):
            return
        density = nonzero / weight.size
        if density < 0.6 and self.many:
            for kernel in find(self.isa, "columns"):
                yield Candidate(str(kernel), partial(columns, kernel))
        if flat and depth < 1 << 20:
            for kernel in self._active_kernels(
                weight.T[:, None, :], value, up_to(outputs, 8 * BLOCK)
            ):
                yield Candidate(str(kernel), partial(active, kernel))

    def _list_form(self, value: Value) -> str:
        for form in ("list", "list last"):
            if form in value.forms:
                return form
        return "list last" if self.layout(value) == "last" else "list"

    def _tiles(self, positions: int, outputs: int) -> int:
        """Slices of the outputs: their sums fit L1, and every thread has one."""
        blocks = up_to(outputs, BLOCK) // BLOCK
        fit = max(1, L1 // (positions * BLOCK * 4))
        tiles = -(-blocks // fit) if positions > 1 else 1
        if not self.many:
            tiles = max(tiles, self.threads)
        return min(tiles, blocks, 8)

    def _active_kernels(self, weight: Array, value: Value, span: int) -> Iterator[Kernel]:
        """Input-major kernels that could win, by how much each would multiply.

        ``span`` bounds how far an output may lie from where its window starts.
        """
        listed = any(form.startswith("list") for form in value.forms)
        if weight.shape[1] > 1 and value.density > 0.7 and not listed:
            return
        outputs = weight.shape[2]
        nonzero = max(1, int(np.count_nonzero(weight)))
        whole = padded(weight, up_to(outputs, BLOCK), axis=2)
        # Rough cost of a row in vector operations; the planner measures what is left.
        cost = {"scatter 2 bytes" if span < 1 << 15 else "scatter 4 bytes": nonzero * 1.0}
        for size in (8, 16):
            blocks = whole.reshape(*whole.shape[:2], -1, size).any(axis=3).sum()
            cost[f"block {size}"] = float(blocks) * max(1.0, size / self.width)
            if weight.shape[1] > 1:
                cost[f"channels {size}"] = cost[f"block {size}"]
        cost["expand 16"] = cost["block 16"] * 1.2
        cost["dense 1"] = weight[:, :, :1].size * up_to(outputs, BLOCK) / self.width * 0.7
        best = min(cost.values())
        for kernel in find(self.isa, "active"):
            if cost.get(f"{kernel.layout} {kernel.tile}", math.inf) <= 2.5 * best:
                yield kernel

    def _active(
        self,
        node: Node,
        kernel: Kernel,
        value: Value,
        source: Buffer,
        major: InputMajor,
        bias: Array,
        clip: Array,
        output: Buffer,
        *,
        inner: int,
        channel_first: bool,
        taps: int,
        kernel_width: int,
        size: tuple[int, int],
        pool: int,
        place: Array,
        lead: int,
        macs: float,
    ) -> None:
        match kernel.layout:
            case "scatter":
                packed = major.scatter(np.int16 if kernel.tile == "2 bytes" else np.int32)
            case "block":
                packed = major.block(int(kernel.tile))
            case "channels":
                packed = major.by_channel(int(kernel.tile), kernel_width)
            case "dense":
                packed = major.dense(self.width)
            case _:
                packed = major.expand()
        positions = size[0] * size[1]
        # index / inner by multiplication, exact for all indices below 2^20
        shift = 20 + max(1, math.ceil(math.log2(inner + 1)))
        multiplier = -(-(1 << shift) // inner)
        capacity = (source.floats // value.lead - LIST_HEADER) // 2
        outputs = len(bias)
        shape = (
            capacity,
            inner,
            multiplier,
            shift,
            int(channel_first),
            taps,
            kernel_width,
            outputs,
            major.outputs,
            positions,
            size[1],
            size[0],
            major.tiles,
            pool,
            major.channels,
        )
        bounds, offset, weights, more = packed
        self.add(
            node.name,
            kernel,
            (source,),
            output,
            shape,
            data=[bounds, offset, weights, more, padded(bias, major.outputs), clip, place],
            scratch=positions * major.slice + 8 + 6 * (capacity + BLOCK) + major.channels + BLOCK,
            lead=lead,
            macs=macs * value.density,
            dense_macs=self._dense_macs(node) * lead,
        )

    def _dense_macs(self, node: Node) -> float:
        weight = node.constants["weight"]
        if node.op == "linear":
            return float(weight.size)
        high, wide = self._conv_size(node)
        return float(weight.size * high * wide)

    def _conv_size(self, node: Node) -> tuple[int, int]:
        """Height and width of the convolution's own output, before a pool."""
        _, (_, h, w) = self.image(node)
        s, kernel = node.settings, node.constants["weight"].shape[2:]
        high, wide = (
            (n + s["pads"][i] + s["pads"][i + 2] - s["dilations"][i] * (kernel[i] - 1) - 1)
            // s["strides"][i]
            + 1
            for i, n in enumerate((h, w))
        )
        return high, wide

    def _conv(self, node: Node) -> Iterator[Candidate]:
        value, size = self.image(node)
        weight = node.constants["weight"]
        outputs, _, kernel_height, kernel_width = weight.shape
        s = node.settings
        groups, strides, pool = s["groups"], s["strides"], s["pool"]
        if groups == size[0] == outputs:
            yield Candidate("depthwise", lambda: self._depthwise(node, value, size))
            return
        plains = ["last", "dense"] if size[0] > 1 and groups == 1 else [self.layout(value)]
        for plain in plains:
            for kernel in self._gemm_kernels(outputs // groups):
                yield Candidate(
                    f"{kernel} {plain}",
                    partial(self._conv_gemm, node, kernel, value, size, plain),
                )
        if not self._usable(weight) or groups > 1:
            return
        density = np.count_nonzero(weight) / weight.size
        high, wide = self._conv_size(node)
        if density < 0.75:
            # The pooled kernel steps alike along rows and columns.
            steps_alike = pool != 2 or strides[0] == strides[1]
            if size[0] * kernel_height * kernel_width < 512 and steps_alike:
                for kernel in find(self.isa, "lanes"):
                    if (
                        kernel.tile == ("pool" if pool == 2 else "rows")
                        and self._lanes_scratch(node, size) * 4 <= 256 << 10
                    ):
                        yield Candidate(
                            str(kernel), partial(self._lanes, node, kernel, value, size)
                        )
            for kernel in find(self.isa, "planes"):
                yield Candidate(str(kernel), partial(self._planes, node, kernel, value, size))
        reach = max(kernel_height, kernel_width, strides[0], strides[1]) < 256
        if reach and s["dilations"] == [1, 1] and size[0] * size[1] * size[2] < 1 << 20:
            if high * wide * BLOCK * 4 > 1 << 20:
                return
            rows = weight.reshape(outputs, size[0], -1).transpose(1, 2, 0)
            span = (kernel_height * wide + kernel_width) * up_to(outputs, 8 * BLOCK)
            for kernel in self._active_kernels(rows, value, span):
                yield Candidate(str(kernel), partial(self._conv_active, node, kernel, value, size))

    def _after_conv(self, node: Node, form: str, pool: bool) -> tuple[Buffer, Callable[[], None]]:
        """Where a convolution writes, and the max-pool that follows if it has none itself."""
        result = self._value(node.output)
        side = node.settings["pool"]
        if side == 1 or pool:
            return self.new(result, form, result.item), lambda: None
        high, wide = self._conv_size(node)
        channels = result.channels
        before = Buffer(f"{node.output}|before pool", result.lead * channels * high * wide)

        def after() -> None:
            shape = (
                channels,
                high,
                wide,
                high // side,
                wide // side,
                side,
                side,
                side,
                side,
                0,
                0,
                0,
                int(form == "last"),
                0,
                0,
            )
            self.add(
                node.name,
                self.kernel("pool"),
                (before,),
                self.new(result, form, result.item),
                shape,
                lead=result.lead,
            )

        return before, after

    def _conv_gemm(
        self, node: Node, kernel: Kernel, value: Value, size: tuple[int, int, int], plain: str
    ) -> None:
        weight, bias, s = node.constants["weight"], node.constants["bias"], node.settings
        groups, pads = s["groups"], s["pads"]
        c, h, w = size
        high, wide = self._conv_size(node)
        source = self.padded_image(value, size, pads, plain)
        rows, pitch = h + pads[0] + pads[2], w + pads[1] + pads[3]
        across, down, deep = (c, pitch * c, 1) if plain == "last" else (1, pitch, rows * pitch)
        ky, kx, ic = np.meshgrid(
            np.arange(weight.shape[2]) * s["dilations"][0] * down,
            np.arange(weight.shape[3]) * s["dilations"][1] * across,
            np.arange(weight.shape[1]) * deep,
            indexing="ij",
        )
        offset = (ky + kx + ic).astype(np.int32).ravel()
        y, x = np.meshgrid(
            np.arange(high) * s["strides"][0], np.arange(wide) * s["strides"][1], indexing="ij"
        )
        base = (y * down + x * across).astype(np.int32).ravel()
        target, after = self._after_conv(node, "last", False)
        outputs = len(weight) // groups
        columns = int(kernel.tile) * self.width
        matrix = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        clip = limits(s["low"], s["high"])
        # The offsets are 0, 1, 2, ... for a 1x1 convolution, and along a padded row.
        contiguous = int(bool(np.array_equal(offset, np.arange(len(offset)))))
        for group in range(groups):
            part = slice(group * outputs, (group + 1) * outputs)
            data = [
                panels(matrix[part], columns),
                padded(bias[part], up_to(outputs, columns)),
                offset,
                base + np.int32(group * weight.shape[1] * deep),
                clip,
            ]
            macs = float(value.lead * matrix[part].size * high * wide)
            self.add(
                node.name,
                kernel,
                (source,),
                target,
                (high * wide, len(offset), outputs, contiguous, len(weight), group * outputs),
                data=data,
                lead=value.lead,
                macs=macs,
                dense_macs=macs,
            )
        after()

    def _depthwise(self, node: Node, value: Value, size: tuple[int, int, int]) -> None:
        weight, bias, s = node.constants["weight"], node.constants["bias"], node.settings
        c, _, w = size
        high, wide = self._conv_size(node)
        source = self.padded_image(value, size, s["pads"], "last")
        pitch = w + s["pads"][1] + s["pads"][3]
        ky, kx = np.meshgrid(
            np.arange(weight.shape[2]) * s["dilations"][0] * pitch * c,
            np.arange(weight.shape[3]) * s["dilations"][1] * c,
            indexing="ij",
        )
        taps = padded(weight.reshape(c, -1).T, up_to(c, BLOCK), axis=1)
        data = [
            taps,
            padded(bias, up_to(c, BLOCK)),
            (ky + kx).astype(np.int32).ravel(),
            limits(s["low"], s["high"]),
        ]
        # The kernel pads channels to its own width.
        data[0] = np.ascontiguousarray(taps[:, : up_to(c, self.width)])
        target, after = self._after_conv(node, "last", False)
        macs = float(value.lead * weight.size * high * wide)
        self.add(
            node.name,
            self.kernel("depthwise"),
            (source,),
            target,
            (c, pitch, high, wide, *s["strides"], len(taps)),
            data=data,
            lead=value.lead,
            macs=macs,
            dense_macs=macs,
        )
        after()

    def _planes(self, node: Node, kernel: Kernel, value: Value, size: tuple[int, int, int]) -> None:
        weight, bias, s = node.constants["weight"], node.constants["bias"], node.settings
        (c, h, w), (sy, sx), pads = size, s["strides"], s["pads"]
        high, wide = self._conv_size(node)
        # Phases: with a stride, every stride-th row and column lie together.
        rows, pitch = -(-(h + pads[0] + pads[2]) // sy), -(-(w + pads[1] + pads[3]) // sx)
        plane = rows * pitch
        if sy == sx == 1:
            source = self.padded_image(value, size, pads, "dense")
        else:
            source = self._phases(value, size, pads, (sy, sx), rows, pitch)
        ic, ky, kx = np.meshgrid(
            np.arange(c),
            np.arange(weight.shape[2]) * s["dilations"][0],
            np.arange(weight.shape[3]) * s["dilations"][1],
            indexing="ij",
        )
        offset = (
            ((ic * sy + ky % sy) * sx + kx % sx) * plane + ky // sy * pitch + kx // sx
        ).ravel()
        narrow = self.width // 2 if kernel.tile == "half" else self.width
        length = up_to((high - 1) * pitch + wide, narrow)
        vectors = 20 if self.width == 16 else 9
        tile = min(length, vectors * narrow)
        per_channel = (tile + int(ky.max()) // sy * pitch + int(kx.max())) * 4
        chunk = max(1, min(c, L1 // per_channel)) * weight.shape[2] * weight.shape[3]
        matrix = weight.reshape(len(weight), -1)
        bounds, offsets, values = by_chunk(matrix, offset, chunk)
        target, after = self._after_conv(node, "dense", False)
        self.add(
            node.name,
            kernel,
            (source,),
            target,
            (len(bounds), len(weight), pitch, high, wide),
            data=[bounds, offsets, values, bias, limits(s["low"], s["high"])],
            scratch=len(weight) * length + BLOCK,
            lead=value.lead,
            macs=float(value.lead * len(values) * high * wide),
            dense_macs=self._dense_macs(node) * value.lead,
        )
        after()

    def _phases(
        self,
        value: Value,
        size: tuple[int, int, int],
        pads: list[int],
        strides: tuple[int, int],
        rows: int,
        pitch: int,
    ) -> Buffer:
        form = f"phases {pads} {strides}"
        if form in value.forms:
            return value.forms[form]
        (c, h, w), (sy, sx) = size, strides
        source = self.form(value, "dense")
        total = c * sy * sx * rows * pitch
        buffer = self.new(value, form, total)
        clear = total
        for py in range(sy):
            for px in range(sx):
                # rows y of the image with (y + top) % sy == py
                y0, x0 = (py - pads[0]) % sy, (px - pads[1]) % sx
                tall, broad = -(-(h - y0) // sy), -(-(w - x0) // sx)
                if tall < 1 or broad < 1:
                    continue
                at = (
                    (py * sx + px) * rows * pitch
                    + (y0 + pads[0]) // sy * pitch
                    + (x0 + pads[1]) // sx
                )
                self.copy(
                    source,
                    buffer,
                    value.lead,
                    [c, tall, broad],
                    [h * w, sy * w, sx],
                    [sy * sx * rows * pitch, pitch, 1],
                    start=y0 * w + x0,
                    at=at,
                    clear=clear,
                )
                clear = 0
        return buffer

    def _lanes_shape(self, node: Node, size: tuple[int, int, int]) -> tuple[int, ...]:
        s, weight = node.settings, node.constants["weight"]
        pool = s["pool"] if s["pool"] == 2 else 1
        rows, pitch = size[1] + s["pads"][0] + s["pads"][2], size[2] + s["pads"][1] + s["pads"][3]
        high, wide = (n // pool for n in self._conv_size(node))
        shifts = (pool - 1) * s["strides"][1] + (weight.shape[3] - 1) * s["dilations"][1] + 1
        return (
            size[0],
            rows,
            pitch,
            len(weight),
            high,
            wide,
            s["strides"][1] * pool,
            shifts,
            s["strides"][0] * pool,
            pool,
            s["strides"][0],
        )

    def _lanes_scratch(self, node: Node, size: tuple[int, int, int]) -> int:
        channels, rows, _, _, _, wide, _, shifts, *_ = self._lanes_shape(node, size)
        return channels * rows * up_to(wide, self.width) * shifts

    def _lanes(self, node: Node, kernel: Kernel, value: Value, size: tuple[int, int, int]) -> None:
        s, weight = node.settings, node.constants["weight"]
        shape = self._lanes_shape(node, size)
        channels, rows, _, _, _, wide, _, shifts, *_ = shape
        source = self.padded_image(value, size, s["pads"], "dense")
        pitch = up_to(wide, self.width) * shifts
        ic, ky, kx = np.meshgrid(
            np.arange(channels) * rows * pitch,
            np.arange(weight.shape[2]) * s["dilations"][0] * pitch,
            np.arange(weight.shape[3]) * s["dilations"][1] * self.width,
            indexing="ij",
        )
        found = by_output(weight.reshape(len(weight), -1), (ic + ky + kx).ravel())
        bounds, offsets, values, order = by_count(*found)
        clip = limits(s["low"], s["high"])
        target, after = self._after_conv(node, "dense", kernel.tile == "pool")
        high, wide = self._conv_size(node)
        self.add(
            node.name,
            kernel,
            (source,),
            target,
            shape,
            data=[bounds, offsets, values, node.constants["bias"], clip, order],
            scratch=self._lanes_scratch(node, size),
            lead=value.lead,
            macs=float(value.lead * len(values) * high * wide),
            dense_macs=self._dense_macs(node) * value.lead,
        )
        after()

    def _conv_active(
        self, node: Node, kernel: Kernel, value: Value, size: tuple[int, int, int]
    ) -> None:
        weight, s = node.constants["weight"], node.settings
        high, wide = self._conv_size(node)
        (c, h, w), (sy, sx), pads = size, s["strides"], s["pads"]
        kernel_height, kernel_width = weight.shape[2:]
        listed = self._list_form(value)
        source = self.form(value, listed)
        # Taps that meet an input lie together: by residue of the stride, and columns
        # descending, so that the outputs of neighbouring taps are neighbours too.
        tall = sorted(range(kernel_height), key=lambda k: (k % sy, k))
        broad = sorted(range(kernel_width), key=lambda k: (k % sx, -k))
        rows = weight[:, :, tall][:, :, :, broad].reshape(len(weight), c, -1).transpose(1, 2, 0)
        shift = np.array([-(ky // sy) * wide - kx // sx for ky in tall for kx in broad])
        major = InputMajor(rows, shift, self._tiles(high * wide, len(weight)))

        def ranges(
            n: int, before: int, stride: int, taps: list[int], out: int
        ) -> list[tuple[int, int]]:
            """For each input row (or column): which taps, in their order, reach an output."""
            found = []
            for i in range(n):
                meets = [
                    t
                    for t, k in enumerate(taps)
                    if (i + before - k) % stride == 0 and 0 <= (i + before - k) // stride < out
                ]
                found.append((meets[0], meets[-1] + 1) if meets else (0, 0))
            return found

        vertical = ranges(h, pads[0], sy, tall, high)
        horizontal = ranges(w, pads[1], sx, broad, wide)
        place = (
            np.array(
                [
                    (
                        (y + pads[0]) // sy * wide + (x + pads[1]) // sx,
                        vertical[y][0]
                        | vertical[y][1] << 8
                        | horizontal[x][0] << 16
                        | horizontal[x][1] << 24,
                    )
                    for y in range(h)
                    for x in range(w)
                ],
                np.int64,
            )
            .astype(np.uint32)
            .view(np.int32)
        )
        inner = h * w if listed == "list" else c
        target, after = self._after_conv(node, "last", True)
        average = sum(b - a for a, b in vertical) * sum(b - a for a, b in horizontal) / (h * w)
        nonzero = int(np.count_nonzero(weight))
        macs = nonzero / (kernel_height * kernel_width) * average * h * w * value.lead
        self._active(
            node,
            kernel,
            value,
            source,
            major,
            node.constants["bias"],
            limits(s["low"], s["high"]),
            target,
            inner=inner,
            channel_first=listed == "list",
            taps=kernel_height * kernel_width,
            kernel_width=kernel_width,
            size=(high, wide),
            pool=s["pool"],
            place=place.reshape(-1),
            lead=value.lead,
            macs=macs,
        )
        after()

    def _winners(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        result = self._value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        k, local = node.settings["k"], node.settings["local"]
        plain = "last" if local and value.pixels > 1 else self.layout(value)
        source = self.form(value, plain)
        size, groups = (value.channels, value.pixels) if local else (value.item, 1)
        last = plain == "last"
        inner, outer = (value.channels, value.pixels) if last and not local else (1, 1)
        capacity = k * groups
        buffer = self.new(result, "list last" if last else "list", LIST_HEADER + 2 * capacity)
        boost = node.constants.get("boost")
        data: Array = np.zeros(1, np.float32)
        if boost is not None:
            data = boost.reshape(value.channels, value.pixels)
            data = (data.T if last else data).reshape(-1).copy()
        self.add(
            node.name,
            self.kernel("winners"),
            (source,),
            buffer,
            (size, k, groups, capacity, inner, outer, int(boost is not None)),
            data=[data],
            lead=value.lead,
            scratch=3 * (size + 2 * BLOCK),
        )
        result.density = min(result.density, capacity / value.item)

    def _pool(self, node: Node) -> None:
        value, (c, h, w) = self.image(node)
        s = node.settings
        plain = self.layout(value)
        result = self._value(node.output)
        shape = result.shape
        high, wide = (1, shape[2]) if len(shape) == 3 else shape[2:]
        kind = ("max", "average", "average_padded").index(s["kind"])
        self.add(
            node.name,
            self.kernel("pool"),
            (self.form(value, plain),),
            self.new(result, plain, result.item),
            (
                c,
                h,
                w,
                high,
                wide,
                *s["kernel"],
                *s["strides"],
                *s["pads"][:2],
                kind,
                int(plain == "last"),
                *s["pads"][2:],
            ),
            lead=value.lead,
        )

    def _unary(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        plain = self.layout(value)
        result = self._value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        self.add(
            node.name,
            self.kernel("unary"),
            (self.form(value, plain),),
            self.new(result, plain, result.item),
            (value.item, UNARY.index(node.settings["kind"])),
            data=[limits(node.settings.get("a", 0.0), node.settings.get("b", 0.0))],
            lead=value.lead,
        )

    def _binary(self, node: Node) -> None:
        values = [self.values[name] for name in node.inputs]
        result = self._value(node.output)
        shape = result.shape
        constant = node.constants.get("right")
        last = (
            self.layout(values[0]) == "last"
            and values[0].shape == shape
            and (constant is not None or values[-1].shape == shape)
            and len({(v.channels, v.pixels) for v in values}) == 1
            and (constant is None or len(shape) > 2)
        )
        plain = "last" if last else "dense"
        if last:
            result.channels, result.pixels = values[0].channels, values[0].pixels

        def strides(sizes: tuple[int, ...]) -> list[int]:
            steps, step = [], 1
            for size in sizes[::-1]:
                steps.append(0 if size == 1 else step)
                step *= size
            return steps[::-1]

        def of(sizes: tuple[int, ...]) -> list[int]:
            """Strides of an operand over the result's item, at most four dimensions."""
            return strides((*[1] * (len(shape) - 1 - len(sizes)), *sizes))

        sizes = list(shape[1:])
        right = constant.shape if constant is not None else values[1].shape[1:]
        if last:
            c, p = values[0].channels, values[0].pixels
            sizes = [p, c]
            left_steps = [c, 1]
            if constant is None:
                right_steps = [c, 1]
            else:
                constant = np.broadcast_to(constant, shape[1:]).reshape(c, p).T.copy()
                right_steps = [c, 1]
        else:
            left_steps, right_steps = of(values[0].shape[1:]), of(tuple(right))
            if values[0].shape == shape and tuple(right) == shape[1:]:
                sizes, left_steps, right_steps = [math.prod(shape[1:])], [1], [1]
        missing = 4 - len(sizes)
        kernel_shape = (
            BINARY.index(node.settings["kind"]),
            *[1] * missing,
            *sizes,
            *[0] * missing,
            *left_steps,
            *[0] * missing,
            *right_steps,
        )
        sources = [self.form(value, plain) for value in values]
        data = [np.zeros(1, np.float32) if constant is None else constant.astype(np.float32)]
        self.add(
            node.name,
            self.kernel("binary"),
            (*sources, *[None] * (2 - len(sources))),
            self.new(result, plain, result.item),
            kernel_shape,
            data=data,
            lead=result.lead,
        )

    def _softmax(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        result = self._value(node.output)
        size = value.shape[-1]
        self.add(
            node.name,
            self.kernel("softmax"),
            (self.form(value, "dense"),),
            self.new(result, "dense", result.item),
            (value.item // size, size, int(node.settings["log"])),
            lead=value.lead,
        )

    def _layer_norm(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        result = self._value(node.output)
        size = node.settings["size"]
        data = [
            node.constants["scale"],
            node.constants["bias"],
            np.array([node.settings["epsilon"]], np.float32),
        ]
        self.add(
            node.name,
            self.kernel("layer_norm"),
            (self.form(value, "dense"),),
            self.new(result, "dense", result.item),
            (value.item // size, size, 0),
            data=data,
            lead=value.lead,
        )

    def _concat(self, node: Node) -> None:
        values = [self.values[name] for name in node.inputs]
        result = self._value(node.output)
        axis = node.settings["axis"]
        outer = math.prod(result.shape[1:axis])
        inner = math.prod(result.shape[axis + 1 :])
        sources = [self.form(value, "dense") for value in values]
        buffer = self.new(result, "dense", result.item)
        at, whole = 0, result.shape[axis] * inner
        for value, source in zip(values, sources, strict=True):
            part = value.shape[axis] * inner
            self.copy(source, buffer, value.lead, [outer, part], [part, 1], [whole, 1], at=at)
            at += part

    def _reshape(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        result = self._value(node.output)
        # A flattened value keeps all its forms; any other shape only the plain one.
        if (len(result.shape) == 2 and result.lead == value.lead) or result.shape == value.shape:
            result.channels, result.pixels = value.channels, value.pixels
            if not any(form in value.forms for form in ("dense", "last", "list", "list last")):
                self.form(value, "dense")
            result.forms = {
                f: b for f, b in value.forms.items() if f in ("dense", "last", "list", "list last")
            }
            return
        result.forms["dense"] = self.form(value, "dense")

    def _transpose(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        result = self._value(node.output)
        perm = node.settings["perm"]
        sizes = [value.shape[p] for p in perm[1:]]
        steps = np.cumprod([1, *value.shape[:1:-1]])[::-1].tolist()
        out = np.cumprod([1, *sizes[:0:-1]])[::-1].tolist() if sizes else []
        self.copy(
            self.form(value, "dense"),
            self.new(result, "dense", result.item),
            value.lead,
            sizes,
            [steps[p - 1] for p in perm[1:]],
            out,
        )
