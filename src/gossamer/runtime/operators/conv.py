"""Convolutions, and transposed ones as convolutions over a spread image or over single pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gossamer.runtime.c import layers
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.constants import Quantized
from gossamer.runtime.graph import AnyNode, Array, Candidate, strides
from gossamer.runtime.lowering.conv import conv
from gossamer.runtime.lowering.int8 import in_8_bits
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, floats, shown
from gossamer.runtime.operators.conv_params import by_depth, flat, image_of, window
from gossamer.runtime.operators.layer import Layer
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.strided import Windows, strided
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """A convolution; ``pads`` are top, left, bottom, right, ``pool`` is the side of a max-pool."""

    op = "conv"

    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    groups: int = 1
    pool: int = 1

    @property
    def bare(self) -> bool:
        return self.unlimited and self.pool == 1

    def size(self, image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the output for an image, before the pool."""
        high, wide = (
            (image[i] + self.pads[i] + self.pads[i + 2] - self.dilations[i] * (kernel[i] - 1) - 1)
            // self.strides[i]
            + 1
            for i in range(2)
        )
        return high, wide

    def candidates(self, lowering: Lowering, node: AnyNode) -> Iterable[Candidate]:
        eight = "step" in node.constants
        return in_8_bits(lowering, node, conv) if eight else conv(lowering, node)

    def write(self, writer: Writer, node: AnyNode) -> None:
        layers.conv(writer, node)


def _check_kernel(call: Call, weight: Array | Quantized) -> None:
    kernel = call.get("kernel_shape")
    if kernel is not None and tuple(kernel) != weight.shape[2:]:
        raise Unsupported(f"its kernel_shape is {kernel}, but its weight {weight.shape}")


def _conv(context: Context, call: Call) -> None:
    if len(context.shape(call.value)) == 5:
        _conv_3d(context, call)
        return
    image, dims = image_of(context, call.value)
    weight = context.weight(call.inputs[1], "weight", 0)
    _check_kernel(call, weight)
    if weight.ndim != dims + 2:
        raise Unsupported(f"its weight has shape {weight.shape} for a {dims}-d image")
    if dims == 1:
        weight = weight[:, :, None, :]
    outputs, per_group, height, width = weight.shape
    groups = int(call.get("group", 1))
    if groups < 1 or per_group * groups != image[1] or outputs % groups or not outputs:
        raise Unsupported(f"its weight {weight.shape} does not fit {image[1]} channels")
    bias = np.zeros(outputs, np.float32)
    if named := call.optional(2):
        bias = floats(context.constant(named, "bias"))
        if bias.shape != (outputs,):
            raise Unsupported(f"its bias has shape {bias.shape} for {outputs} outputs")
    strides, dilations, pads = window(call, image[2:], [height, width], dims)
    operation = Conv(
        strides=tuple(strides), dilations=tuple(dilations), pads=tuple(pads), groups=groups
    )
    constants = {"weight": weight, "bias": bias}
    shape = flat((image[0], outputs, *operation.size(image[2:], (height, width))), dims)
    context.emit(operation, call.value, call.output, shape, constants=constants)


def _conv_3d(context: Context, call: Call) -> None:
    """Convert to a 2-d convolution of images whose channels are those of all taps of the depth."""
    n, c, d, h, w = context.shape(call.value)
    weight = floats(context.constant(call.inputs[1], "weight"))
    _check_kernel(call, weight)
    if weight.ndim != 5:
        raise Unsupported(f"its weight has shape {weight.shape} for a 3-d image")
    depth, image = by_depth(call)
    taps, plane, output = weight.shape[2], h * w, call.output
    steps, dilations, pads = window(depth, (d, 1), [taps, 1], 2)
    whole = d + pads[0] + pads[2]
    made = (whole - dilations[0] * (taps - 1) - 1) // steps[0] + 1
    if made < 1:
        raise Unsupported(
            f"its window of {taps} is deeper than its input of shape {shown((n, c, d, h, w))}"
        )
    value, sizes, padded = call.value, (c, d, plane), (n, c, whole, h, w)
    if whole > d:
        target, at = strides((c, whole, plane)), pads[0] * plane
        value = strided(
            context, value, "", padded, [*sizes], strides(sizes), target, at=at, clear=True
        )
    source = [steps[0] * plane, whole * plane, dilations[0] * plane, 1]
    value = strided(context, value, "", (n, made, c * taps, h, w), [made, c, taps, plane], source)
    value = context.emit(Reshape(), value, shape=(n * made, c * taps, h, w))
    context.add_constant(f"{output} weight", weight.reshape(len(weight), -1, *weight.shape[3:]))
    inputs = [value, f"{output} weight", *call.inputs[2:]]
    _conv(context, replace(image, inputs=inputs, outputs=[f"{output} images"]))
    _, outputs, high, wide = context.shape(f"{output} images")
    plane = high * wide
    value = context.emit(Reshape(), f"{output} images", shape=(n, made, outputs, plane))
    source = [plane, outputs * plane, 1]
    strided(context, value, output, (n, outputs, made, high, wide), [outputs, made, plane], source)


def _conv_transpose(context: Context, call: Call) -> None:
    """Convert ConvTranspose to a convolution over the image with zeros between its pixels.

    If the windows of the output are adjacent and do not overlap, each input pixel makes one window:
    a convolution over single pixels then avoids the products with zeros.
    """
    image, dims = image_of(context, call.value)
    weight = floats(context.constant(call.inputs[1], "weight"))
    _check_kernel(call, weight)
    groups = int(call.get("group", 1))
    if weight.ndim != dims + 2 or len(weight) != image[1] or groups < 1 or len(weight) % groups:
        raise Unsupported(f"its weight {weight.shape} does not fit {image[1]} channels")
    if call.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in call.attributes:
        raise Unsupported("its padding is worked out from its output; export with plain pads")
    strides_ = [int(v) for v in call.get("strides", [1] * dims)]
    dilations = [int(v) for v in call.get("dilations", [1] * dims)]
    pads = [int(v) for v in call.get("pads", [0] * 2 * dims)]
    extra = [int(v) for v in call.get("output_padding", [0] * dims)]
    if {len(strides_), len(dilations), len(extra), len(pads) - dims} != {dims}:
        raise Unsupported(f"its window settings are not those of {dims} dimensions")
    if any(not 1 <= v <= 1 << 16 for v in [*strides_, *dilations]):
        raise Unsupported("its strides and dilations must be between 1 and 65536")
    reach = [dilations[i] * (weight.shape[2 + i] - 1) for i in range(dims)]
    before = [reach[i] - pads[i] for i in range(dims)]
    after = [reach[i] - pads[i + dims] + extra[i] for i in range(dims)]
    if min(*before, *after, 0) < 0:
        raise Unsupported("its pads reach beyond its window")
    per_group, outputs = len(weight) // groups, weight.shape[1]
    turned = weight.reshape(groups, per_group, outputs, *weight.shape[2:]).swapaxes(1, 2)
    turned = turned.reshape(groups * outputs, per_group, *weight.shape[2:])
    shape, value = context.shape(call.value), call.value
    sides = list(weight.shape[2:])
    if strides_ == sides != [1] * dims and dilations == [1] * dims and not any([*pads, *extra]):
        _windows(context, call, turned, groups)
        return
    flipped = np.flip(turned, tuple(range(2, 2 + dims)))
    if any(step > 1 for step in strides_):
        size = tuple((shape[2 + i] - 1) * strides_[i] + 1 for i in range(dims))
        target = strides((shape[1], *size))
        for i in range(dims):
            target[1 + i] *= strides_[i]
        spread, sizes, source = (*shape[:2], *size), list(shape[1:]), strides(shape[1:])
        value = strided(context, value, "", spread, sizes, source, target, clear=True)
    context.add_constant(f"{call.output} weight", np.ascontiguousarray(flipped))
    plain = {"dilations": dilations, "pads": [*before, *after], "group": groups}
    inputs = [value, f"{call.output} weight", *call.inputs[2:]]
    _conv(context, replace(call, inputs=inputs, attributes=plain))


def _windows(context: Context, call: Call, weight: Array, groups: int) -> None:
    """Emit one window of the output for each pixel; ``weight`` is [outputs, inputs, *sides].

    The layer's outputs are ordered by their place in the window, then by channel, so that a row
    of a window lies in one piece where channels lie last; where a channel has inputs of its own,
    by channel first.
    """
    shape, sides, output = context.shape(call.value), weight.shape[2:], call.output
    outputs, inputs, within, dims = *weight.shape[:2], math.prod(sides), len(sides)
    outer = 1 if groups == 1 or not outputs else outputs
    placed = np.moveaxis(weight.reshape(outer, outputs // outer, inputs, within), -1, 1)
    pixels = np.ascontiguousarray(placed.reshape(-1, inputs, *[1] * dims))
    context.add_constant(f"{output} weight", pixels)
    made = [n * side for n, side in zip(shape[2:], sides, strict=True)]
    steps = strides((outer, outputs // outer, *made))
    sizes = (outer, *sides, outputs // outer, *shape[2:])
    target = [steps[0], *steps[2:], steps[1]]
    target += [step * side for step, side in zip(steps[2:], sides, strict=True)]
    operation = Windows(sizes, tuple(strides(sizes)), tuple(target), groups=outer, within=within)
    names, windows = [call.value, f"{output} weight"], f"{output} windows"
    if named := call.optional(2):
        bias = floats(context.constant(named, "bias"))
        context.add_constant(f"{output} bias", operation.repeat(bias))
        names.append(f"{output} bias")
    _conv(context, Call("Conv", call.name, names, [windows], {"group": groups}))
    context.emit(operation, windows, output, (shape[0], outputs, *made))


CONVOLUTIONS: Operators = {"Conv": Operator(_conv), "ConvTranspose": Operator(_conv_transpose)}
