"""TopK by ranks: the number of elements of its row that come before each element."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.importer.calls import Calls
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, Context, shown
from gossamer.runtime.operators.unsupported import Unsupported

# Numbers of a row: each is compared with every other one.
LONGEST = 1 << 10


def top_k(context: Context, opset: int, call: Call) -> list[Call]:
    """Return the calls that compute TopK; the first of equal elements wins, as ONNX defines.

    NaN ranks as infinity does.
    """
    a, shape = call.attributes, context.shape(call.value)
    k = int(context.constant(call.inputs[1], "k").item()) if opset >= 10 else int(a["k"])
    axis, last = int(a.get("axis", -1)) % len(shape), len(shape) - 1
    size = shape[axis]
    if size % BATCH == 0 or not 1 <= k <= size <= LONGEST:
        raise Unsupported(f"it takes {k} along axis {axis} of {shown(shape)}; up to {LONGEST} run")
    context.spend(size * size + k)
    calls = Calls(context, call)
    if math.prod(shape) == 1:  # the only one, at a place that is known
        calls.result("Identity", call.value, call.output)
        if len(call.outputs) > 1 and call.outputs[1]:
            context.add_constant(call.outputs[1], np.zeros(shape, np.int64))
        return calls.all
    perm = list(range(len(shape)))
    perm[axis], perm[last] = last, axis
    row = call.value if axis == last else calls.add("Transpose", call.value, perm=perm)
    others = calls.add("Unsqueeze", row, [last])
    key = row
    if context.kind(call.value) == "f":
        key = calls.add("Where", calls.add("IsNaN", row), np.float32(np.inf), row)
    each, rivals = calls.add("Unsqueeze", key, [last + 1]), calls.add("Unsqueeze", key, [last])
    beyond = calls.add("Greater" if a.get("largest", 1) else "Less", rivals, each)
    earlier = calls.constant(np.tri(size, k=-1).astype(bool))
    tied = calls.add("And", calls.add("Equal", rivals, each), earlier)
    before = calls.add("Cast", calls.add("Or", beyond, tied), to=1)
    rank = calls.add("ReduceSum", before, [last + 1], keepdims=0)
    places = calls.constant(np.arange(k, dtype=np.float32)[:, None])
    chosen = calls.add("Equal", calls.add("Unsqueeze", rank, [last]), places)
    zero = calls.constant(np.zeros((), np.float32))
    numbers = calls.add("Where", chosen, others, zero)
    steps = calls.add("Mul", calls.add("Cast", chosen, to=1), np.arange(size, dtype=np.float32))
    results = [calls.add("ReduceSum", each, [last + 1], keepdims=0) for each in (numbers, steps)]
    results[1] = calls.add("Cast", results[1], to=7)
    for result, output in zip(results, call.outputs, strict=False):
        calls.result("Transpose", result, output, perm=perm)
    return calls.all
