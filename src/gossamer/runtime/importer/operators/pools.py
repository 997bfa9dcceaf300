"""Pooling, and what reduces whole axes."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.context import Attributes, Context, Convert, Unsupported, shown
from gossamer.runtime.importer.operators.binary import combine, constant_binary
from gossamer.runtime.importer.operators.conv_params import flat, image_of, pair, window
from gossamer.runtime.importer.operators.layout_ops import axes_of, place
from gossamer.runtime.importer.operators.linear import linear


def _pool(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = image_of(context, inputs[0])
        kernel = pair(a.get("kernel_shape"), dims, 1)
        strides, dilations, pads = window(a, image[2:], kernel, dims)
        if dilations != [1, 1]:
            raise Unsupported("its window is dilated")
        if any(pads[i] >= kernel[i] or pads[i + 2] >= kernel[i] for i in range(2)):
            raise Unsupported("its pads are as large as its window")
        size = []
        for i in range(2):
            free = image[2 + i] + pads[i] + pads[i + 2] - kernel[i]
            steps = -(-free // strides[i]) if a.get("ceil_mode") else free // strides[i]
            if steps * strides[i] >= image[2 + i] + pads[i]:
                steps -= 1  # no window may start in the padding after the image
            size.append(steps + 1)
        shape = (image[0], image[1], *size)
        before = context.alone(inputs[0], "conv")
        whole = kernel == strides and kernel[0] == kernel[1] and not any(pads)
        if (
            kind == "max"
            and before is not None
            and whole
            and kernel[0] <= 4
            and dims == 2
            and before.settings["pool"] == 1
            and not a.get("ceil_mode")
        ):
            before.settings["pool"] = kernel[0]
            context.rename(before, output, shape)
            return
        if kind == "average" and a.get("count_include_pad"):
            settings_kind = "average_padded"
        else:
            settings_kind = kind
        settings = {"kind": settings_kind, "kernel": kernel, "strides": strides, "pads": pads}
        context.emit(Node("pool", name, (inputs[0],), output, settings), flat(shape, dims))

    return convert


def _global_pool(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = image_of(context, inputs[0])
        kernel = list(image[2:])
        settings = {"kind": kind, "kernel": kernel, "strides": [1, 1], "pads": [0] * 4}
        context.emit(
            Node("pool", name, (inputs[0],), output, settings),
            flat((image[0], image[1], 1, 1), dims),
        )

    return convert


def _reduce(kind: str) -> Convert:
    """Means, sums and maxima over any axes but the batch."""

    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = context.shape(inputs[0])
        axes = sorted({axis % len(shape) for axis in axes_of(context, inputs, a)})
        if not axes or axes[0] == 0:
            raise Unsupported(f"it joins the examples of a batch: axes {axes} of {shown(shape)}")
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        value, count = inputs[0], math.prod(shape[axis] for axis in axes)
        if kept + axes != list(range(len(shape))):
            place(context, name, value, kept + axes, f"{output} in order")
            value = f"{output} in order"
        rows = math.prod(shape[axis] for axis in kept[1:])
        whole, reduced = f"{output} rows", f"{output} reduced"
        if kind == "sum":  # exact where it counts
            context.emit(Node("reshape", name, (value,), whole), (shape[0], rows, count))
            context.spend(count)
            ones, none = np.ones((1, count), np.float32), np.zeros(1, np.float32)
            linear(context, name, whole, reduced, ones, none, {})
        else:
            context.emit(Node("reshape", name, (value,), whole), (shape[0], rows, 1, count))
            _global_pool(kind)(context, name, [whole], reduced, {})
        keep = a.get("keepdims", 1)
        small = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
        kind_of = "f" if kind == "average" else context.kind(inputs[0])
        context.emit(Node("reshape", name, (reduced,), output), tuple(small), kind_of)

    return convert


def _least(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """-max(-x)"""
    turned, most, value = f"{output} turned", f"{output} most", inputs[0]
    context.emit(Node("unary", name, (value,), turned, {"kind": "neg"}), context.shape(value))
    _reduce("max")(context, name, [turned, *inputs[1:]], most, a)
    context.emit(Node("unary", name, (most,), output, {"kind": "neg"}), context.shape(most))


def _sum_of(each: str, root: bool) -> Convert:
    """The sum of the squares or absolute values, or its square root."""

    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        parts, total, value = f"{output} parts", f"{output} total" if root else output, inputs[0]
        node = Node("unary", name, (value,), parts, {"kind": "abs"})
        if each == "square":
            node = Node("binary", name, (value, value), parts, {"kind": "mul"})
        context.emit(node, context.shape(value))
        _reduce("sum")(context, name, [parts, *inputs[1:]], total, a)
        if root:
            node = Node("unary", name, (total,), output, {"kind": "sqrt"})
            context.emit(node, context.shape(total))

    return convert


def _arg_max(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """The first place of the maximum: of n places, n less the most that are left there."""
    value, shape = inputs[0], context.shape(inputs[0])
    axis = int(a.get("axis", 0)) % len(shape)
    size = shape[axis]
    if axis == 0 or a.get("select_last_index"):
        raise Unsupported("it looks along the batch, or for the last of several; the first can run")
    axes, best, there, left, most = (
        f"{output} {part}" for part in ("axis", "best", "there", "left", "most")
    )
    context.spend(size)
    context.add_constant(axes, np.array([axis]))
    along = (size, *[1] * (len(shape) - 1 - axis))
    _reduce("max")(context, name, [value, axes], best, {})
    combine(context, "equal", name, value, best, there, "b")
    constant_binary(context, "mul", name, there, left, np.arange(size, 0, -1).reshape(along), "i")
    _reduce("max")(context, name, [left, axes], most, {"keepdims": a.get("keepdims", 1)})
    context.add_constant(f"{output} size", np.array(size))
    combine(context, "sub", name, f"{output} size", most, output, "i")


POOLS: dict[str, Convert] = {
    "ArgMax": _arg_max,
    "MaxPool": _pool("max"),
    "AveragePool": _pool("average"),
    "GlobalAveragePool": _global_pool("average"),
    "GlobalMaxPool": _global_pool("max"),
    "ReduceL1": _sum_of("absolute", root=False),
    "ReduceL2": _sum_of("square", root=True),
    "ReduceMax": _reduce("max"),
    "ReduceMean": _reduce("average"),
    "ReduceMin": _least,
    "ReduceSum": _reduce("sum"),
    "ReduceSumSquare": _sum_of("square", root=False),
}
