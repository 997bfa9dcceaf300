"""Pooling, and reductions over whole axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Single
from gossamer.runtime.lowering.convolution import add_pool
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import by_axes
from gossamer.runtime.operators.binary import Binary, combine, constant_binary
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, axes_of, shown
from gossamer.runtime.operators.conv_params import by_depth, flat, image_of, pair, window
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import axes_in
from gossamer.runtime.operators.operator import Convert, Fold, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.transpose import place
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True)
class Pool(Single):
    """The maximum, sum or average of windows; ``average_padded`` counts the padding too."""

    op = "pool"

    kind: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value, size = lowering.image(node)
        form = lowering.layout(value)
        source, result = lowering.form(value, form), lowering.value(node.output)
        settings = self.kind, self.kernel, self.strides, self.pads
        add_pool(lowering, node, source, result, form, size, *settings)

    def write(self, writer: Writer, node: AnyNode) -> None:
        images, channels, in_high, in_wide = writer.image(node.inputs[0])
        _, _, high, wide = writer.image(node.output)
        (kernel_high, kernel_wide), (down, across), pads = self.kernel, self.strides, self.pads
        largest = self.kind == "max"
        scale = ""
        if self.kind == "average":
            scale = "best *= 1.0f / (float)((bottom - top) * (right - left));\n"
        elif self.kind == "average_padded":
            scale = (
                f"by = i * {down} + {kernel_high - pads[0]};\n"
                f"if (by > {in_high + pads[2]}) by = {in_high + pads[2]};\n"
                f"by -= i * {down} - {pads[0]};\n"
                f"bx = j * {across} + {kernel_wide - pads[1]};\n"
                f"if (bx > {in_wide + pads[3]}) bx = {in_wide + pads[3]};\n"
                f"bx -= j * {across} - {pads[1]};\n"
                "best *= 1.0f / (float)(by * bx);\n"
            )
        take = "best = v > best || v != v ? v : best;" if largest else "best += v;"
        scaled = "".join(f"            {line}\n" for line in scale.splitlines())
        body = f"""
for (n = 0; n < {images * channels}; ++n, x += {in_high * in_wide}) {{
    for (i = 0; i < {high}; ++i) {{
        for (j = 0; j < {wide}; ++j) {{
            float best = {"-INFINITY" if largest else "0.0f"};
            top = i * {down} - {pads[0]};
            left = j * {across} - {pads[1]};
            bottom = top + {kernel_high};
            right = left + {kernel_wide};
            if (top < 0) top = 0;
            if (left < 0) left = 0;
            if (bottom > {in_high}) bottom = {in_high};
            if (right > {in_wide}) right = {in_wide};
            for (a = top; a < bottom; ++a) {{
                for (b = left; b < right; ++b) {{
                    const float v = x[a * {in_wide} + b];
                    {take}
                }}
            }}
{scaled}            *y++ = best;
        }}
    }}
}}"""
        declared = "n, i, j, a, b, top, left, bottom, right"
        writer.function(node, declared + (", by, bx" if "by" in scale else ""), body)


def _pool(kind: str) -> Convert:
    def convert(context: Context, call: Call) -> None:
        image, dims = image_of(context, call.value)
        kernel = pair(call.get("kernel_shape"), dims)
        strides, dilations, pads = window(call, image[2:], kernel, dims)
        if dilations != [1, 1]:
            raise Unsupported("its window is dilated")
        if any(pads[i] >= kernel[i] or pads[i + 2] >= kernel[i] for i in range(2)):
            raise Unsupported("its pads are as large as its window")
        size = []
        for i in range(2):
            free = image[2 + i] + pads[i] + pads[i + 2] - kernel[i]
            steps = -(-free // strides[i]) if call.get("ceil_mode") else free // strides[i]
            if steps * strides[i] >= image[2 + i] + pads[i]:
                steps -= 1  # no window may start in the padding after the image
            size.append(steps + 1)
        padded = kind == "average" and call.get("count_include_pad")
        operation = Pool(
            "average_padded" if padded else kind, tuple(kernel), tuple(strides), tuple(pads)
        )
        context.emit(operation, call.value, call.output, flat((*image[:2], *size), dims))

    def volume(context: Context, call: Call) -> None:
        """Pool each image, then the depth: a window holds as many numbers in each of its images."""
        (n, c, d, h, w), name = context.shape(call.value), call.output
        depth, image = by_depth(call)
        value = context.emit(Reshape(), call.value, shape=(n, c * d, h, w))
        convert(context, replace(image, inputs=[value], outputs=[f"{name} images"]))
        *_, h, w = context.shape(f"{name} images")
        value = context.emit(Reshape(), f"{name} images", shape=(n, c, d, h * w))
        convert(context, replace(depth, inputs=[value], outputs=[f"{name} depth"]))
        made = context.shape(f"{name} depth")[2]
        context.emit(Reshape(), f"{name} depth", name, (n, c, made, h, w))

    def any_size(context: Context, call: Call) -> None:
        (volume if len(context.shape(call.value)) == 5 else convert)(context, call)

    return any_size


def _whole(kind: str, sizes: Sequence[int]) -> Pool:
    """Return a pool over adjacent windows of these sizes, without padding."""
    return Pool(kind, tuple(sizes), (1, 1), (0, 0, 0, 0))


def _global_pool(kind: str) -> Convert:
    def convert(context: Context, call: Call) -> None:
        if len(context.shape(call.value)) == 5:
            reduced(context, kind, call.value, (2, 3, 4), call.output)
            return
        image, dims = image_of(context, call.value)
        pooled = flat((*image[:2], 1, 1), dims)
        context.emit(_whole(kind, image[2:]), call.value, call.output, pooled)

    return convert


def reduced(
    context: Context,
    kind: str,
    value: str,
    axes: Sequence[int],
    output: str = "",
    *,
    keepdims: bool = True,
) -> str:
    """Emit the mean, sum or maximum over any axes but the batch; return the result's name."""
    shape = context.shape(value)
    axes = sorted({axis % len(shape) for axis in axes})
    if not axes or axes[0] == 0:
        raise Unsupported(
            f"it joins the examples of a batch: axes {axes} of {shown(shape)}, but each example is "
            "computed by itself. If this is a batch norm without running statistics, make it with "
            "track_running_stats=True and train it further"
        )
    small = tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)
    kind_of = "f" if kind == "average" else context.kind(value)
    if len(shape) == 4 and axes[0] >= 2:  # of an image: its rows, columns or both
        kernel = [shape[axis] if axis in axes else 1 for axis in (2, 3)]
        pooled = (*shape[:2], *(n // k for n, k in zip(shape[2:], kernel, strict=True)))
    else:
        others = [axis for axis in range(len(shape)) if axis not in axes]
        kernel = [1, math.prod(shape[axis] for axis in axes)]
        if others + axes != list(range(len(shape))):
            value = place(context, value, others + axes)
        pooled = (shape[0], math.prod(shape[axis] for axis in others[1:]), 1, 1)
        value = context.emit(Reshape(), value, shape=(*pooled[:2], *kernel))
    total = context.emit(_whole(kind, kernel), value, shape=pooled)
    return context.emit(Reshape(), total, output, small, kind_of)


def _reduce(kind: str, before: str = "", after: str = "") -> Convert:
    """Return the conversion of a reduction, with a function of the numbers before and after it."""

    def convert(context: Context, call: Call) -> None:
        value, axes = call.value, axes_of(context, call)
        if kind == "average" and context.kind(value) != "f":
            raise Unsupported("it averages integers; cast them to float32 first")
        if before == "square":
            value = context.emit(Binary("mul"), (value, value))
        elif before:
            value = context.emit(Unary(before), value)
        output = "" if after else call.output
        total = reduced(context, kind, value, axes, output, keepdims=call.get("keepdims", 1))
        if after:
            context.emit(Unary(after), total, call.output)

    return convert


def _arg_max(context: Context, call: Call) -> None:
    """Convert ArgMax: the first of n places i with the maximum is n less the largest n - i.

    The maximum is NaN if a number is; the first NaN is its place, as in NumPy and PyTorch.
    """
    value, shape = call.value, context.shape(call.value)
    axis = int(call.get("axis", 0)) % len(shape)
    size = shape[axis]
    if axis == 0 or call.get("select_last_index"):
        raise Unsupported("it works along the batch, or takes the last of equal values")
    context.spend(size)
    places = np.arange(size, 0, -1).reshape(size, *[1] * (len(shape) - 1 - axis))
    there = combine(context, "equal", value, reduced(context, "max", value, [axis]), "", "b")
    there = combine(context, "max", there, context.emit(Unary("is_nan"), value, kind="b"))
    left = constant_binary(context, "mul", there, places, "", "i")
    most = reduced(context, "max", left, [axis], keepdims=call.get("keepdims", 1))
    context.add_constant(f"{call.output} size", np.array(size))
    combine(context, "sub", f"{call.output} size", most, call.output, "i")


def _arg_min(context: Context, call: Call) -> None:
    _arg_max(context, replace(call, inputs=[context.emit(Unary("neg"), call.value)]))


def _l2(x: Array, **more: Any) -> Array:
    return np.asarray(np.sqrt(np.sum(np.square(x), **more)))


def average(x: Array, axis: Any, keepdims: bool = False) -> Array:
    """Return the average over axes; 0 for an empty array, without a warning."""
    total = np.sum(x, axis, keepdims=keepdims)
    return np.asarray(total / max(1, x.size / max(1, total.size)))


def _fold(of: Callable[..., Array]) -> Fold:
    """Return the constant folding of a reduction over the call's axes, or all axes by default."""

    def evaluate(x: list[Array], a: Attributes) -> Array:
        axes = axes_in(x, a) or (() if a.get("noop_with_empty_axes") else None)
        result = of(x[0], axis=axes, keepdims=bool(a.get("keepdims", 1)))
        return np.asarray(result, x[0].dtype)

    return evaluate


def _reduction(convert: Convert, of: Callable[..., Array] | None = None) -> Operator:
    fold = None if of is None else _fold(of)
    return Operator(convert, fold, shared="joins" if fold else "", turned=by_axes("reduce"))


POOLS: Operators = {
    "ArgMax": Operator(_arg_max),
    "ArgMin": Operator(_arg_min),
    "MaxPool": Operator(_pool("max")),
    "AveragePool": Operator(_pool("average")),
    "GlobalAveragePool": Operator(_global_pool("average")),
    "GlobalMaxPool": Operator(_global_pool("max")),
    "ReduceL1": _reduction(_reduce("sum", "abs")),
    "ReduceL2": _reduction(_reduce("sum", "square", "sqrt"), _l2),
    "ReduceMax": _reduction(_reduce("max"), np.max),
    "ReduceMean": _reduction(_reduce("average"), average),
    "ReduceMin": _reduction(_reduce("max", "neg", "neg"), np.min),
    "ReduceProd": Operator(fold=_fold(np.prod), shared="joins"),
    "ReduceSum": _reduction(_reduce("sum"), np.sum),
    "ReduceSumSquare": _reduction(_reduce("sum", "square")),
}
