"""Loops and branches that are written out, and inputs and outputs of a single number."""

from __future__ import annotations

import math
from typing import Any

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from networks import Builder
from onnx import TensorProto, helper, numpy_helper

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
STRING = TensorProto.STRING


def noise(*shape: int) -> networks.Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def info(name: str, kind: int = FLOAT, shape: list[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def agree(model: bytes, *inputs: Any) -> None:
    """Values, shapes and types as ONNX Runtime's."""
    session = onnxruntime.InferenceSession(model, networks.session_options())
    names = [value.name for value in session.get_inputs()]
    expected = session.run(None, dict(zip(names, inputs, strict=True)))
    found = Engine(model, threads=1)(*inputs)
    found = found if isinstance(found, list) else [found]
    for result, wanted in zip(found, expected, strict=True):
        assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


def body(*, condition: str | None = None) -> onnx.GraphProto:
    """state -> tanh(state w + x[round]), whose rounds are stacked; it may count to a limit."""
    nodes = [
        helper.make_node("Gather", ["steps", "round"], ["now"], axis=0),
        helper.make_node("MatMul", ["state", "w"], ["product"]),
        helper.make_node("Add", ["product", "now"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["after"]),
        helper.make_node("Add", ["count", "one"], ["counted"]),
        helper.make_node("Less", ["counted", "limit"], ["less"]),
        helper.make_node("Identity", ["going"], ["same"]),
    ]
    weight = numpy_helper.from_array(0.5 * noise(4, 4), "w")
    one = numpy_helper.from_array(np.array(1, np.int64), "one")
    inputs = [
        info("round", INT64, []),
        info("going", BOOL, []),
        info("state"),
        info("count", INT64),
    ]
    outputs = [info(condition or "same", BOOL), info("after"), info("counted", INT64), info("now")]
    return helper.make_graph(nodes, "body", inputs, outputs, [weight, one])


def loop(trips: int | None, *, condition: str | None = None, batch: int | None = None) -> bytes:
    b = Builder(5, 4) if batch is None else Builder(5, 4, batch=batch)
    b.nodes.append(helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]))
    start = b.add("Gather", "x", np.array(0), axis=1)
    b.constants.append(numpy_helper.from_array(np.array(3, np.int64), "limit"))
    limit = "" if trips is None else b.constant(np.array(trips, np.int64))
    going = b.constant(np.array(True))
    inputs = [limit, going, start, b.constant(np.array(0, np.int64))]
    outputs = ["state after", "rounds", "rows"]
    b.nodes.append(helper.make_node("Loop", inputs, outputs, body=body(condition=condition)))
    rows = b.add("Transpose", "rows", perm=[1, 0, 2])
    return b.model("state after", rows)


@pytest.mark.parametrize(
    ("trips", "condition"), [(5, None), (1, None), (None, "less"), (5, "less"), (2, "less")]
)
@pytest.mark.parametrize("batch", [None, 1])
def test_loops_of_constant_rounds(trips: int | None, condition: str | None, batch: int) -> None:
    agree(loop(trips, condition=condition, batch=batch), noise(batch or 3, 5, 4))


def test_a_loop_within_a_loop_and_a_branch_within_it() -> None:
    """Names of inner graphs are there again in each round."""

    def branch(operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["mid"], ["chosen"])
        return helper.make_graph([node], operator, [], [info("chosen")])

    inner = helper.make_graph(
        [
            helper.make_node("Mul", ["in", "half"], ["mid"]),
            helper.make_node("Equal", ["i", "outer i"], ["same"]),
            helper.make_node("If", ["same"], ["chosen out"], then_branch=branch("Tanh"),
                             else_branch=branch("Relu")),
            helper.make_node("Identity", ["c"], ["c out"]),
        ],
        "inner",
        [info("i", INT64, []), info("c", BOOL, []), info("in")],
        [info("c out", BOOL), info("chosen out")],
    )  # fmt: skip
    outer = helper.make_graph(
        [
            helper.make_node("Loop", ["two", "", "v"], ["v after"], body=inner),
            helper.make_node("Identity", ["d"], ["d out"]),
        ],
        "outer",
        [info("outer i", INT64, []), info("d", BOOL, []), info("v")],
        [info("d out", BOOL), info("v after")],
    )
    b = Builder(6)
    b.constants += [
        numpy_helper.from_array(np.float32(-0.9), "half"),
        numpy_helper.from_array(np.array(2, np.int64), "two"),
    ]
    b.add("Neg", "x")
    b.nodes.append(helper.make_node("Loop", ["two", "", b.last], ["y"], body=outer))
    agree(b.model("y"), noise(3, 6))


def test_loops_that_cannot_be_written_out_are_refused() -> None:
    b = Builder(4)
    b.nodes.append(helper.make_node("Identity", ["x"], ["state"]))
    going = b.add("Cast", b.add("ReduceMax", "x", np.array([1]), keepdims=0), to=BOOL)
    graph = helper.make_graph(
        [], "body", [info("i", INT64, []), info("c", BOOL, []), info("v")],
        [info("c", BOOL), info("v")],
    )  # fmt: skip
    b.nodes.append(helper.make_node("Loop", ["", going, "state"], ["y"], body=graph))
    with pytest.raises(UserError, match=r"Loop.*number of iterations is computed; only a const"):
        read(b.model("y"))
    b = Builder(4)
    b.nodes.append(helper.make_node("Loop", ["", "", "x"], ["y"], body=graph))
    with pytest.raises(UserError, match=r"Loop.*too many iterations to unroll"):
        read(b.model("y"))
    b.nodes[-1] = helper.make_node("Loop", ["", "", "x", "x"], ["y"], body=graph)
    with pytest.raises(UserError, match=r"Loop.*other inputs or outputs"):
        read(b.model("y"))


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_whose_condition_is_an_input(flag: bool) -> None:
    """As voice activity detectors choose by the sample rate: both are computed, one is taken."""

    def branch(name: str, factor: float) -> onnx.GraphProto:
        by = numpy_helper.from_array(np.float32(factor), "by")
        node = helper.make_node("Mul", ["x", "by"], ["scaled"])
        return helper.make_graph([node], name, [], [info("scaled")], [by])

    b = Builder(5, batch=1)
    b.inputs.append(info("rate", INT64, []))
    b.add("Equal", "rate", np.array(16000))
    b.add("If", b.last, then_branch=branch("then", 2.0), else_branch=branch("else", -3.0))
    rate = np.array(16000 if flag else 8000)
    agree(b.model(), noise(1, 5), rate)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_fixed_value_chooses_a_branch(rate: int) -> None:
    """Where the branches make different shapes, or one of them cannot run at all."""

    def branch(name: str, *inputs: str) -> onnx.GraphProto:
        node = helper.make_node("Concat", inputs, ["y"], axis=1)
        return helper.make_graph([node], name, [], [info("y")])

    b = Builder(5, batch=1)
    b.inputs.append(info("rate", INT64, []))
    b.add("Equal", "rate", np.array(16000))
    b.add("If", b.last, then_branch=branch("once", "x"), else_branch=branch("twice", "x", "x"))
    with pytest.raises(UserError, match=r"fix the value of input 'rate' \(values, or --value\)"):
        read(b.model())
    engine, x = Engine(b.model(), threads=1, values={"rate": rate}), noise(1, 5)
    assert engine.graph.inputs == ["x"]
    np.testing.assert_array_equal(engine(x), x if rate == 16000 else np.hstack([x, x]))


def test_a_condition_after_many_doublings_is_refused_at_once() -> None:
    def branch(name: str, *inputs: str) -> onnx.GraphProto:
        node = helper.make_node("Concat", inputs, ["y"], axis=1)
        return helper.make_graph([node], name, [], [info("y")])

    b = Builder(5, batch=1)
    b.inputs.append(info("rate", FLOAT, []))
    value = "rate"
    for _ in range(60):  # 2 ** 60 ways from the condition back to the input
        value = b.add("Add", value, value)
    b.add("Greater", value, np.array(1, np.float32))
    b.add("If", b.last, then_branch=branch("once", "x"), else_branch=branch("twice", "x", "x"))
    with pytest.raises(UserError, match="fix the value of input 'rate'"):
        read(b.model())


def test_a_branch_without_a_condition_is_refused() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    b = Builder(5, batch=1)
    branches = {name: helper.make_graph([node], name, [], [info("y")]) for name in ("a", "b")}
    b.add("If", then_branch=branches["a"], else_branch=branches["b"])
    with pytest.raises(UserError, match="it has no condition"):
        read(b.model())


def test_a_fixed_value_says_how_often_a_loop_goes_round() -> None:
    b = Builder(3, batch=1)
    b.inputs.append(info("rounds", INT64, []))
    node = [helper.make_node("Add", ["state", "state"], ["doubled"])]
    node.append(helper.make_node("Identity", ["going"], ["on"]))
    inputs = [info("round", INT64, []), info("going", BOOL, []), info("state")]
    graph = helper.make_graph(node, "body", inputs, [info("on", BOOL, []), info("doubled")])
    b.add("Loop", "rounds", "", "x", body=graph)
    with pytest.raises(UserError, match="only a constant one can run; fix the value of input 'rou"):
        read(b.model())
    x = noise(1, 3)
    np.testing.assert_array_equal(Engine(b.model(), threads=1, values={"rounds": 3})(x), 8 * x)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, "a value for input 'rat', which does not exist: did you mean 'rate'"),
        ({"rate": 0.5}, r"the value 0.5 does not fit input 'rate', which is int64 \[\]"),
        ({"rate": [1, 2]}, r"does not fit input 'rate', which is int64 \[\]"),
        ({"rate": "fast"}, "the value fast does not fit input 'rate'"),
        ({"rate": [[1, 2], [3]]}, r"the value \[\[1, 2\], \[3\]\] does not fit input 'rate'"),
        ({"rate": math.nan}, "the value nan does not fit input 'rate'"),
        ({"x": [1, 2, 3]}, r"does not fit input 'x', which is float32 \[1, 5\]"),
        ({"x": [1, 2, 3, 4, 1e300]}, r"does not fit input 'x', which is float32 \[1, 5\]"),
        ({"name": 1}, "the value 1 does not fit input 'name', which is not of numbers"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    b = Builder(5, batch=1)
    b.inputs += [info("rate", INT64, []), info("name", STRING, [])]
    b.add("Mul", "x", b.add("Cast", "rate", to=FLOAT))
    with pytest.raises(UserError, match=message):
        read(b.model(), values=values)


def test_numbers_of_no_dimensions() -> None:
    b = Builder(5, batch=1)
    b.inputs.append(info("by", FLOAT, []))
    most = b.add("ReduceMax", "x", keepdims=0)
    b.nodes.append(helper.make_node("Mul", [most, "by"], ["scaled"]))
    spread = b.add("Clip", "x", "scaled")
    agree(b.model(spread, "scaled"), noise(1, 5), np.array(-0.7, np.float32))
    engine = Engine(b.model(spread, "scaled"), threads=1)
    assert [x.shape for x in engine.noise()] == [(1, 5), ()]
    b = Builder(5)
    b.inputs.append(info("by", FLOAT, []))
    model = b.model(b.add("Mul", "x", "by"))
    with pytest.raises(UserError, match="'by' is one number for all examples: fix the batch"):
        read(model)


def test_outputs_of_integers_and_truths() -> None:
    b = Builder(2, 6)
    place = b.add("ArgMax", "x", axis=2, keepdims=0)
    small = b.add("Cast", b.add("Mul", place, np.array(77)), to=TensorProto.UINT8)
    signed = b.add("Cast", b.add("Mul", place, np.array(-77)), to=TensorProto.INT8)
    truth = b.add("Greater", "x", np.float32(0.1))
    model = onnx.load_from_string(b.model(place, small, signed, truth))
    for value, kind in zip(model.graph.output, (INT64, TensorProto.UINT8, TensorProto.INT8, BOOL),
                           strict=True):  # fmt: skip
        value.type.tensor_type.elem_type = kind
    agree(model.SerializeToString(), noise(3, 2, 6))
