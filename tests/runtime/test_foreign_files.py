"""Files that other tools write, or nobody should: right as the standard says, or refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import pytest
from networks import Builder, sparse
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from test_importer import external
from test_operators import check, noise

from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine, store_sparse
from gossamer.runtime.importer import read
from gossamer.runtime.onnx_functions import k_winners_functions


def refused(model: bytes | onnx.ModelProto) -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(UserError) as error:
        read(data)
    return str(error.value)


def proto(b: Builder, *outputs: str, **settings: Any) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(b.model(*outputs, **settings))


# Versions of the standard


@pytest.mark.parametrize("opset", [13, 14, 16, 17, 19, 21])
def test_every_opset_that_is_accepted_runs(opset: int) -> None:
    b = Builder(3, 8, 8)
    b.add("Conv", "x", sparse(np.random.default_rng(0), 6, 3, 3, 3), pads=[1, 1, 1, 1])
    b.add("BatchNormalization", b.last, *networks.norm(np.random.default_rng(1), 6))
    b.add("AveragePool", b.add("Relu", b.last), kernel_shape=[2, 2], strides=[2, 2])
    b.add("Squeeze", b.add("Unsqueeze", b.last, np.array([2])), np.array([2]))
    b.add("Softmax", b.add("Reshape", b.last, np.array([0, -1])))
    x = noise(0, 2, 3, 8, 8)
    model = b.model(opset=opset)
    np.testing.assert_allclose(
        Engine(model, threads=1)(x), networks.reference(model, x), rtol=1e-4, atol=1e-6
    )


def test_opsets_that_are_refused() -> None:
    b = Builder(3)
    b.add("Relu", "x")
    for opset, message in [
        (0, "opset 0 is too old.*opset 7 or"),
        (999, "opset 999 is newer than"),
    ]:
        with pytest.raises(UserError, match=message):
            read(b.model(opset=opset))
    model = proto(b)
    del model.opset_import[:]
    assert "does not say which opset" in refused(model)


# Functions


def chain(length: int) -> onnx.ModelProto:
    """Functions of which each calls the one before."""
    b = Builder(3)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)]
    for i in range(length):
        inner, domain = ("Neg", "") if i == 0 else (f"F{i - 1}", "other")
        node = helper.make_node(inner, ["a"], ["b"], domain=domain)
        b.functions.append(helper.make_function("other", f"F{i}", ["a"], ["b"], [node], imports))
    b.add(f"F{length - 1}", "x", domain="other")
    model = proto(b)
    model.opset_import.append(helper.make_opsetid("other", 1))
    return model


def test_functions_within_functions() -> None:
    x = noise(0, 2, 3)
    np.testing.assert_array_equal(Engine(chain(100).SerializeToString(), threads=1)(x), -x)
    assert "more than 100 deep" in refused(chain(101))
    model = chain(3)
    model.functions[0].node[0].op_type = "F2"
    model.functions[0].node[0].domain = "other"
    assert "calls itself" in refused(model)


def test_a_body_under_our_name_is_what_runs() -> None:
    """A function that is called as ours and computes something else is not taken for it."""
    b = Builder(6)
    b.functions.append(k_winners_functions()[0])
    b.add("KWinners", "x", np.ones(6, np.float32), domain="gossamer", k=2)
    x = noise(0, 2, 6)
    assert np.count_nonzero(Engine(b.model(), threads=1)(x)) == 4
    body = b.functions[0]
    for node in body.node:
        node.name, node.doc_string = "any", "name"
        for name in (*node.input, *node.output):
            assert name
    assert np.count_nonzero(Engine(b.model(), threads=1)(x)) == 4
    other = helper.make_node("Mul", ["X", "boost"], ["Y"])
    del body.node[:]
    body.node.append(other)
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), x)
    body.node[0].op_type = "Mod"
    assert "(Mod): the engine runs it on constants only" in refused(b.model())

    stored = Builder(20)
    stored.add("MatMul", "x", sparse(np.random.default_rng(0), 20, 30, density=0.1))
    model = store_sparse(proto(stored))
    x = noise(0, 2, 20)
    read(model.SerializeToString())
    (body,) = (f for f in model.functions if f.name == "Sparse")
    next(node for node in body.node if node.op_type == "Add").op_type = "Mul"
    assert "no such operator" in refused(model)


# Sizes, attributes and types


@pytest.mark.parametrize("rank", [33, 62, 126, 200])
def test_ranks_that_numpy_cannot_hold(rank: int) -> None:
    axes = np.arange(1, rank)
    for op, argument in [("Unsqueeze", axes), ("Reshape", np.array([0, 2, *[1] * (rank - 2)]))]:
        b = Builder(2)
        b.add(op, "x", argument)
        assert "dimensions; 32 at most" in refused(b.model())
    b = Builder(2)
    b.add("Add", "x", b.add("Squeeze", b.add("Unsqueeze", np.ones(2, np.float32), axes), axes))
    assert "dimensions" in refused(b.model())
    b = Builder(*[1] * rank)
    b.add("Relu", "x")
    assert "32 at most" in refused(b.model())


def test_a_weight_taken_for_axes() -> None:
    b = Builder(2)
    b.add("Unsqueeze", "x", np.ones((300, 300), np.float32))
    assert "90000 dimensions" in refused(b.model())


def test_thirty_two_dimensions_run() -> None:
    b = Builder(2, 3)
    b.add("Unsqueeze", "x", np.arange(2, 31))
    b.add("Mul", b.last, noise(0, *[1] * 29, 3))
    b.add("Transpose", b.last, perm=[0, *range(31, 0, -1)])
    check(b.model(), noise(1, 2, 2, 3))


def test_five_dimensions_against_a_constant() -> None:
    """Dimensions that lie together are one loop of the kernel, which has four."""
    b = Builder(2, 3, 2, 3, 4)
    b.add("Mul", "x", noise(0, 2, 3, 2, 3, 4))
    b.add("Add", b.last, noise(1, 2, 3, 1, 1, 4))
    b.add("Add", b.last, b.add("ReduceMean", b.last, np.array([2, 3])))
    check(b.model(), noise(2, 2, 2, 3, 2, 3, 4))
    b = Builder(2, 3, 2, 3, 4)
    b.add("Mul", "x", noise(0, 2, 1, 2, 1, 4))
    b.add("Add", b.last, noise(1, 1, 3, 1, 3, 1))
    assert "along too many dimensions" in refused(b.model())


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Gemm", [np.eye(3, dtype=np.float32)], {"alpha": -math.inf}, "'alpha' is -inf"),
        ("Gemm", [np.eye(3, dtype=np.float32) * 1e30], {"alpha": 1e30}, "beyond float32"),
        ("ReduceMean", [np.array([1])], {"keepdims": 7}, "'keepdims' is 7; it must be 0 or 1"),
        ("Cast", [], {"to": TensorProto.DOUBLE}, "casts to float64"),
        ("Mod", [np.float32(2)], {}, "on constants only"),
        ("Reshape", [np.array([1000003, 3, 6])], {}, r"reshapes \[batch, 3\] to \[batch, 3, 6\]"),
        ("Pow", ["x"], {"to": 1, "axis": 3}, ""),
    ],
)
def test_messages(op: str, inputs: list[Any], attributes: dict[str, Any], message: str) -> None:
    b = Builder(3)
    b.add(op, "x", *inputs, **attributes)
    if not message:
        read(b.model())
        return
    with pytest.raises(UserError, match=message):
        read(b.model())


def test_outputs_that_the_engine_does_not_compute() -> None:
    b = Builder(4)
    node = helper.make_node("LayerNormalization", ["x", b.constant(np.ones(4, np.float32))],
                            ["y", "mean"], name="norm")  # fmt: skip
    b.nodes.append(node)
    assert "'mean' is a further output of node 'norm'" in refused(b.model("y", "mean"))
    b.add("Relu", "mean")
    assert "'mean' is a further output of node 'norm'" in refused(b.model("y"))
    b = Builder(4)
    b.add("Relu", "x")
    b.nodes.append(helper.make_node("Shape", ["x"], ["size"]))
    assert "'size' is the same for all inputs" in refused(b.model("v0", "size"))


@pytest.mark.parametrize(
    ("op", "size"), [("ConstantOfShape", 1 << 30), ("Tile", 1 << 20), ("Expand", 1 << 30)]
)
def test_bombs(op: str, size: int) -> None:
    b = Builder(4)
    inputs = {
        "ConstantOfShape": [np.array([size])],
        "Tile": [np.ones((1, 100), np.float32), np.array([size, 1])],
        "Expand": [np.ones(1, np.float32), np.array([size, 4])],
    }[op]
    b.add("Add", "x", b.add(op, *inputs))
    assert "too many for this file" in refused(b.model())
    if op == "Expand":  # of a value
        b = Builder(1, 4)
        b.add("Expand", "x", np.array([1, size, 4]))
        assert "too large" in refused(b.model())


# Numbers and where they lie


def test_raw_data_beside_float_data() -> None:
    """The raw bytes count, as in ONNX Runtime."""
    b = Builder(2)
    b.add("Add", "x", np.array([1, 2], np.float32))
    model = proto(b)
    model.graph.initializer[0].float_data.extend([7.0, 8.0])
    x = noise(0, 1, 2)
    np.testing.assert_array_equal(
        Engine(model.SerializeToString(), threads=1)(x), x + np.array([[1, 2]], np.float32)
    )


def test_links_of_a_cache(tmp_path: Path) -> None:
    """Hugging Face's cache: model and data are links into a folder of blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    weight = np.array([[1, 2], [3, 4]], np.float32)
    (blobs / "a").write_bytes(external("model.onnx_data").SerializeToString())
    (blobs / "b").write_bytes(weight.tobytes())
    (tmp_path / "secret").write_bytes(weight.tobytes())
    (snapshot / "model.onnx").symlink_to("../../blobs/a")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/b")
    found = Engine(snapshot / "model.onnx", threads=1)(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(found, [[3, 7]])
    (snapshot / "model.onnx_data").unlink()
    (snapshot / "model.onnx_data").symlink_to("../../secret")
    with pytest.raises(UserError, match="not a file in the model's folder"):
        read(snapshot / "model.onnx")
    (blobs / "a").write_bytes(external("../../blobs/b").SerializeToString())
    with pytest.raises(UserError, match="not a file in the model's folder"):
        read(snapshot / "model.onnx")


def test_external_data_of_a_length_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.eye(2, dtype=np.float32).tobytes())
    path = tmp_path / "model.onnx"
    for length, fits in [("16", True), (str(1 << 40), False), ("8", False), ("-1", False)]:
        model = external("weights.bin")
        model.graph.initializer[0].external_data.add(key="length", value=length)
        path.write_bytes(model.SerializeToString())
        if fits:
            read(path)
        else:
            with pytest.raises(UserError, match="takes 16 bytes, its external data says"):
                read(path)
    with pytest.raises(UserError, match=r"\(a folder, not a file; give .*model\.onnx\)"):
        read(tmp_path)


@pytest.mark.parametrize("order", ["big-endian", "fortran", "reversed", "read-only", "strided"])
def test_inputs_in_any_memory(order: str) -> None:
    b = Builder(3, 4)
    b.add("MatMul", "x", sparse(np.random.default_rng(0), 4, 5))
    engine, x = Engine(b.model(), threads=1), noise(0, 6, 3, 4)
    changed = {
        "big-endian": x.astype(">f4"),
        "fortran": np.asfortranarray(x),
        "reversed": np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
        "read-only": x.copy(),
        "strided": np.repeat(x, 2, axis=2)[..., ::2],
    }[order]
    changed.flags.writeable = False
    np.testing.assert_array_equal(engine(changed), engine(x))


def test_a_file_of_one_example_at_another_batch() -> None:
    b = Builder(3, batch=1)
    b.add("Relu", "x")
    b.add("MatMul", b.last, sparse(np.random.default_rng(0), 3, 4))
    engine, x = Engine(b.model(), threads=1), noise(0, 3, 3)
    one_by_one = np.concatenate([engine(x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(engine(x), one_by_one, rtol=1e-6)
    np.testing.assert_allclose(engine(x.astype(np.float64)), one_by_one, rtol=1e-6)
    x[1, 0] = np.nan
    assert np.isnan(engine(x)).any(axis=1).tolist() == [False, True, False]


# Values


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(
    ("size", "pads"), [(7, [1, 1, 1, 1]), (8, [0, 1, 1, 0]), (6, [1, 0, 0, 1])]
)
def test_average_pool_with_ceil_mode(size: int, pads: list[int], include: int) -> None:
    b = Builder(3, size, size)
    b.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=1,
          count_include_pad=include)  # fmt: skip
    model, x = b.model(opset=19), noise(0, 2, 3, size, size)
    check(model, x)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(Engine(model, threads=1)(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_to_the_same_size_where_none_is_needed(auto_pad: str) -> None:
    """Strides beyond the window ask for fewer than no pads; ONNX Runtime cuts the image."""
    x, weight = noise(1, 2, 2, 7, 7), noise(0, 3, 2, 1, 1)
    b = Builder(2, 7, 7)
    b.add("Conv", "x", weight, auto_pad=auto_pad, strides=[4, 4], kernel_shape=[1, 1])
    expected = ReferenceEvaluator(b.model()).run(None, {"x": x})[0]
    np.testing.assert_allclose(Engine(b.model(), threads=1)(x), expected, rtol=1e-5)
    b = Builder(2, 7, 7)
    b.add("MaxPool", "x", auto_pad=auto_pad, strides=[4, 4], kernel_shape=[1, 1])
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), x[:, :, ::4, ::4])


def test_int8_channels_of_zeros() -> None:
    rng = np.random.default_rng(0)
    weight = sparse(rng, 8, 3, 3, 3)
    weight[[0, 5]] = 0
    b = Builder(3, 8, 8)
    b.add("Conv", "x", weight)
    b.add("Relu", b.last)
    b.add("Conv", b.last, sparse(rng, 4, 8, 1, 1))
    check(b.in_8_bits(0.03).model(), noise(0, 2, 3, 8, 8), candidates=4)


def test_transposed_convolution_with_a_step_for_each_channel() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    steps = np.array([0.01, 0.02, 0.005], np.float32)
    b = Builder(4, 5, 5)
    value = b.rounded("x", 0.05, np.int8(0))
    weight = b.add("DequantizeLinear", codes, steps, np.zeros(3, np.int8), axis=1)
    b.add("ConvTranspose", value, weight, strides=[2, 2])
    check(b.model(), noise(0, 2, 4, 5, 5), candidates=4)


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(5), np.uint8(0), np.uint8(7)], ids=repr)
def test_nan_becomes_the_lowest_code(zero: Any) -> None:
    """Whatever kernel comes after: whole numbers have no NaN."""
    b = Builder(12)
    b.add("Sqrt", "x")
    codes = np.random.default_rng(0).integers(-127, 128, (12, 9)).astype(np.int8)
    steps = np.full(9, 0.01, np.float32)
    weight = b.add("DequantizeLinear", codes, steps, np.zeros(9, np.int8), axis=1)
    b.add("MatMul", b.rounded("v0", 0.05, zero), weight)
    check(b.model(), noise(0, 3, 12), candidates=9)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("op", ["MaxPool", "GlobalMaxPool", "ReduceMax"])
def test_a_maximum_with_nan_is_nan(op: str, before: bool, isa: str) -> None:
    """As in PyTorch, also where a convolution takes the pool in."""
    pooled = {"kernel_shape": [2, 2], "strides": [2, 2]} if op == "MaxPool" else {}
    b = Builder(4, 6, 6)
    b.add("Sqrt", "x")
    if before:
        b.add("Conv", b.last, noise(0, 8, 4, 1, 1))
    b.add(op, b.last, *([np.array([2, 3])] if op == "ReduceMax" else []), **pooled)
    x = np.abs(noise(0, 2, 4, 6, 6))
    x[1, :, 1, 2] = x[1, :, 4, 5] = -1
    there = np.isnan(Engine(b.model(), threads=1, isa=isa)(x))[1, 0]
    wanted = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 1]]) if op == "MaxPool" else np.ones((1, 1))
    np.testing.assert_array_equal(there, wanted)
    assert there.sum() == wanted.sum()


def test_a_norm_with_an_infinite_factor_is_not_folded() -> None:
    """An infinite weight times zero is NaN, where the sum times the factor is infinite."""
    one = np.ones(3, np.float32)
    scale = np.array([1, np.inf, 3e38], np.float32)
    b = Builder(2, 4, 4)
    b.add("Conv", "x", np.abs(noise(0, 3, 2, 3, 3)) + 1)
    b.add("BatchNormalization", b.last, scale, one, one * 0, one * 0.5)
    x = np.abs(noise(1, 2, 2, 4, 4))
    x[:, 0, 0] = 0
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(b.model()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(np.isnan(Engine(b.model(), threads=1)(x)), np.isnan(expected))


def test_an_int8_layer_before_a_norm_with_an_infinite_factor() -> None:
    """Its steps do not survive the norm, for weights of zero neither."""
    codes = np.random.default_rng(2).integers(1, 128, (4, 3, 3, 3)).astype(np.int8)
    codes[3] = 0
    scale, one = np.array([1, np.inf, 1e38, 3e38], np.float32), np.ones(4, np.float32)
    b = Builder(3, 5, 5)
    weight = b.add("DequantizeLinear", codes, np.array([0.1, 2, 50, 50], np.float32), axis=0)
    b.add("Conv", b.rounded("x", 0.05, np.int8(0)), weight)
    b.add("BatchNormalization", b.last, scale, one, one * 0, one)
    x = np.abs(noise(1, 2, 3, 5, 5))
    x[:, :, 0] = 0
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(b.model(opset=21)).run(None, {"x": x})[0]
    found = Engine(b.model(opset=21), threads=1)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, equal_nan=True)
    assert not np.isfinite(expected[:, 1:3]).all()
    assert np.isfinite(expected[:, [0, 3]]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("gamma", [1e30, -1e30, 1e-30])
def test_a_layer_norm_of_huge_and_tiny_weights(isa: str, gamma: float) -> None:
    scale = np.full(9, gamma, np.float32)
    scale[4] = 1
    b = Builder(5, 9)
    b.add("LayerNormalization", "x", scale, noise(1, 9))
    x = noise(0, 3, 5, 9)
    found = Engine(b.model(), threads=1, isa=isa)(x)
    for expected in (
        networks.reference(b.model(), x), ReferenceEvaluator(b.model()).run(None, {"x": x})[0]
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
