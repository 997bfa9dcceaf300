"""Reductions, places of maxima and softmax, over any axes but the batch, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import helper

from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine
from gossamer.runtime.importer import read


def agree(b: Builder, *shape: int, ties: bool = False) -> None:
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    x = np.round(x) if ties else x
    wanted, found = networks.reference(b.model(), x), Engine(b.model(), threads=1)(x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("side", "step"), [(2, 2), (3, 1), (3, 2), (0, 0)])
def test_a_maximum_is_nan_if_one_number_is(isa: str, side: int, step: int) -> None:
    """As NumPy has it, also beside infinities; by a reduction where there is no window."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 20, 37)).astype(np.float32)
    for special in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.05] = special
    b = Builder(3, 20, 37)
    if side:
        b.add("MaxPool", "x", kernel_shape=[side, side], strides=[step, step])
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (2, 3))
        wanted = windows.max((4, 5))[:, :, ::step, ::step]
    else:
        b.add("ReduceMax", "x", np.array([3]))
        wanted = x.max(3, keepdims=True)
    np.testing.assert_array_equal(Engine(b.model(), threads=1, isa=isa)(x), wanted)


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4)
REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reductions(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    axes = data.draw(st.sets(st.integers(1, len(shape)), min_size=1))
    if data.draw(st.booleans()):
        axes = {axis - len(shape) - 1 for axis in axes}
    b = Builder(*shape)
    operator = data.draw(st.sampled_from(REDUCTIONS))
    b.add(operator, "x", np.array(sorted(axes)), keepdims=data.draw(st.integers(0, 1)))
    agree(b, *shape)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_places_of_maxima_and_softmax(data: st.DataObject) -> None:
    """Of several maxima the first."""
    shape = data.draw(SHAPES)
    axis = data.draw(st.integers(1, len(shape)))
    b, ties = Builder(*shape), data.draw(st.booleans())
    operator = data.draw(st.sampled_from(["ArgMax", "Softmax", "LogSoftmax"]))
    if operator == "ArgMax":
        keep = data.draw(st.integers(0, 1))
        b.add("Cast", b.add("ArgMax", "x", axis=axis - len(shape) - 1, keepdims=keep), to=1)
    else:
        b.add(operator, "x", axis=axis)
    agree(b, *shape, ties=ties)


@pytest.mark.parametrize(
    ("operator", "attributes", "message"),
    [
        ("ArgMax", {"axis": 0}, "along the batch"),
        ("ArgMax", {"axis": 1, "select_last_index": 1}, "takes the last of equal values"),
        ("Softmax", {"axis": 0}, "along the batch"),
        ("ReduceMin", {}, "joins the examples"),
    ],
)
def test_what_joins_examples_is_refused(operator: str, attributes: dict, message: str) -> None:
    b = Builder(4)
    b.add("Cast", b.add(operator, "x", **attributes), to=1)
    with pytest.raises(UserError, match=rf"\({operator}\): .*{message}"):
        read(b.model())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_top_k(data: st.DataObject) -> None:
    """Values and places; of equal numbers the first ones, and infinite ones as any other."""
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    axis = data.draw(st.integers(1, len(shape)))
    k = data.draw(st.integers(1, shape[axis - 1]))
    b = Builder(*shape)
    inputs = ["x", b.constant(np.array([k]))]
    axis -= data.draw(st.sampled_from([0, len(shape) + 1]))
    a = {"axis": axis, "largest": data.draw(st.integers(0, 1))}
    b.nodes.append(helper.make_node("TopK", inputs, ["top", "at"], **a))
    places = b.add("Cast", "at", to=1)
    x = np.round(np.random.default_rng(0).standard_normal((3, *shape))).astype(np.float32)
    x[x == 2] = -np.inf
    for output in (places, "top"):
        model = b.model(output)
        result = Engine(model, threads=1)(x)
        np.testing.assert_array_equal(result, networks.reference(model, x))


def test_top_k_of_a_long_row_is_refused() -> None:
    b = Builder(2000)
    b.nodes.append(helper.make_node("TopK", ["x", b.constant(np.array([3]))], ["top", "at"]))
    with pytest.raises(UserError, match=r"TopK.*up to 1024"):
        Engine(b.model("top"))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("rows", "step"), [(1, 1), (3, 3), (2, 2), (2, 1), (2, 3)])
def test_windows_of_whole_rows(operator: str, rows: int, step: int) -> None:
    """More of them than a vector has lanes; some side by side, others not, or with rows left."""
    b = Builder(7, 9, 21)
    b.add(operator, "x", kernel_shape=[rows, 21], strides=[step, 1])
    agree(b, 7, 9, 21)
