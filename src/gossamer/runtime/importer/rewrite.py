"""Rewriting of nodes of older opsets, and of compound operators, as current operators.

Attributes of older opsets become inputs; ``Upsample`` becomes ``Resize``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer.runtime.importer.einsum import einsum
from gossamer.runtime.importer.int8 import INT8
from gossamer.runtime.importer.recurrent import RECURRENT
from gossamer.runtime.importer.top_k import top_k
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.unsupported import Unsupported

Rule = Callable[[Context, int, Call], list[Call]]


def rewritten(context: Context, opset: int, call: Call) -> list[Call]:
    """Return the calls that replace a call of this opset; for most, the call itself."""
    rule = RULES.get(call.operator)
    return [call] if rule is None else rule(context, opset, call)


def _constant(context: Context, call: Call, what: str, value: Any, dtype: type) -> str:
    name = f"{call.output} {what}"
    context.add_constant(name, np.asarray(value, dtype))
    return name


def _without(a: Attributes, *names: str) -> Attributes:
    return {key: value for key, value in a.items() if key not in names}


def _clip(context: Context, opset: int, call: Call) -> list[Call]:
    """Rewrite a clip with computed limits as a maximum and a minimum."""
    present = [(i, limit) for i, limit in enumerate(call.inputs[1:3]) if limit]
    if any(not context.is_constant(limit) for _, limit in present):
        calls, value = [], call.value
        for i, limit in present:
            last = i == present[-1][0]
            output = call.output if last else f"{call.output} above"
            calls.append(Call(("Max", "Min")[i], call.name, [value, limit], [output], {}))
            value = output
        return calls
    if opset >= 11:
        return [call]
    a = call.attributes
    limits = [
        _constant(context, call, key, a.get(key, rest), np.float32)
        for key, rest in (("min", -math.inf), ("max", math.inf))
    ]
    return [replace(call, inputs=[call.value, *limits], attributes={})]


def _slice(context: Context, opset: int, call: Call) -> list[Call]:
    if opset >= 10:
        return [call]
    a = call.attributes
    axes = a.get("axes", list(range(len(a["starts"]))))
    parts = [("starts", a["starts"]), ("ends", a["ends"]), ("axes", axes)]
    names = [_constant(context, call, key, value, np.int64) for key, value in parts]
    return [replace(call, inputs=[call.value, *names], attributes={})]


def _split(context: Context, opset: int, call: Call) -> list[Call]:
    if context.is_constant(call.value):
        return _cut(context, call)
    if opset >= 13 or "split" not in call.attributes:
        return [call]
    parts = _constant(context, call, "parts", call.attributes["split"], np.int64)
    return [
        replace(
            call,
            inputs=[call.value, parts],
            attributes=_without(call.attributes, "split"),
        )
    ]


def _cut(context: Context, call: Call) -> list[Call]:
    """Rewrite a split of a constant as slices, which are folded."""
    axis = int(call.get("axis", 0))
    size, outputs = context.shape(call.value)[axis], call.outputs
    if len(call.inputs) > 1 and call.inputs[1]:
        parts = np.ravel(context.constant(call.inputs[1], "parts")).tolist()
    else:
        each = -(-size // len(outputs))
        parts = call.get("split", [each] * len(outputs))
    ends = np.cumsum(parts)
    if len(parts) != len(outputs) or min(parts) < 1 or ends[-1] - parts[-1] >= size:
        raise Unsupported(f"it splits {size} into {parts}")
    cuts = []
    for output, part, end in zip(outputs, parts, ends, strict=True):
        limits = [
            _constant(context, call, f"{what} of {output}", [value], np.int64)
            for what, value in (("start", end - part), ("end", min(end, size)), ("axis", axis))
        ]
        if output:
            cuts.append(Call("Slice", call.name, [call.value, *limits], [output], {}))
    return cuts


def _reverse(context: Context, opset: int, call: Call) -> list[Call]:
    """Rewrite ReverseSequence, whose sequences must have the same length, as a Gather."""
    a, lengths = call.attributes, context.constant(call.inputs[1], "lengths of sequences")
    axis, shape = int(a.get("time_axis", 0)), context.shape(call.value)
    lengths = np.unique(lengths)
    if len(shape) < 2 or lengths.size != 1 or not 0 < lengths[0] <= shape[axis]:
        raise Unsupported("its sequences have lengths of their own; export without")
    context.spend(shape[axis])
    index = np.arange(shape[axis])
    index[: lengths[0]] = index[: lengths[0]][::-1].copy()
    order = _constant(context, call, "order", index, np.int64)
    return [replace(call, operator="Gather", inputs=[call.value, order], attributes={"axis": axis})]


def _pad(context: Context, opset: int, call: Call) -> list[Call]:
    if opset >= 11:
        return [call]
    a = call.attributes
    pads = _constant(context, call, "pads", a["pads"], np.int64)
    value = _constant(context, call, "value", a.get("value", 0.0), np.float32)
    inputs = [call.value, pads, value]
    return [replace(call, inputs=inputs, attributes=_without(a, "pads", "value"))]


def _softmax(context: Context, opset: int, call: Call) -> list[Call]:
    """Rewrite the Softmax of old opsets, which works over all dimensions from its axis on."""
    shape = context.shape(call.value)
    if opset >= 13:
        return [call]
    axis = int(call.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    if math.prod(shape[axis + 1 :]) == 1:
        return [replace(call, attributes={"axis": axis})]
    output = call.output
    flat, soft = f"{output} flat", f"{output} of it"
    there = _constant(context, call, "there", [*[0] * axis, -1], np.int64)
    back = _constant(context, call, "back", shape, np.int64)
    return [
        Call("Reshape", call.name, [call.value, there], [flat], {}),
        Call(call.operator, call.name, [flat], [soft], {"axis": -1}),
        Call("Reshape", call.name, [soft, back], [output], {}),
    ]


def _resize(context: Context, opset: int, call: Call) -> list[Call]:
    """Rewrite Upsample, and Resize before opset 11: by scales, from the lower neighbor.

    Where it makes an axis smaller, it takes the upper neighbor, as ONNX Runtime does.
    """
    if opset >= 11 and call.operator == "Resize":
        return [call]
    a, mode = call.attributes, call.get("mode", "nearest")
    scales = context.constant(call.inputs[1], "scales") if len(call.inputs) > 1 else a["scales"]
    if mode == "nearest" and np.min(scales, initial=1) < 1:
        parts = [("ceil", np.minimum(scales, 1)), ("floor", np.maximum(scales, 1))]
    else:
        parts = [("floor", scales)]
    calls, value = [], call.value
    for i, (way, part) in enumerate(parts, start=1):
        output = call.output if i == len(parts) else f"{call.output} smaller"
        inputs = [value, "", _constant(context, call, f"scales {way}", part, np.float32)]
        plain = {
            "mode": mode,
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": way,
        }
        calls.append(Call("Resize", call.name, inputs, [output], plain))
        value = output
    return calls


def _batch_norm(context: Context, opset: int, call: Call) -> list[Call]:
    if opset < 14 and any(call.outputs[1:]):  # the statistics of this batch
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    if not call.get("spatial", 1):
        raise Unsupported("it has statistics for each pixel; export it with spatial = 1")
    return [call]


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_norm,
    **INT8,
    **RECURRENT,
    "Clip": _clip,
    "Einsum": einsum,
    "LogSoftmax": _softmax,
    "Pad": _pad,
    "Resize": _resize,
    "ReverseSequence": _reverse,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "TopK": top_k,
    "Upsample": _resize,
}
