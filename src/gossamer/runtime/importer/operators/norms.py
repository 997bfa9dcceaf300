"""Normalization: by batch, instance and layer, and softmax."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.importer.context import (
    Attributes,
    Context,
    Convert,
    Unsupported,
    floats,
    shown,
)
from gossamer.runtime.importer.operators.binary import constant_binary
from gossamer.runtime.importer.operators.elementwise import unclipped
from gossamer.runtime.importer.operators.layout_ops import on_axis


def _scaled(weight: Array, factor: Array) -> Array:
    """A layer's weight, each output's times its factor."""
    return (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)


def _batch_norm(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if a.get("training_mode"):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    scale, bias, mean, variance = (
        floats(context.constant(i, "statistics")).astype(np.float64) for i in inputs[1:5]
    )
    factor = scale / np.sqrt(variance + a.get("epsilon", 1e-5))
    shift = bias - mean * factor
    shape = context.shape(inputs[0])
    if len(shape) < 2 or not factor.shape == shift.shape == (shape[1],):
        raise Unsupported(f"its statistics have shape {factor.shape} for {shown(shape)}")
    before = context.alone(inputs[0], "conv", "linear")
    if (
        before is not None
        and unclipped(before)
        and (before.op == "conv" or len(shape) == 2)
        # Beyond float32, a weight times its factor is NaN where the sum times it is infinite.
        and np.isfinite(weight := _scaled(before.constants["weight"], factor)).all()
    ):
        before.constants["weight"] = weight
        if (step := before.constants.pop("step", None)) is not None:
            step = step * np.where(factor == 0, 1, np.abs(factor)).astype(np.float32)
            if np.isfinite(step).all():  # else the weights are no multiples of it
                before.constants["step"] = step
        before.constants["bias"] = (before.constants["bias"] * factor + shift).astype(np.float32)
        context.rename(before, output)
        return
    each = (shape[1], *[1] * (len(shape) - 2))
    value, scaled = inputs[0], f"{output} before its shift"
    if not np.isfinite(shift).all():  # an infinite factor: in the order of the operator's text
        value, shift = f"{output} centered", bias
        constant_binary(context, "sub", name, inputs[0], value, mean.reshape(each))
    constant_binary(context, "mul", name, value, scaled, factor.reshape(each))
    constant_binary(context, "add", name, scaled, output, shift.reshape(each))


def _instance_norm(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """A layer norm of each channel's image, with the channel's scale and bias."""
    shape = context.shape(inputs[0])
    scale, bias = (floats(context.constant(i, "scale and bias")) for i in inputs[1:3])
    if len(shape) < 3 or not scale.shape == bias.shape == (shape[1],):
        raise Unsupported(f"its scale has shape {scale.shape} for {shown(shape)}")
    settings = {
        "epsilon": float(a.get("epsilon", 1e-5)),
        "size": math.prod(shape[2:]),
        "channels": shape[1],
    }
    constants = {"scale": scale, "bias": bias}
    context.emit(Node("layer_norm", name, (inputs[0],), output, settings, constants), shape)


def _layer_norm(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = context.shape(inputs[0])
    axis = int(a.get("axis", -1)) % len(shape)
    size = math.prod(shape[axis:])
    if axis == 0:
        raise Unsupported("it normalizes along the batch")
    scale = np.broadcast_to(floats(context.constant(inputs[1], "scale")), shape[axis:])
    bias = np.zeros(size, np.float32)
    if len(inputs) > 2 and inputs[2]:
        bias = np.broadcast_to(floats(context.constant(inputs[2], "bias")), shape[axis:])
    constants = {"scale": scale.reshape(-1).copy(), "bias": np.ravel(bias).copy()}
    settings = {"epsilon": float(a.get("epsilon", 1e-5)), "size": size}
    context.emit(Node("layer_norm", name, (inputs[0],), output, settings, constants), shape)


def _softmax(log: bool) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = context.shape(inputs[0])
        axis = int(a.get("axis", -1)) % len(shape)
        if axis == 0:
            raise Unsupported(f"it works along the batch of {shown(shape)}")

        def act(value: str, result: str) -> None:
            node = Node("softmax", name, (value,), result, {"log": log})
            context.emit(node, context.shape(value))

        on_axis(context, name, inputs[0], axis, output, act)

    return convert


NORMS: dict[str, Convert] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax(False),
    "LogSoftmax": _softmax(True),
}
