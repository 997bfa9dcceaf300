"""RNN, GRU and LSTM, their states constant, computed or passed on, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.kernels._kernels import Program
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, planner
from gossamer.runtime.examples import Computer
from gossamer.runtime.graph import AnyNode
from gossamer.runtime.importer import read

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUTS, SIZE = 5, 4
ZERO = np.array([0])


def weights(b: Builder, operator: str, directions: int, *, bias: bool = True) -> list[str]:
    rng, wide = np.random.default_rng(0), GATES[operator] * SIZE
    shapes = [(wide, INPUTS), (wide, SIZE), (2 * wide,)][: 3 if bias else 2]
    arrays = [0.5 * rng.standard_normal((directions, *shape)) for shape in shapes]
    return [b.constant(array.astype(np.float32)) for array in arrays]


def outputs_of(model: bytes, *inputs: networks.Array) -> list[networks.Array]:
    session = onnxruntime.InferenceSession(model, networks.session_options())
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def agree(model: bytes, *inputs: networks.Array) -> None:
    results = Engine(model, threads=1)(*inputs)
    results = results if isinstance(results, list) else [results]
    for result, wanted in zip(results, outputs_of(model, *inputs), strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    operator=st.sampled_from(sorted(GATES)),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    steps=st.integers(1, 4),
    bias=st.booleans(),
    state=st.sampled_from(["none", "constant", "computed"]),
    reset=st.integers(0, 1),
    relu=st.booleans(),
)
@example(
    operator="GRU", direction="forward", steps=1, bias=False, state="none", reset=1, relu=False
)
def test_recurrent_layers(
    operator: str, direction: str, steps: int, bias: bool, state: str, reset: int, relu: bool
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    b = Builder(steps, INPUTS)
    turned = b.add("Transpose", "x", perm=[1, 0, 2])
    inputs = [turned, *weights(b, operator, directions, bias=bias)]
    states = 2 if operator == "LSTM" else 1
    if state != "none":
        inputs += [""] * (5 - len(inputs))
        first = b.add("ReduceMean", "x", np.array([1]), keepdims=0)
        for seed in range(states):
            if state == "constant":
                inputs.append(b.constant(np.zeros((directions, 3, SIZE), np.float32)))
                continue
            rows = np.random.default_rng(seed + 1).standard_normal((INPUTS, SIZE)) / 2
            value = b.add("Unsqueeze", b.add("MatMul", first, rows.astype(np.float32)), ZERO)
            inputs.append(b.add("Concat", *[value] * directions, axis=0))
    a: dict[str, Any] = {"direction": direction, "hidden_size": SIZE}
    if operator == "GRU":
        a["linear_before_reset"] = reset
    if relu:
        a["activations"] = {
            "RNN": ["Relu"], "GRU": ["Sigmoid", "Relu"], "LSTM": ["Sigmoid", "Tanh", "Relu"]
        }[operator] * directions  # fmt: skip
    names = ["all", "hidden", "cell"][: states + 1]
    b.nodes.append(helper.make_node(operator, inputs, names, **a))
    b.add("Transpose", "all", perm=[2, 0, 1, 3])
    every = b.add("Flatten", b.last)
    lasts = [b.add("Flatten", b.add("Transpose", name, perm=[1, 0, 2])) for name in names[1:]]
    x = np.random.default_rng(2).standard_normal((3, steps, INPUTS)).astype(np.float32)
    agree(b.model(every, *lasts), x)


@pytest.mark.parametrize("operator", ["GRU", "LSTM"])
def test_states_are_inputs_and_outputs(operator: str) -> None:
    """As streaming networks have them: a batch of one, in the second dimension of the states."""
    b = Builder(3, INPUTS, batch=1)
    states = ["h", "c"][: 2 if operator == "LSTM" else 1]
    b.inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, SIZE]) for name in states
    ]
    inputs = [b.add("Transpose", "x", perm=[1, 0, 2]), *weights(b, operator, 1), "", *states]
    results = ["all", *(f"{name} after" for name in states)]
    b.nodes.append(helper.make_node(operator, inputs, results, hidden_size=SIZE))
    output = b.add("Squeeze", "all", np.array([1]))
    rng = np.random.default_rng(0)
    shapes = [(1, 3, INPUTS), *[(1, 1, SIZE)] * len(states)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    agree(b.model(output, *results[1:]), *arrays)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("operator", sorted(GATES))
def test_a_fixed_sequence_is_first_where_no_batch_is(operator: str, batch: int) -> None:
    """The layout of the operator: steps, then the batch, all of which is one example here."""
    b = Builder(batch, INPUTS, batch=3)
    names = ["all", "hidden"]
    b.nodes.append(
        helper.make_node(operator, ["x", *weights(b, operator, 1)], names, hidden_size=SIZE)
    )
    x = np.random.default_rng(0).standard_normal((3, batch, INPUTS)).astype(np.float32)
    agree(b.model(b.add("Squeeze", "all", np.array([1])), "hidden"), x)


def test_planning_takes_up_each_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps are written out: their constants are one, and so are their programs."""
    b = Builder(40, INPUTS)
    inputs = [b.add("Transpose", "x", perm=[1, 0, 2]), *weights(b, "GRU", 1)]
    b.nodes.append(helper.make_node("GRU", inputs, ["all"], hidden_size=SIZE))
    b.add("Transpose", "all", perm=[2, 0, 1, 3])
    graph = read(b.model(b.add("Flatten", b.last)))
    layers = [node for node in graph.nodes if node.op == "linear"]
    assert len(layers) >= 40
    for name in ("weight", "bias"):
        arrays = [node.constants[name] for node in layers]
        assert len(set(map(id, arrays))) == len({array.tobytes() for array in arrays})
    made, program = [], Computer._program

    def spied(own: Computer, node: AnyNode, names: list[str]) -> Program:
        made.append(node.op)
        return program(own, node, names)

    monkeypatch.setattr(Computer, "_program", spied)
    planner.make(graph, chosen_isa(None), batches=False)
    assert 1 <= made.count("linear") <= 4


def test_a_packed_state_of_two_is_split_and_stacked() -> None:
    """As Silero's voice activity detector: [2, 1, size] in and out."""
    b = Builder(1, INPUTS, batch=1)
    b.inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 1, SIZE]))
    h, c = (b.add("Slice", "state", np.array([i]), np.array([i + 1]), ZERO) for i in range(2))
    inputs = ["x", *weights(b, "LSTM", 1), "", h, c]
    b.nodes.append(helper.make_node("LSTM", inputs, ["", "hn", "cn"], hidden_size=SIZE))
    state = b.add("Concat", "hn", "cn", axis=0)
    rng = np.random.default_rng(0)
    x, before = (rng.standard_normal((n, 1, m)) for n, m in ((1, INPUTS), (2, SIZE)))
    agree(b.model(state, "hn"), x.astype(np.float32), before.astype(np.float32))


def test_what_recurrent_layers_lack_is_named() -> None:
    for attributes, message in (
        ({"clip": 3.0}, "clip"),
        ({"activations": ["Affine", "Tanh", "Tanh"]}, "activations"),
    ):
        b = Builder(3, INPUTS)
        turned = b.add("Transpose", "x", perm=[1, 0, 2])
        b.add("LSTM", turned, *weights(b, "LSTM", 1), hidden_size=SIZE, **attributes)
        with pytest.raises(UserError, match=rf"LSTM.*{message}"):
            Engine(b.model())


@pytest.mark.parametrize("constant", [True, False])
def test_a_first_state_of_another_width_is_refused(constant: bool) -> None:
    """As in the files that torch writes of an LSTM with a projection."""
    b = Builder(3, INPUTS)
    turned = b.add("Transpose", "x", perm=[1, 0, 2])
    wide = b.constant(np.zeros((1, 1, 2 * SIZE), np.float32))
    if not constant:
        wide = b.add(
            "Transpose", b.add("Slice", "x", ZERO, np.array([1]), np.array([1])), perm=[1, 0, 2]
        )
    right = b.constant(np.zeros((1, 1, SIZE), np.float32))
    b.add("LSTM", turned, *weights(b, "LSTM", 1), "", right, wide, hidden_size=SIZE)
    with pytest.raises(UserError, match=rf"first state has .*, its weights are for {SIZE}"):
        Engine(b.model())


@pytest.mark.parametrize("operator", sorted(GATES))
def test_sequences_of_lengths_that_are_an_input(operator: str) -> None:
    b = Builder(4, INPUTS)
    b.inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"]))
    inputs = [b.add("Transpose", "x", perm=[1, 0, 2]), *weights(b, operator, 2), "lengths"]
    b.nodes.append(helper.make_node(operator, inputs, ["all", "last"], hidden_size=SIZE,
                                    direction="bidirectional"))  # fmt: skip
    results = [
        b.add("Transpose", "all", perm=[2, 0, 1, 3]),
        b.add("Transpose", "last", perm=[1, 0, 2]),
    ]
    x = np.random.default_rng(0).standard_normal((3, 4, INPUTS)).astype(np.float32)
    agree(b.model(*results), x, np.array([4, 1, 3], np.int32))


@settings(max_examples=12, deadline=None)
@given(
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    dtype=st.sampled_from([np.int8, np.uint8]),
    per_channel=st.booleans(),
    state=st.sampled_from(["none", "zero", "input"]),
    bias=st.booleans(),
)
@example(direction="forward", dtype=np.uint8, per_channel=True, state="input", bias=True)
def test_the_lstm_of_onnxruntime_with_weights_of_8_bits(
    direction: str, dtype: type, per_channel: bool, state: str, bias: bool
) -> None:
    directions, rng, wide = 2 if direction == "bidirectional" else 1, np.random.default_rng(0), 16
    low, high, zero = (-127, 128, 0) if dtype is np.int8 else (0, 256, 119)

    def codes(*shape: int) -> str:
        return b.constant(rng.integers(low, high, (directions, *shape)).astype(dtype))

    def grid() -> list[str]:
        size = (directions, wide) if per_channel else (directions,)
        scale = rng.uniform(0.002, 0.01, size).astype(np.float32)
        return [b.constant(scale), b.constant(np.full(size, zero, dtype))]

    b = Builder(4, INPUTS)
    turned = b.add("Transpose", "x", perm=[1, 0, 2])
    inputs = [turned, codes(INPUTS, wide), codes(SIZE, wide), "", "", "", "", ""]
    if bias:
        inputs[3] = b.constant(rng.standard_normal((directions, 2 * wide)).astype(np.float32))
    if state == "zero":
        inputs[5:7] = [b.constant(np.zeros((directions, 1, SIZE), np.float32))] * 2
    if state == "input":  # both from what the network is passed
        mean = b.add("ReduceMean", "x", np.array([1]), keepdims=0)
        first = b.add("Unsqueeze", b.add("Slice", mean, ZERO, ZERO + SIZE, ZERO + 1), ZERO)
        inputs[5:7] = [b.add("Concat", *[first] * directions, axis=0)] * 2
    outputs = ["all", "hidden", "cell"]
    b.nodes.append(
        helper.make_node(
            "DynamicQuantizeLSTM",
            [*inputs, *grid(), *grid()],
            outputs,
            domain="com.microsoft",
            hidden_size=SIZE,
            direction=direction,
        )
    )
    results = [b.add("Transpose", "all", perm=[2, 0, 1, 3])]
    results += [b.add("Transpose", each, perm=[1, 0, 2]) for each in outputs[1:]]
    model = onnx.load_from_string(b.model(*results))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x = rng.standard_normal((1, 4, INPUTS)).astype(np.float32)
    agree(model.SerializeToString(), x)
