"""Batch, instance, group, layer, RMS and local normalization, and softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from gossamer.runtime.c.tables import number
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.axis import along_axes, on_axis
from gossamer.runtime.operators.batch_axis import along
from gossamer.runtime.operators.binary import Binary, combine, constant_binary
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, floats, shown
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.pools import average, reduced
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True)
class LayerNorm(Single):
    """Rows of ``size`` numbers normalized to mean 0 and deviation 1, times scale plus bias.

    Scale and bias are [size] or, if ``channels`` is set, one number for each row.
    """

    op = "layer_norm"

    epsilon: float
    size: int
    channels: int = 0

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        rows, constants = lowering.values[node.inputs[0]].item // self.size, node.constants
        shape = {"rows": rows, "size": self.size, "kind": self.channels}
        epsilon = np.array([self.epsilon], np.float32)
        lowering.one(node, shape, [constants["scale"], constants["bias"], epsilon])

    def write(self, writer: Writer, node: AnyNode) -> None:
        size, name = self.size, writer.called(node)
        scale = writer.tables.floats(f"{name}_scale", node.constants["scale"])
        bias = writer.tables.floats(f"{name}_bias", node.constants["bias"])
        at = f"r % {self.channels}" if self.channels else "i"
        body = f"""
for (r = 0; r < {writer.size(node.output) // size}; ++r, x += {size}, y += {size}) {{
    double sum = 0.0, squares = 0.0, mean;
    float factor, center;
    for (i = 0; i < {size}; ++i) sum += (double)x[i];
    mean = sum / {size}.0;
    for (i = 0; i < {size}; ++i) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    factor = (float)(1.0 / sqrt(squares / {size}.0 + (double){number(self.epsilon)}));
    center = (float)mean;
    for (i = 0; i < {size}; ++i) y[i] = (x[i] - center) * factor * {scale}[{at}] + {bias}[{at}];
}}"""
        writer.function(node, "r, i", body)


@dataclass(frozen=True)
class Softmax(Single):
    """Softmax over the last dimension, or its logarithm."""

    op = "softmax"

    log: bool

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        size = value.shape[-1]
        lowering.one(node, {"rows": value.item // size, "size": size, "kind": self.log})

    def write(self, writer: Writer, node: AnyNode) -> None:
        size = writer.shape(node.output)[-1]
        if self.log:
            last = f"sum = logf(sum);\n    for (i = 0; i < {size}; ++i) y[i] = x[i] - top - sum;"
            store = "sum += expf(x[i] - top);"
        else:
            last = f"for (i = 0; i < {size}; ++i) y[i] /= sum;"
            store = "sum += y[i] = expf(x[i] - top);"
        body = f"""
for (r = 0; r < {writer.size(node.output) // size}; ++r, x += {size}, y += {size}) {{
    float top = x[0], sum = 0.0f;
    for (i = 1; i < {size}; ++i) top = x[i] > top ? x[i] : top;
    for (i = 0; i < {size}; ++i) {store}
    {last}
}}"""
        writer.function(node, "r, i", body)


def _batch_norm(context: Context, call: Call) -> None:
    if call.get("training_mode"):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    scale, bias, mean, variance = (
        floats(context.constant(i, "statistics")).astype(np.float64) for i in call.inputs[1:5]
    )
    factor = scale / np.sqrt(variance + call.get("epsilon", 1e-5))
    shift = bias - mean * factor
    shape = context.shape(call.value)
    if len(shape) < 2 or not factor.shape == shift.shape == (shape[1],):
        raise Unsupported(f"its statistics have shape {factor.shape} for {shown(shape)}")
    each = (shape[1], *[1] * (len(shape) - 2))
    value = call.value
    if not np.isfinite(shift).all():  # an infinite factor: in the order of the operator's text
        value, shift = constant_binary(context, "sub", value, mean.reshape(each)), bias
    scaled = constant_binary(context, "mul", value, factor.reshape(each))
    constant_binary(context, "add", scaled, shift.reshape(each), call.output)


def _instance_norm(context: Context, call: Call) -> None:
    """Convert to a layer norm of each channel's image, with the channel's scale and bias."""
    shape = context.shape(call.value)
    scale, bias = (floats(context.constant(i, "scale and bias")) for i in call.inputs[1:3])
    if len(shape) < 3 or not scale.shape == bias.shape == (shape[1],):
        raise Unsupported(f"its scale has shape {scale.shape} for {shown(shape)}")
    operation = LayerNorm(float(call.get("epsilon", 1e-5)), math.prod(shape[2:]), shape[1])
    constants = {"scale": scale, "bias": bias}
    context.emit(operation, call.value, call.output, constants=constants)


def _layer_norm(context: Context, call: Call) -> None:
    shape = context.shape(call.value)
    axis = int(call.get("axis", -1)) % len(shape)
    size = math.prod(shape[axis:])
    if axis == 0:
        raise Unsupported("it normalizes along the batch axis")
    scale = np.broadcast_to(floats(context.constant(call.inputs[1], "scale")), shape[axis:])
    bias = np.zeros(size, np.float32)
    if named := call.optional(2):
        bias = np.broadcast_to(floats(context.constant(named, "bias")), shape[axis:])
    constants = {"scale": scale.reshape(-1).copy(), "bias": np.ravel(bias).copy()}
    operation = LayerNorm(float(call.get("epsilon", 1e-5)), size)
    context.emit(operation, call.value, call.output, constants=constants)


def _group_norm(context: Context, call: Call) -> None:
    """Convert to a layer norm of each group, then scale and bias (of groups before opset 21)."""
    shape, groups = context.shape(call.value), int(call.attributes["num_groups"])
    scale, bias = (floats(context.constant(i, "scale and bias")) for i in call.inputs[1:3])
    if len(shape) < 3 or groups < 1 or shape[1] % groups or scale.shape != bias.shape:
        raise Unsupported(f"it makes {groups} groups of {shown(shape)}")
    if len(scale) == groups:
        scale, bias = (np.repeat(array, shape[1] // groups) for array in (scale, bias))
    size = math.prod(shape[1:]) // groups
    constants = {"scale": np.ones(groups, np.float32), "bias": np.zeros(groups, np.float32)}
    operation = LayerNorm(float(call.get("epsilon", 1e-5)), size, groups)
    grouped = context.emit(Reshape(), call.value, shape=(shape[0], groups, size))
    normed = context.emit(operation, grouped, constants=constants)
    whole = context.emit(Reshape(), normed, shape=shape)
    each = (shape[1], *[1] * (len(shape) - 2))
    scaled = constant_binary(context, "mul", whole, scale.reshape(each))
    constant_binary(context, "add", scaled, bias.reshape(each), call.output)


def _rms_norm(context: Context, call: Call) -> None:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the dimensions from an axis on."""
    value, rank = call.value, len(context.shape(call.value))
    axes = range(int(call.get("axis", -1)) % rank, rank)
    mean = reduced(context, "average", context.emit(Binary("mul"), (value, value)), axes)
    shifted = constant_binary(context, "add", mean, call.get("epsilon", 1e-5))
    normed = combine(context, "div", value, context.emit(Unary("sqrt"), shifted))
    scale = floats(context.constant(call.inputs[1], "scale"))
    constant_binary(context, "mul", normed, scale, call.output)


def _local_norm(context: Context, call: Call) -> None:
    """x / (bias + alpha / size * the squares of ``size`` channels around)^beta"""
    value, shape, size = call.value, context.shape(call.value), int(call.attributes["size"])
    if len(shape) < 3 or not 1 <= size <= 1 << 16:
        raise Unsupported(f"it normalizes {shown(shape)} over {size} channels")

    def window() -> Array:
        distance = np.arange(shape[1]) - np.arange(shape[1])[:, None]
        near = (-((size - 1) // 2) <= distance) & (distance <= size // 2)
        return np.asarray(near * (call.get("alpha", 1e-4) / size))

    squares = context.emit(Binary("mul"), (value, value))
    around = along_axes(context, squares, "", [(1, shape[1], window)])
    shifted = constant_binary(context, "add", around, call.get("bias", 1.0))
    power = constant_binary(context, "power", shifted, call.get("beta", 0.75))
    combine(context, "div", value, power, call.output)


def _softmax(log: bool) -> Convert:
    def convert(context: Context, call: Call) -> None:
        shape = context.shape(call.value)
        axis = int(call.get("axis", -1)) % len(shape)
        if axis == 0:
            raise Unsupported(f"it works along the batch of {shown(shape)}")
        on_axis(context, call.value, axis, call.output, partial(context.emit, Softmax(log)))

    return convert


def _batch_norm_constant(x: list[Array], a: Attributes) -> Array:
    """Fold by the statistics in its inputs or, in training mode, by those of the data."""
    data, scale, bias, mean, variance = x
    each = (-1, *[1] * (data.ndim - 2))
    if a.get("training_mode"):
        others = tuple(axis for axis in range(data.ndim) if axis != 1)
        mean = average(data, others, keepdims=True)
        mean, variance = mean.ravel(), average(np.square(data - mean), others)
    factor = scale / np.sqrt(variance + a.get("epsilon", 1e-5))
    normalized = (data - mean.reshape(each)) * factor.reshape(each) + bias.reshape(each)
    return np.asarray(normalized, data.dtype)


def _layer_norm_constant(x: list[Array], a: Attributes) -> Array:
    axes = tuple(range(int(a.get("axis", -1)) % x[0].ndim, x[0].ndim))
    centered = x[0] - average(x[0], axes, keepdims=True)
    spread = average(np.square(centered), axes, keepdims=True) + a.get("epsilon", 1e-5)
    normalized = centered / np.sqrt(spread) * x[1]
    return np.asarray(normalized + x[2] if len(x) > 2 else normalized, x[0].dtype)


def _softmax_constant(x: list[Array], a: Attributes) -> Array:
    axis = int(a.get("axis", -1))
    powers = np.exp(x[0] - np.max(x[0], axis, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis, keepdims=True))


NORMS: Operators = {
    "BatchNormalization": Operator(_batch_norm, _batch_norm_constant),
    "GroupNormalization": Operator(_group_norm),
    "InstanceNormalization": Operator(_instance_norm),
    "LayerNormalization": Operator(
        _layer_norm, _layer_norm_constant, shared="joins", turned=along(-1, and_after=True)
    ),
    "LRN": Operator(_local_norm),
    "RMSNormalization": Operator(_rms_norm),
    "Softmax": Operator(_softmax(False), _softmax_constant, turned=along(-1)),
    "LogSoftmax": Operator(_softmax(True), turned=along(-1)),
}
