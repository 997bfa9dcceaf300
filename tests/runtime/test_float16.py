"""Networks in half precision, computed in float32: ONNX Runtime's results within its rounding."""

from __future__ import annotations

from collections.abc import Callable

import networks
import numpy as np
import onnx
import pytest
from networks import Builder
from onnx import TensorProto, helper, numpy_helper

from gossamer.runtime import Engine

Make = Callable[[np.random.Generator, int], Builder]


def convolutional(rng: np.random.Generator, kind: int) -> Builder:
    b = Builder(3, 8, 8)
    b.add("Conv", "x", rng.standard_normal((8, 3, 3, 3)) / 4, rng.standard_normal(8), pads=[1] * 4)
    scale, bias, mean, variance = rng.uniform(0.5, 2, (4, 8))
    b.add("BatchNormalization", b.last, scale, bias, mean, variance)
    b.add("Relu", b.last)
    b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    b.add("Clip", b.last, np.array(-6.0), np.array(6.0))
    b.add("GlobalAveragePool", b.last)
    b.add("Flatten", b.last)
    b.add("Gemm", b.last, rng.standard_normal((5, 8)), rng.standard_normal(5), transB=1)
    return b


def attention(rng: np.random.Generator, kind: int) -> Builder:
    b = Builder(6, 8)
    normed = b.add("LayerNormalization", "x", rng.uniform(0.5, 2, 8), rng.standard_normal(8))
    query, key, value = (b.add("MatMul", normed, rng.standard_normal((8, 8)) / 2) for _ in "qkv")
    turned = b.add("Transpose", key, perm=[0, 2, 1])
    scores = b.add("Mul", b.add("MatMul", query, turned), np.array(0.35))
    mask = np.where(np.tri(6, dtype=bool), 0, np.finfo(np.float16).min)
    b.add("Cast", b.add("Add", scores, mask), to=TensorProto.FLOAT)
    weights = b.add("Cast", b.add("Softmax", b.last, axis=-1), to=kind)
    b.add("Add", b.add("MatMul", weights, value), "x")
    b.add("Erf", b.last)
    return b


def of_type(b: Builder, kind: int) -> bytes:
    """The network with inputs, constants and outputs of one element type."""
    b.constants = [
        helper.make_tensor(each.name, kind, each.dims, numpy_helper.to_array(each).ravel().tolist())
        for each in b.constants
    ]
    model = onnx.load_from_string(b.model())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    return model.SerializeToString()


@pytest.mark.parametrize(("make", "shape"), [(convolutional, (2, 3, 8, 8)), (attention, (2, 6, 8))])
def test_a_network_in_half_precision(make: Make, shape: tuple[int, ...]) -> None:
    model = of_type(make(np.random.default_rng(0), TensorProto.FLOAT16), TensorProto.FLOAT16)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float16)
    wanted = networks.reference(model, x)
    assert wanted.dtype == np.float16
    for given in (x, x.astype(np.float32)):
        result = Engine(model, threads=1)(given)
        np.testing.assert_allclose(result, wanted, rtol=1e-2, atol=1e-2)


def test_bfloat16_is_its_weights_rounded() -> None:
    """ONNX Runtime computes few operators of this type: so the oracle is the float32 network."""
    b = attention(np.random.default_rng(0), TensorProto.BFLOAT16)
    model = of_type(b, TensorProto.BFLOAT16)
    for each in b.constants:
        each.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float32), each.name)
        )
    for node in b.nodes:
        for attribute in node.attribute:
            if attribute.name == "to":
                attribute.i = TensorProto.FLOAT
    x = np.random.default_rng(1).standard_normal((2, 6, 8)).astype(np.float32)
    wanted = networks.reference(b.model(), x)
    np.testing.assert_allclose(Engine(model, threads=1)(x), wanted, rtol=1e-5, atol=1e-5)
