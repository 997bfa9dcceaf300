"""Legal settings that files rarely have: what ONNX Runtime computes, or one clear refusal."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

ONES = np.ones((1, 3), np.float32)


def refusal(b: Builder) -> str:
    with pytest.raises(UserError) as error:
        read(b.model())
    return str(error.value)


ODD = np.array(
    [[1, 3, 3, 0], [np.nan, 1, 5, np.nan], [4, np.nan, 1, np.nan], [-np.inf] * 4], np.float32
)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_the_place_of_the_first_nan(operator: str) -> None:
    b = Builder(4)
    b.add("Cast", b.add(operator, "x", axis=1, keepdims=0), to=TensorProto.FLOAT)
    found = Engine(b.model(), threads=1)(ODD)
    np.testing.assert_array_equal(found, getattr(np, operator.lower())(ODD, 1))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("constant", [False, True])
def test_nan_ranks_as_infinity(largest: int, constant: bool) -> None:
    """As ONNX Runtime ranks it; each number is returned with its place."""
    b = Builder(4)
    row, k = b.constant(ODD[2:3]) if constant else "x", b.constant(np.array([2]))
    b.nodes.append(helper.make_node("TopK", [row, k], ["a", "b"], largest=largest))
    b.add("Concat", "a", b.add("Cast", "b", to=TensorProto.FLOAT), axis=1)
    if constant:
        b.add("Add", "x", b.last)
    x = np.zeros((1, 4), np.float32) if constant else ODD
    found = Engine(b.model(), threads=1)(x)
    np.testing.assert_array_equal(found, networks.reference(b.model(), x))


@pytest.mark.parametrize("layer", [False, True])
def test_clip_with_a_minimum_above_the_maximum(layer: bool) -> None:
    """Everything is the maximum."""
    b = Builder(3)
    if layer:
        b.add("MatMul", "x", np.eye(3, dtype=np.float32))
    b.add("Clip", b.last, np.float32(1), np.float32(-1))
    x = np.linspace(-2, 2, 9, dtype=np.float32).reshape(3, 3)
    found = Engine(b.model(), threads=1)(x)
    np.testing.assert_array_equal(found, np.full((3, 3), -1))
    np.testing.assert_array_equal(found, networks.reference(b.model(), x))


def test_what_would_be_computed_otherwise_is_refused() -> None:
    b = Builder(3)
    b.add("Celu", "x", alpha=-0.7)
    with pytest.raises(UserError, match=r"\(Celu\): its alpha is -0\.7"):
        read(b.model())
    b = Builder(3)
    b.add("ReduceMean", b.add("Cast", "x", to=TensorProto.INT64), np.array([1]))
    with pytest.raises(UserError, match=r"\(ReduceMean\): it averages integers; cast them"):
        read(b.model(b.add("Cast", b.last, to=1)))


def test_a_constant_of_more_dimensions_moves_the_batch() -> None:
    b = Builder(3, 4)
    b.add("Mul", "x", np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4))
    assert "batch must stay first" in refusal(b)
    b.add("ReduceSum", b.last, np.array([2]), keepdims=0)
    b.add("Squeeze", b.last, np.array([0]))
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    found = Engine(b.model(), threads=1)(x)
    np.testing.assert_allclose(found, networks.reference(b.model(), x), rtol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_kernel_shape_that_is_not_the_weights(transposed: bool) -> None:
    b = Builder(4, 7, 6)
    weight = np.ones((4, 4, 3, 2), np.float32)
    b.add("ConvTranspose" if transposed else "Conv", "x", weight, kernel_shape=[2, 3])
    assert "its kernel_shape is [2, 3], but its weight (4, 4, 3, 2)" in refusal(b)


@pytest.mark.parametrize("axes", [[2, 2], [-5], [4], [1, -3]])
def test_new_axes_that_do_not_exist(axes: list[int]) -> None:
    b = Builder(3)
    b.add("Unsqueeze", "x", np.array(axes))
    assert f"it makes axes {axes} of [batch, 3]" in refusal(b)


@pytest.mark.parametrize("reverse", [0, 1])
def test_exclusive_sums_of_constants(reverse: int) -> None:
    """No sum contains its own number, not even to subtract it again."""
    b, values = Builder(4), np.array([[1, 1e9, 2, np.inf]], np.float32)
    b.add("Add", "x", b.add("CumSum", values, np.array(1), exclusive=1, reverse=reverse))
    x = np.zeros((1, 4), np.float32)
    expected = networks.reference(b.model(), x)
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), expected)


def test_an_integer_to_a_fractional_power_stays_an_integer() -> None:
    b = Builder(3)
    powers = b.add("Pow", np.array([2, 5, 9]), np.array([0.5, 1.5, 0.5], np.float32))
    b.add("Add", "x", b.add("Cast", powers, to=TensorProto.FLOAT))
    expected = networks.reference(b.model(), ONES)
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(ONES), expected)
