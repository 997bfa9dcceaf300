"""Whole networks in 8 bits: our own, those of ONNX Runtime's quantizer, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from networks import Builder, norm, sparse
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from gossamer.errors import UserError
from gossamer.runtime import Engine, store_sparse
from gossamer.runtime.graph import whole
from gossamer.runtime.importer import read


def network(winners: bool, density: float = 0.3) -> Builder:
    """Two convolutions with batch norms and pools, two linear layers."""
    rng = np.random.default_rng(0)
    b = Builder(1, 16, 16)
    size, channels = 16, 1
    for outputs in (8, 16):
        b.add("Conv", b.last, sparse(rng, outputs, channels, 3, 3, density=density), pads=[1] * 4)
        b.add("BatchNormalization", b.last, *norm(rng, outputs))
        b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
        size, channels = size // 2, outputs
        if winners:
            b.winners(channels * size * size // 8, (channels, size, size))
        else:
            b.add("Relu", b.last)
    b.add("Flatten", b.last)
    for inputs, outputs in ((256, 64), (64, 10)):
        bias = rng.standard_normal(outputs).astype(np.float32)
        b.add("Gemm", b.last, sparse(rng, outputs, inputs, density=density), bias, transB=1)
        if outputs == 64:
            b.add("Relu", b.last)
    return b


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 1, 16, 16)).astype(np.float32)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but where the last bit of a sum turned a code, or a tie between winners."""
    off = np.abs(found - wanted) / np.abs(wanted).max()
    assert np.median(off) < 1e-3
    assert off.mean() < 0.01


@pytest.mark.parametrize("winners", [True, False], ids=["winners", "relu"])
@pytest.mark.parametrize("stored", ["dense", "sparse"])
def test_a_whole_network_computes_what_onnx_runtime_does(winners: bool, stored: str) -> None:
    model = network(winners).in_8_bits(0.03, np.uint8(0)).model()
    if stored == "sparse":
        model = store_sparse(onnx.ModelProto.FromString(model)).SerializeToString()
    x = images(9)
    wanted = networks.reference(model, x)
    engine = Engine(model, threads=1)
    layers = [node for node in engine.graph.nodes if "step" in node.constants]
    assert len(layers) == 4, "batch norms leave whole numbers"
    for node in layers:
        codes = whole(node)
        spread = node.constants["step"].reshape(-1, *[1] * (codes.ndim - 1))
        np.testing.assert_allclose(codes * spread, node.constants["weight"], rtol=1e-5)
    close(engine(x), wanted)
    close(np.concatenate([engine(each[None]) for each in x]), wanted)


def test_weights_take_a_byte() -> None:
    b, x = network(False, density=1.0), images(2)
    plain = sum(row.bytes for row in Engine(b.model(), threads=1).profile(x))
    eight = sum(row.bytes for row in Engine(b.in_8_bits(0.03).model(), threads=1).profile(x))
    assert eight < 0.5 * plain, "offsets and biases stay what they are"


@pytest.mark.parametrize("factor", [-0.5, 2.0])
def test_a_scale_behind_weights_of_the_lowest_code(factor: float) -> None:
    """Minus 128 has no opposite in a byte: such weights leave 8 bits."""
    b = Builder(2, 5, 5)
    codes = np.random.default_rng(0).integers(-128, 128, (3, 2, 3, 3)).astype(np.int8)
    codes[:, 0, 0, 0] = -128
    weight = b.add("DequantizeLinear", codes, np.float32([0.01, 0.02, 0.03]), axis=0)
    b.add("Conv", "x", weight)
    b.add("Mul", b.last, np.float32([factor, 0, 1]).reshape(1, 3, 1, 1))
    graph = read(b.model())
    (node,) = graph.nodes
    assert ("step" in node.constants) == (factor > 0)
    x = np.random.default_rng(1).standard_normal((2, 2, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(
        Engine(b.model(), threads=1)(x), networks.reference(b.model(), x), rtol=1e-5, atol=1e-5
    )


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [{"x": images(16)}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8], ids=str)
def test_what_onnx_runtime_quantized(
    per_channel: bool, activations: QuantType, tmp_path: Path
) -> None:
    """Zero points other than zero, biases in 32 bits, quantized sums and pools."""
    onnx.save(onnx.ModelProto.FromString(network(False).model()), tmp_path / "net.onnx")
    quantize_static(
        tmp_path / "net.onnx", tmp_path / "net8.onnx", Images(), quant_format=QuantFormat.QDQ,
        per_channel=per_channel, activation_type=activations, weight_type=QuantType.QInt8,
    )  # fmt: skip
    x = images(9)
    options = networks.session_options()
    session = onnxruntime.InferenceSession(tmp_path / "net8.onnx", options)
    (wanted,) = session.run(None, {"x": x})
    engine = Engine(tmp_path / "net8.onnx", threads=1)
    assert any(node.op == "round" for node in engine.graph.nodes)
    assert all("step" in n.constants for n in engine.graph.nodes if n.op in ("conv", "linear"))
    close(engine(x), wanted)


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8], ids=str)
def test_the_operators_on_codes_that_onnx_runtime_writes(
    activations: QuantType, tmp_path: Path
) -> None:
    rng, b = np.random.default_rng(0), Builder(1, 16, 16)
    first = b.add("Conv", "x", sparse(rng, 8, 1, 3, 3), noise(rng, 8), pads=[1] * 4)
    second = b.add("Conv", b.add("LeakyRelu", first), sparse(rng, 8, 8, 3, 3), pads=[1] * 4)
    gated = b.add("Mul", b.add("Add", first, second), b.add("Sigmoid", second))
    b.add("Concat", b.add("AveragePool", gated, kernel_shape=[2, 2]), b.last, axis=1)
    flat = b.add("Flatten", b.add("GlobalAveragePool", b.last))
    b.add("Softmax", b.add("Gemm", flat, sparse(rng, 10, 16), noise(rng, 10), transB=1))
    onnx.save(onnx.ModelProto.FromString(b.model()), tmp_path / "net.onnx")
    quantize_static(
        tmp_path / "net.onnx", tmp_path / "net8.onnx", Images(),
        quant_format=QuantFormat.QOperator, activation_type=activations,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    model = (tmp_path / "net8.onnx").read_bytes()
    nodes = onnx.ModelProto.FromString(model).graph.node
    names = ("Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid")
    wanted = {"QGemm", "QLinearSoftmax", *(f"QLinear{name}" for name in names)}
    assert {node.op_type for node in nodes if node.domain} == wanted
    x = images(9)
    close(Engine(model, threads=1)(x), networks.reference(model, x))


@pytest.mark.parametrize("zeros", [False, True])
def test_weights_with_steps_of_blocks(zeros: bool) -> None:
    rng, b = np.random.default_rng(0), Builder(10)
    codes = rng.integers(-128, 128, (10, 6)).astype(np.int8)
    grid = [0.01 + np.abs(noise(rng, 3, 6)), rng.integers(-9, 9, (3, 6)).astype(np.int8)]
    weight = b.add("DequantizeLinear", codes, *grid[: 1 + zeros], axis=0, block_size=4)
    b.add("MatMul", "x", weight)
    x, model = noise(rng, 2, 10), b.model(opset=21)
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(Engine(model, threads=1)(x), wanted, rtol=1e-4, atol=1e-3)


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def refused(b: Builder, *outputs: str) -> str:
    with pytest.raises(UserError) as told:
        read(b.model(*outputs))
    return str(told.value)


def test_unsupported_quantization_is_an_error() -> None:
    step, zero = np.float32(0.1), np.int8(0)
    b = Builder(8)
    b.add("QuantizeLinear", "x", step, zero)
    assert "is in 8 bits" in refused(b)
    b = Builder(2, 8)
    b.add("QuantizeLinear", "x", np.ones(2, np.float32), np.zeros(2, np.int8), axis=1)
    assert "several scales" in refused(b)
    b = Builder(8)
    b.add("QuantizeLinear", "x", np.float32(np.inf), zero)
    assert "its scale inf must be finite" in refused(b)
    b = Builder(8)
    weight = b.add("DequantizeLinear", np.ones((4, 8), np.int8), np.ones(3, np.float32), axis=0)
    b.add("Gemm", "x", weight, transB=1)
    assert "its scale has shape (3,)" in refused(b)


@pytest.mark.parametrize("zero", [np.int8(-7), np.uint8(130)])
def test_codes_are_integers_too(zero: Any) -> None:
    """Whatever reads them, and where they are dequantized by another grid."""
    b = Builder(8)
    step = np.float32(0.1)
    codes = b.add("QuantizeLinear", "x", step, zero)
    least = b.add("Max", b.add("Cast", codes, to=6), np.int32(3))
    other = b.add("DequantizeLinear", codes, np.float32(0.2), type(zero)(1))
    b.add("Add", b.add("Cast", least, to=1), other)
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32) * 9
    found = Engine(b.model(), threads=1)(x)
    np.testing.assert_allclose(found, networks.reference(b.model(), x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_codes_without_a_zero_point_have_the_type_that_the_file_names(dtype: Any) -> None:
    b = Builder(8)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    codes = b.add("QuantizeLinear", "x", np.float32(0.1), output_dtype=kind)
    b.add("DequantizeLinear", codes, np.float32(0.1))
    model = b.model(opset=21)
    x = np.array([[-1e4, -20, -3, -0.1, 0.1, 3, 20, 1e4]], np.float32)
    np.testing.assert_array_equal(Engine(model, threads=1)(x), networks.reference(model, x))


def test_codes_of_four_bits_are_refused() -> None:
    b = Builder(8)
    codes = b.add("QuantizeLinear", "x", np.float32(0.1), output_dtype=TensorProto.INT4)
    b.add("DequantizeLinear", codes, np.float32(0.1))
    with pytest.raises(UserError, match="no integers of 8 or 16 bits"):
        read(b.model(opset=21))


@pytest.mark.parametrize("weight", [np.int8(-128), np.uint8(200)])
def test_a_value_read_twice_and_weights_that_fill_a_byte_or_more(weight: np.generic) -> None:
    b = Builder(8)
    grid = np.float32(0.05), np.uint8(128)
    codes = b.add("QuantizeLinear", "x", *grid)
    left, right = (b.add("DequantizeLinear", codes, *grid) for _ in range(2))
    b.add("Add", left, right)
    weights = np.full((4, 8), weight)
    b.add("Gemm", b.last, b.add("DequantizeLinear", weights, np.float32(0.01)), transB=1)
    graph = read(b.model())
    assert ("step" in graph.nodes[-1].constants) == (weight == -128)
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    np.testing.assert_allclose(
        Engine(b.model(), threads=1)(x), networks.reference(b.model(), x), rtol=1e-5, atol=1e-5
    )
