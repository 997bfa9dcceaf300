"""RNN, GRU and LSTM, unrolled.

One layer multiplies the inputs of all steps; the part that depends on the previous state is
repeated for each step. Initial states may be constants, inputs of the network, or computed.

ONNX Runtime's own LSTM of 8 bits quantizes its input by the range of all steps, and the state
before each step by its range, as ``DynamicQuantizeLinear`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gossamer.runtime.importer.calls import Calls
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, floats, shown
from gossamer.runtime.operators.int8 import dequantize_constant
from gossamer.runtime.operators.unsupported import Unsupported

# Numbers that a step costs of those that a file may ask for (``Context.free``).
STEP = 1 << 12

INT8_LSTM = "com.microsoft.DynamicQuantizeLSTM"

# By ONNX's names in lower case; those with numbers of their own are refused.
ACTIVATIONS = {each.lower(): each for each in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")}

Weights = dict[str, str]  # constants of one direction
Functions = list[str]  # its activations, as ONNX orders them
# (calls, products with the step's input, states before, ...) -> states after
Cell = Callable[[Calls, list[str], list[str], Weights, Functions], list[str]]


def _rnn(calls: Calls, x: list[str], states: list[str], w: Weights, f: Functions) -> list[str]:
    return [calls.add(f[0], calls.add("Add", x[0], calls.add("MatMul", states[0], w["r"])))]


def _int8_lstm(
    calls: Calls, x: list[str], states: list[str], w: Weights, f: Functions
) -> list[str]:
    hidden, cell = states
    if not calls.context.is_constant(hidden):
        hidden = _rounded(calls, hidden)
    elif np.any(calls.context.array(hidden)):
        raise Unsupported("its first state is a constant other than zero; pass it as an input")
    return _lstm(calls, x, [hidden, cell], w, f)


def _rounded(calls: Calls, value: str) -> str:
    """Quantize a value by its range, and dequantize it."""
    codes = [f"{value} {part}" for part in ("codes", "scale", "zero point")]
    calls.all.append(Call("DynamicQuantizeLinear", calls.call.name, [value], codes, {}))
    return calls.add("DequantizeLinear", *codes)


def _lstm(calls: Calls, x: list[str], states: list[str], w: Weights, f: Functions) -> list[str]:
    hidden, cell = states
    size = calls.context.shape(w["r"])[0]
    sums = calls.add("Add", x[0], calls.add("MatMul", hidden, w["r"]))
    gates, new = calls.split(sums, [3 * size, size])
    enter, leave, keep = calls.split(calls.add(f[0], gates), [size] * 3)
    entered = calls.add("Mul", enter, calls.add(f[1], new))
    cell = calls.add("Add", calls.add("Mul", keep, cell), entered)
    return [calls.add("Mul", leave, calls.add(f[2], cell)), cell]


def _gru(calls: Calls, x: list[str], states: list[str], w: Weights, f: Functions) -> list[str]:
    (hidden,), (gates, new) = states, x
    size = calls.context.shape(w["r"])[0]
    after = bool(calls.call.get("linear_before_reset"))
    sums = calls.add("MatMul", hidden, w["gates"])
    update, reset = calls.split(calls.add(f[0], calls.add("Add", gates, sums)), [size] * 2)
    if after:  # the reset gates what the state adds
        added = calls.add("Add", calls.add("MatMul", hidden, w["new"]), w["bias"])
        added = calls.add("Mul", reset, added)
    else:
        added = calls.add("MatMul", calls.add("Mul", reset, hidden), w["new"])
    new = calls.add(f[1], calls.add("Add", new, added))
    carried = calls.add("Mul", update, calls.add("Sub", hidden, new))
    return [calls.add("Add", new, carried)]


def _weights(calls: Calls, direction: int, gates: int) -> tuple[str, str, Weights]:
    """Return weight and bias of the layer on all inputs, and the constants of the steps."""
    context, inputs = calls.context, [*calls.call.inputs, "", ""]
    if calls.call.operator == INT8_LSTM:
        weight, state = (_dequantized(calls, direction, *at) for at in ((1, 8, 9), (2, 10, 11)))
    else:
        weight, state = (
            calls.constant(floats(context.constant(inputs[i], "weight")[direction]).T.copy())
            for i in (1, 2)
        )
    (_, inner), (size, wide) = context.shape(weight), context.shape(state)
    if not inner == wide == gates * size:
        raise Unsupported(f"its weights have {inner} and {wide} outputs for a state of {size}")
    bias = np.zeros(2 * wide, np.float32)
    if inputs[3]:
        bias = floats(context.constant(inputs[3], "bias"))[direction]
    own, others = bias.reshape(2, wide)
    bias = own + others
    weights = {"r": state}
    if gates == 3:
        r = context.array(state).T
        weights["gates"] = calls.constant(r[: 2 * size].T.copy())
        weights["new"] = calls.constant(r[2 * size :].T.copy())
        weights["bias"] = calls.constant(others[2 * size :])
        if calls.call.get("linear_before_reset"):
            bias[2 * size :] = own[2 * size :]
    return weight, calls.constant(bias), weights


def _dequantized(calls: Calls, direction: int, *inputs: int) -> str:
    """Return a weight [inputs, outputs] of the codes, scale and zero point of all directions."""
    names = [
        calls.constant(calls.context.constant(calls.call.inputs[i], "weight")[direction])
        for i in inputs
    ]
    output = f"{names[0]} in floats"
    dequantize_constant(
        calls.context, Call("DequantizeLinear", calls.call.name, names, [output], {"axis": 1})
    )
    return output


def _state(calls: Calls, position: int, direction: int, size: int) -> str:
    """Return the initial state, [batch, size] or, if constant, [1, size]."""
    context, layout = calls.context, int(calls.call.get("layout", 0))
    value = dict(enumerate(calls.call.inputs)).get(position, "")
    width = context.shape(value)[-1] if value else size
    if width != size:  # as torch exports an nn.LSTM with proj_size, and drops its projection
        raise Unsupported(
            f"its first state has {width} numbers, its weights are for {size}; nn.LSTM is exported "
            "wrongly with proj_size: use an nn.Linear behind it"
        )
    if value and not context.is_constant(value):
        return calls.add("Gather", value, direction, axis=layout)
    rows = np.zeros((1, size), np.float32)
    if value:
        rows = floats(context.array(value)).take(direction, layout)
        rows = rows if np.any(rows) else np.zeros((1, size), np.float32)
    return calls.constant(rows)


def _alive(calls: Calls, lengths: str, steps: int) -> str:
    """Return a mask [batch, steps] of the steps that are within the sequences' lengths.

    Beyond its length a sequence keeps its state and its outputs are zero, in both directions.
    """
    return calls.add("Greater", calls.add("Unsqueeze", lengths, [1]), np.arange(steps)[None])


def _functions(call: Call, direction: int, default: Sequence[str]) -> Functions:
    names = [name.lower() for name in call.get("activations", [])] or [*default] * 2
    chosen = names[direction * len(default) :][: len(default)]
    if len(chosen) < len(default) or not set(chosen) <= set(ACTIVATIONS):
        raise Unsupported(f"its activations are {chosen}; {', '.join(ACTIVATIONS.values())} run")
    return [ACTIVATIONS[name] for name in chosen]


def recurrent(cell: Cell, gates: int, activations: Sequence[str]) -> Callable[..., list[Call]]:
    def rule(context: Context, opset: int, call: Call) -> list[Call]:
        a, shape = call.attributes, context.shape(call.value)
        layout, states = int(a.get("layout", 0)), 1 if cell in (_rnn, _gru) else 2
        steps = shape[layout]
        lengths = call.inputs[4] if len(call.inputs) > 4 else ""
        fixed = bool(lengths) and context.is_constant(lengths)
        if fixed and np.all(context.array(lengths) == steps):
            lengths = ""
        if lengths and (fixed or cell is _int8_lstm):
            raise Unsupported("its sequences have lengths of their own; export without")
        if "clip" in a or a.get("input_forget") or any(call.inputs[7:8]):
            raise Unsupported("it has a clip, peepholes or coupled gates; export without")
        context.free -= STEP * steps
        if len(shape) != 3 or context.free < 0:
            raise Unsupported(f"it takes {shown(shape)}, too many steps to unroll")
        calls = Calls(context, call)
        mask = _alive(calls, lengths, steps) if lengths else ""
        alive = calls.split(mask, [1] * steps) if mask else []
        x = call.value if layout else calls.add("Transpose", call.value, perm=[1, 0, 2])
        factor = _rounded(calls, x) if cell is _int8_lstm else x
        ways = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}
        outputs: list[str] = []
        last: list[list[str]] = [[] for _ in range(states)]
        for direction, way in enumerate(ways[a.get("direction", "forward")]):
            weight, bias, weights = _weights(calls, direction, gates)
            size = context.shape(weights["r"])[0]
            # The products of all steps in one row, cut into what each of them takes.
            products = calls.add("Add", calls.add("MatMul", factor, weight), bias)
            sizes = [2 * size, size] if cell is _gru else [gates * size]
            row = calls.add("Reshape", products, [0, steps * gates * size])
            pieces = calls.split(row, sizes * steps)
            functions = _functions(call, direction, activations)
            now = [_state(calls, 5 + i, direction, size) for i in range(states)]
            hidden = []
            for step in range(steps)[::way]:
                before, first = now, step * len(sizes)
                now = cell(calls, pieces[first : first + len(sizes)], now, weights, functions)
                if alive:
                    pairs = zip(now, before, strict=True)
                    now = [calls.add("Where", alive[step], new, old) for new, old in pairs]
                hidden.append(now[0])
            row = calls.add("Concat", *hidden[::way], axis=1)
            output = calls.add("Reshape", row, [0, steps, 1, size])
            if mask:
                rows = calls.add("Unsqueeze", mask, [2, 3])
                output = calls.add("Where", rows, output, np.zeros((), np.float32))
            outputs.append(output)
            for each, state in zip(last, now, strict=True):
                each.append(calls.add("Unsqueeze", state, [1]))
        results = [calls.add("Concat", *outputs, axis=2)]
        results += [calls.add("Concat", *each, axis=1) for each in last]
        for i, (result, output) in enumerate(zip(results, call.outputs, strict=False)):
            if layout:
                calls.result("Identity", result, output)
            else:
                calls.result("Transpose", result, output, perm=[1, 0, 2] if i else [1, 2, 0, 3])
        return calls.all

    return rule


RECURRENT = {
    INT8_LSTM: recurrent(_int8_lstm, 4, ("sigmoid", "tanh", "tanh")),
    "GRU": recurrent(_gru, 3, ("sigmoid", "tanh")),
    "LSTM": recurrent(_lstm, 4, ("sigmoid", "tanh", "tanh")),
    "RNN": recurrent(_rnn, 1, ("tanh",)),
}
