"""Files of older opsets, operators that stand for several, and branches known beforehand."""

from __future__ import annotations

import math
from typing import Any

import networks
import numpy as np
import onnx
import pytest
from networks import Builder
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read


def noise(*shape: int) -> networks.Array:
    return np.random.default_rng(math.prod(shape)).standard_normal(shape).astype(np.float32)


def agree(model: bytes, x: networks.Array, tolerance: float = 1e-5) -> None:
    found = Engine(model, threads=1)(x)
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=tolerance)


IMAGE = (4, 6, 8)
ONE = np.abs(noise(4)) + 0.5
# Opset, operator, constants, attributes: what later opsets write otherwise.
OLDER: list[tuple[int, str, list[Any], dict[str, Any]]] = [
    (7, "Clip", [], {"min": -0.5, "max": 0.7}),
    (10, "Clip", [], {"max": 0.2}),
    (7, "Slice", [], {"starts": [1, 0], "ends": [4, -2], "axes": [1, 3]}),
    (9, "Slice", [], {"starts": [0, 1], "ends": [(1 << 63) - 1, 3]}),
    (7, "Pad", [], {"pads": [0, 0, 1, 2, 0, 1, 0, 0], "value": 0.5}),
    (10, "Pad", [], {"pads": [0, 0, 1, 2, 0, 0, 1, 0], "mode": "reflect"}),
    (7, "Softmax", [], {}),
    (11, "Softmax", [], {"axis": 2}),
    (12, "Softmax", [], {"axis": -1}),
    (12, "LogSoftmax", [], {"axis": 1}),
    (7, "Upsample", [], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    (9, "Upsample", [np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}),
    (10, "Resize", [np.array([1, 1, 1.5, 2], np.float32)], {}),
    (10, "Resize", [np.array([1, 1, 0.5, 2], np.float32)], {"mode": "linear"}),
    (10, "Resize", [np.array([1, 1, 0.6, 0.3], np.float32)], {}),
    (10, "Resize", [np.array([1, 1, 0.6, 1.7], np.float32)], {}),
    (7, "BatchNormalization", [ONE, ONE, noise(4), ONE], {}),
    (9, "BatchNormalization", [ONE, ONE, noise(4), ONE], {"momentum": 0.5}),
    (7, "ReduceSum", [], {"axes": [1, 3], "keepdims": 0}),
    (11, "Unsqueeze", [], {"axes": [2]}),
    (7, "AveragePool", [], {"kernel_shape": [2, 3], "pads": [1, 1, 0, 0]}),
    (7, "Dropout", [], {"ratio": 0.5}),
    (8, "Sum", [noise(4, 6, 8)], {}),
    (8, "Max", [np.float32(0.1)], {}),
]


@pytest.mark.parametrize(("opset", "op", "constants", "attributes"), OLDER)
def test_older_opsets(
    opset: int, op: str, constants: list[Any], attributes: dict[str, Any]
) -> None:
    b = Builder(*IMAGE)
    b.add(op, b.add("Relu", "x"), *constants, **attributes)
    agree(b.model(opset=opset), noise(3, *IMAGE))


def test_an_older_split() -> None:
    b = Builder(6)
    node = helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[2, 4])
    b.nodes.append(node)
    b.last = b.add("Softmax", "b")
    agree(b.model(opset=11), noise(3, 6))


def test_older_training_is_refused() -> None:
    b = Builder(*IMAGE)
    b.add("BatchNormalization", "x", ONE, ONE, noise(4), ONE)
    b.nodes[-1].output.extend(["mean", "variance"])
    with pytest.raises(UserError, match="training mode"):
        read(b.model(opset=9))


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("Sum", [noise(6, 8), noise(4, 1, 1)], {}),
        ("Mean", [noise(4, 6, 8), noise(8), noise(1)], {}),
        ("Min", [], {}),
        ("Tile", [np.array([1, 2, 1, 3])], {}),
        ("SpaceToDepth", [], {"blocksize": 2}),
        ("GroupNormalization", [noise(4), noise(4)], {"num_groups": 2}),
        ("Slice", [np.array([0]), np.array([(1 << 63) - 1]), np.array([0])], {}),
        ("RMSNormalization", [noise(6, 8)], {"axis": 2, "epsilon": 1e-3}),
    ],
)
def test_operators_made_of_others(
    op: str, constants: list[Any], attributes: dict[str, Any]
) -> None:
    b = Builder(*IMAGE)
    b.add(op, b.add("Relu", "x"), *constants, **attributes)
    x, model = noise(3, *IMAGE), b.model(opset=23)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(Engine(model, threads=1)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_normalization_over_neighboring_channels(size: int) -> None:
    b = Builder(*IMAGE)
    b.add("LRN", "x", size=size, alpha=0.5, beta=0.6, bias=1.5)
    agree(b.model(), noise(3, *IMAGE))


def test_the_first_of_equal_minima() -> None:
    b = Builder(5)
    b.add("Cast", b.add("ArgMin", "x", axis=1, keepdims=0), to=1)
    x = np.array([[3, 1, 2, 1, 4], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1]], np.float32)
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), [1, 0, 4])


def codes(*shape: int, dtype: type = np.int8) -> networks.Array:
    limits = np.iinfo(dtype)
    return np.random.default_rng(0).integers(limits.min, limits.max, shape).astype(dtype)


def test_layers_on_numbers_in_8_bits() -> None:
    """A convolution, a sum of its image's rows and a product, all on codes."""
    b = Builder(2, 6, 6)
    first = (np.float32(0.02), np.uint8(120))
    b.add("QuantizeLinear", "x", *first)
    steps = np.array([0.01, 0.002, 0.02], np.float32)
    bias = np.array([10, -500, 0], np.int32)
    second = (np.float32(0.05), np.uint8(100))
    b.add(
        "QLinearConv", b.last, *first, codes(3, 2, 3, 3), steps, np.zeros(3, np.int8), *second, bias
    )
    b.add("Reshape", b.last, np.array([0, 48]))
    third = (np.float32(0.2), np.uint8(128))
    b.add("QLinearMatMul", b.last, *second, codes(48, 5), np.float32(0.01), np.int8(3), *third)
    b.add("DequantizeLinear", b.last, *third)
    model, x = b.model(), noise(4, 2, 6, 6)
    found, expected = Engine(model, threads=1)(x), networks.reference(model, x)
    assert np.abs(found - expected).max() <= 0.2001  # a code, where the last bit of a sum decides
    assert np.mean(found == expected) > 0.9
    assert len(np.unique(expected)) > 10


def test_products_of_integers() -> None:
    b = Builder(2, 5, 5)
    b.add("QuantizeLinear", "x", np.float32(0.02), np.uint8(120))
    b.add("ConvInteger", b.last, codes(3, 2, 3, 3, dtype=np.uint8), np.uint8(120), np.uint8(7))
    b.add("Cast", b.last, to=1)
    agree(b.model(), noise(3, 2, 5, 5))
    b = Builder(7)
    b.add("QuantizeLinear", "x", np.float32(0.02), np.int8(-3))
    b.add("MatMulInteger", b.last, codes(7, 4), np.int8(-3), np.int8(2))
    b.add("Mul", b.add("Cast", b.last, to=1), np.float32(0.02))
    agree(b.model(), noise(3, 7))


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_that_is_known_beforehand(condition: bool) -> None:
    def branch(op: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Mul", ["v0", f"by {op}"], [f"{op} scaled"]),
            helper.make_node(op, [f"{op} scaled"], [f"{op} done"]),
        ]
        by = numpy_helper.from_array(np.float32(0.5), f"by {op}")
        out = helper.make_tensor_value_info(f"{op} done", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, op, [], [out], [by])

    b = Builder(6)
    b.add("Gemm", "x", noise(5, 6), transB=1)
    same = b.add("Equal", b.add("Shape", "x", start=1), np.array([6 if condition else 7]))
    b.add("Squeeze", same)
    b.add("If", b.last, then_branch=branch("Tanh"), else_branch=branch("Relu"))
    agree(b.model(b.add("Neg", b.last)), noise(3, 6))


def test_branches_of_other_shapes_that_depend_on_values_are_refused() -> None:
    def branch(operator: str, **attributes: Any) -> onnx.GraphProto:
        node = helper.make_node(operator, ["x"], ["done"], **attributes)
        out = helper.make_tensor_value_info("done", TensorProto.FLOAT, None)
        return helper.make_graph([node], operator, [], [out])

    b = Builder(6, batch=1)
    truth = b.add("Cast", b.add("ReduceMax", "x", keepdims=0), to=TensorProto.BOOL)
    b.add("If", truth, then_branch=branch("Neg"), else_branch=branch("ReduceMax", keepdims=1))
    with pytest.raises(UserError, match=r"If.*condition is computed.*\[1, 6\] and \[1, 1\]"):
        read(b.model())


def test_sequences_backwards_and_elements_scattered() -> None:
    b = Builder(5, 3)
    turned = b.add("Transpose", "x", perm=[1, 0, 2])
    reversed_ = b.add("ReverseSequence", turned, np.array([4, 4]), batch_axis=1, time_axis=0)
    scattered = b.add("ScatterElements", np.zeros(5, np.float32), np.array([3, 0]), ONE[:2])
    b.add("Add", b.add("Transpose", reversed_, perm=[1, 2, 0]), scattered)
    agree(b.model(), noise(2, 5, 3))


def test_bfloat16_weights() -> None:
    weight = noise(5, 6)
    upper = (weight.view(np.uint32) >> 16).astype(np.uint16)
    b = Builder(6)
    b.constants.append(
        helper.make_tensor("w", TensorProto.BFLOAT16, [5, 6], upper.tobytes(), raw=True)
    )
    b.add("Gemm", "x", b.add("Cast", "w", to=1), transB=1)
    x = noise(3, 6)
    expected = x @ (upper.astype(np.uint32) << 16).view(np.float32).T
    np.testing.assert_allclose(Engine(b.model(), threads=1)(x), expected, rtol=1e-4, atol=1e-5)
