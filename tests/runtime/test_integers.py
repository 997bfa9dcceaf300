"""Integer and boolean inputs, embeddings, comparisons and choices, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
from onnx import TensorProto, helper

from gossamer.deploy.torch_graph import TorchGraph
from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

KINDS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}
SHAPE = (2, 3, 5)


class Builder(networks.Builder):
    """Inputs of several types: ``Builder(x="f", ids="i")``, all of the same shape."""

    def __init__(self, *shape: int, **inputs: str) -> None:
        super().__init__(*shape)
        self.inputs = [
            helper.make_tensor_value_info(name, KINDS[kind], ["batch", *shape])
            for name, kind in inputs.items()
        ]

    def floats(self, value: str) -> bytes:
        """The model whose output is ``value`` as floats."""
        self.add("Cast", value, to=TensorProto.FLOAT)
        return self.model()


def values(model: bytes, batch: int, seed: int = 0) -> list[Any]:
    """Few different values, so that comparisons meet equal ones."""
    rng = np.random.default_rng(seed)
    graph = read(model)
    found = []
    for name in graph.inputs:
        shape = (batch, *graph.shapes[name][1:])
        kind = graph.dtypes.get(name, np.dtype(np.float32))
        drawn = rng.integers(0, 2, shape) if kind.kind == "b" else rng.integers(-4, 5, shape)
        found.append(drawn.astype(kind))
        if kind.kind == "f":
            found[-1] = found[-1] / 2
    return found


def check(model: bytes, *inputs: Any) -> None:
    wanted = networks.reference(model, *inputs)
    for isa in ISAS:
        np.testing.assert_allclose(
            Engine(model, threads=1, isa=isa)(*inputs), wanted, rtol=1e-5, atol=1e-6
        )
    torch = pytest.importorskip("torch")
    (found,) = TorchGraph(read(model))(*map(torch.from_numpy, inputs))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kinds", ["ff", "ii"])
@pytest.mark.parametrize("side", ["values", "left", "right"])
@pytest.mark.parametrize(
    "op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Min", "Max", "Div", "Sub"]
)
def test_two_operands(op: str, side: str, kinds: str) -> None:
    constant = np.array([[1], [2], [-1]], np.float32 if kinds == "ff" else np.int64)
    b = Builder(*SHAPE, x=kinds[0], **({"y": kinds[1]} if side == "values" else {}))
    operands: list[Any] = {"values": ["x", "y"], "left": [constant, "x"], "right": ["x", constant]}[
        side
    ]
    model = b.floats(b.add(op, *operands))
    inputs = values(model, 3)
    if op == "Div" and side != "right":
        inputs[-1] = np.where(inputs[-1] == 0, 1, inputs[-1]).astype(inputs[-1].dtype)
    check(model, *inputs)


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Not"])
def test_truth(op: str) -> None:
    b = Builder(*SHAPE, **({"x": "b"} if op == "Not" else {"x": "b", "y": "b"}))
    model = b.floats(b.add(op, *(["x"] if op == "Not" else ["x", "y"])))
    check(model, *values(model, 2))


@pytest.mark.parametrize("given", ["both", "first", "second", "neither", "condition"])
def test_choices_keep_infinities(given: str) -> None:
    """Also those that are not chosen: they must not become NaN."""
    b = Builder(*SHAPE, c="b", x="f", y="f")
    condition: Any = np.array([True, False, True, True, False]) if given == "condition" else "c"
    low: Any = "y" if given in ("second", "neither", "condition") else np.float32(-np.inf)
    one: Any = "x" if given in ("first", "neither", "condition") else np.array([[2.0], [3], [-0.0]],
                                                                         np.float32)  # fmt: skip
    model = Builder.model(b, b.add("Where", condition, one, low))
    inputs = values(model, 3)
    inputs[1][0, 0], inputs[2][1, 1] = np.inf, -np.inf
    check(model, *inputs)


@pytest.mark.parametrize("to", ["f", "i", "b"])
@pytest.mark.parametrize("kind", ["f", "i", "b"])
def test_casts(kind: str, to: str) -> None:
    b = Builder(*SHAPE, x=kind)
    model = b.floats(b.add("Cast", "x", to=KINDS[to]))
    check(model, *values(model, 2))


@pytest.mark.parametrize(
    "op", ["Abs", "Celu", "Elu", "Mish", "Selu", "Softplus", "Softsign", "Reciprocal", "IsNaN"]
)
def test_functions_of_one_value(op: str) -> None:
    b = Builder(*SHAPE, x="f")
    model = b.floats(b.add(op, "x")) if op == "IsNaN" else b.model(b.add(op, "x"))
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32) * 8
    if op == "IsNaN":
        x[0, 0, 0, 0] = np.nan
    check(model, x)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5])
def test_powers(exponent: float) -> None:
    b = Builder(*SHAPE, x="f")
    b.add("Pow", "x", np.float32(exponent))
    check(b.model(), np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32))


def test_leaky_by_channel() -> None:
    b = Builder(*SHAPE, x="f")
    b.add("PRelu", "x", np.array([0.1, -2.0], np.float32).reshape(2, 1, 1))
    check(b.model(), *values(b.model(), 2))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("axes", [[1], [-1], [1, 3], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(op: str, axes: list[int], keep: int) -> None:
    b = Builder(*SHAPE, x="f")
    b.add(op, "x", np.array(axes, np.int64), keepdims=keep)
    check(b.model(), *values(b.model(), 3))


def test_class_token_and_expanded_mask() -> None:
    """Constants beside a value along an axis; a mask of another shape than the value's."""
    b = Builder(4, 6, x="f")
    token = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    b.add("Shape", "x", start=0, end=1)
    sizes = b.add("Concat", b.last, np.array([1, 6]), axis=0)
    first, last = b.add("Expand", token, sizes), b.add("Expand", -token, sizes)
    b.add("Concat", first, "x", last, axis=1)
    b.add("ReduceMax", b.last, np.array([1], np.int64), keepdims=1)
    b.add("Expand", b.last, np.array([1, 5, 1], np.int64))
    b.add("Mul", b.last, np.arange(30, dtype=np.float32).reshape(1, 5, 6))
    check(b.model(), *values(b.model(), 3))


def embedding(rows: int = 9) -> bytes:
    b = Builder(7, ids="i")
    table = np.random.default_rng(0).standard_normal((rows, 6)).astype(np.float32)
    b.add("Gather", table, "ids")
    b.add("MatMul", b.last, np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32))
    return b.model()


@pytest.mark.parametrize("batch", [1, 5])
def test_embedding(batch: int) -> None:
    rng = np.random.default_rng(2)
    check(embedding(), rng.integers(-9, 9, (batch, 7)))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("each", [(), (3,), (2, 3)])
def test_entries_of_a_table(each: tuple[int, ...], dtype: type) -> None:
    """Numbers, rows or matrices; ids count from the end where they are negative."""
    table = np.random.default_rng(0).integers(-9, 9, (11, *each)).astype(dtype)
    b = Builder(*SHAPE, ids="i")
    model = b.floats(b.add("Gather", table, "ids"))
    check(model, *values(model, 3))


def test_embedding_is_the_same_for_any_threads() -> None:
    ids = np.random.default_rng(2).integers(0, 9, (5, 7)).astype(np.int32)
    one = Engine(embedding(), threads=1)
    np.testing.assert_array_equal(one(ids), Engine(embedding(), threads=3, plan=one.plan)(ids))


@pytest.mark.parametrize("bad", [9, -10])
def test_ids_beyond_the_table(bad: int) -> None:
    with pytest.raises(UserError, match=rf"'ids' holds {bad}; its embedding has the rows 0 to 8"):
        Engine(embedding())(np.full((1, 7), bad))


def test_floats_for_ids() -> None:
    with pytest.raises(UserError, match="'ids' holds float32; pass a int64 array"):
        Engine(embedding())(np.zeros((1, 7), np.float32))


def test_integers_that_float32_cannot_hold() -> None:
    b = Builder(3, x="i")
    engine = Engine(b.floats("x"))
    np.testing.assert_array_equal(engine(np.full((1, 3), 1 << 24)), np.full((1, 3), 2.0**24))
    with pytest.raises(UserError, match="integers beyond 16777216"):
        engine(np.full((1, 3), (1 << 24) + 1))
    b = Builder(3, x="i")
    model = b.floats(b.add("Add", "x", np.array((1 << 24) + 1)))
    with pytest.raises(UserError, match="not exact in float32"):
        read(model)


def test_an_output_of_integers() -> None:
    b = Builder(3, x="i")
    b.add("Add", "x", np.array(1))
    found = Engine(b.model(), threads=1)(np.array([[1, -2, 3]]))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [[2, -1, 4]])


def test_noise_fits_the_table() -> None:
    (ids,) = Engine(embedding()).noise(4)
    assert ids.dtype == np.int64
    assert ids.shape == (4, 7)
    assert np.isin(ids, np.arange(9)).all()
