"""Operators that move numbers, and products of two values, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import TensorProto

from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

SIZES = st.integers(1, 40)


def agree(b: Builder, x: networks.Array, isa: str | None = None, rtol: float = 0.0) -> None:
    model = b.model()
    wanted = networks.reference(model, x)
    found = Engine(model, threads=1, isa=isa)(x)
    atol = rtol * float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True)


def values(*shape: int) -> networks.Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@settings(max_examples=30)
@given(st.sampled_from(ISAS), st.integers(1, 3), st.integers(1, 3), SIZES, SIZES, SIZES)
def test_products_of_two_values(
    isa: str, batch: int, heads: int, rows: int, depth: int, columns: int
) -> None:
    """Left and right are parts of one input."""
    b = Builder(heads, rows * depth + depth * columns)
    left = b.add("Slice", "x", *map(np.array, ([0], [rows * depth], [2])))
    left = b.add("Reshape", left, np.array([0, heads, rows, depth]))
    right = b.add("Slice", "x", *map(np.array, ([rows * depth], [1 << 40], [2])))
    right = b.add("Reshape", right, np.array([0, heads, depth, columns]))
    b.add("MatMul", left, right)
    agree(b, values(batch, heads, rows * depth + depth * columns), isa, 1e-5)


def test_products_spread_nan_and_infinity() -> None:
    x = values(2, 5, 5)
    x[0, 1, 2], x[1, 3, 3] = np.nan, np.inf
    b = Builder(5, 5)
    b.add("MatMul", "x", "x")
    agree(b, x, rtol=1e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_products_are_the_same_for_any_threads(threads: int) -> None:
    b = Builder(3, 17, 17)
    b.add("MatMul", "x", "x")
    engine = Engine(b.model(), threads=1)
    x = values(2, 3, 17, 17)
    again = Engine(b.model(), threads=threads, plan=engine.plan)
    for rows in (x[:1], x):
        np.testing.assert_array_equal(again(rows), engine(rows))


@settings(max_examples=40)
@given(st.data())
def test_moves(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=3)))
    rank = len(shape) + 1
    b = Builder(*shape)
    axis = data.draw(st.integers(1, rank - 1))
    size = shape[axis - 1]
    match data.draw(st.sampled_from(["slice", "gather", "pad", "split", "turn"])):
        case "slice":
            start = data.draw(st.integers(0, size - 1))
            end = data.draw(st.integers(start + 1, size + 3))
            step = data.draw(st.integers(1, 3))
            if data.draw(st.booleans()):
                start, end, step = min(end, size) - 1, start - 1 - size, -step
            limits = ([start], [end], [axis - rank], [step])
            b.add("Slice", "x", *map(np.array, limits))
        case "gather":
            places = data.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=6))
            index = np.array(places).reshape(data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1)])))
            b.add("Gather", "x", data.draw(st.sampled_from([index, index.ravel()[0]])), axis=axis)
        case "pad":
            pads = data.draw(st.lists(st.integers(0, 3), min_size=2 * rank, max_size=2 * rank))
            pads[0] = pads[rank] = 0
            border = data.draw(st.sampled_from([0, 1.5, -np.inf]))
            b.add("Pad", "x", np.array(pads), np.float32(border))
        case "split":
            first = data.draw(st.integers(1, size))
            parts = [first, size - first] if first < size else [size]
            b.add("Split", "x", np.array(parts), axis=axis)
            b.nodes[-1].output.extend(["rest"] * (len(parts) - 1))
        case _:  # the batch goes astray and comes back
            perm = data.draw(st.permutations(range(rank)))
            b.add("Transpose", "x", perm=perm)
            at = perm.index(axis)
            b.add("Gather", b.last, np.array(size - 1), axis=at)
            left = [p for p in perm if p != axis]
            b.add("Transpose", b.last, perm=[left.index(p) for p in sorted(left)])
    agree(b, values(2, *shape))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "told"),
    [
        ("Slice", [[0], [1], [0]], {}, "part of the batch"),
        ("Slice", [[3], [3], [1]], {}, "takes no element"),
        ("Slice", [[0], [1], [7]], {}, "no axis 7"),
        ("Gather", [9], {"axis": 1}, "gathers"),
        ("Gather", [[0, 1, 3]], {"axis": 0}, "part of the batch"),
        ("Gather", [[1, 3, 5]], {"axis": 1}, "beyond"),
        ("Split", [[1, 9]], {"axis": 1}, "splits 4"),
        ("Squeeze", [[1]], {}, "squeezes"),
        ("Pad", [[1, 0, 0, 0]], {}, "pads"),
        ("Pad", [[0, 0, 0, -1, 0, 0]], {}, "pads"),
        ("Pad", [[0, 0, 0, 0, 1 << 20, 0]], {}, "pads"),
        ("DepthToSpace", [], {"blocksize": 2}, "blocks of 2"),
        ("MatMul", ["x"], {}, "multiplies"),
    ],
)
def test_moves_that_cannot_be(op: str, inputs: list, attributes: dict, told: str) -> None:
    b = Builder(4, 6)
    b.add(op, "x", *(i if isinstance(i, str) else np.asarray(i) for i in inputs), **attributes)
    with pytest.raises(UserError, match=told):
        read(b.model())


def test_padding_beside_a_batch_that_is_elsewhere() -> None:
    b = Builder(4, 5)
    b.add("Transpose", "x", perm=[1, 0, 2])
    b.add("Pad", b.last, np.array([2, 0, 1, 0, 0, 3]), np.float32(1.5))
    b.add("Transpose", b.last, perm=[1, 2, 0])
    agree(b, values(3, 4, 5))


def test_padding_of_the_batch_is_refused() -> None:
    b = Builder(4, 5)
    b.add("Pad", b.add("Transpose", "x", perm=[1, 0, 2]), np.array([0, 0, 0, 0, 1, 0]))
    with pytest.raises(UserError, match="pads the batch"):
        read(b.model())


def test_a_batch_that_stays_astray_is_refused() -> None:
    for op in ("Relu", "Identity", "GlobalMaxPool"):
        b = Builder(4, 6)
        b.add("Transpose", "x", perm=[1, 0, 2])
        b.add(op, b.last)
        with pytest.raises(UserError, match="must stay first"):
            read(b.model())
    b = Builder(4, 6)
    b.add("Transpose", "x", perm=[1, 0, 2])
    with pytest.raises(UserError, match="must stay first"):
        read(b.model())


def counted(axis: int) -> Builder:
    """The input plus 0, 1, 2, ... along its last axis, as many as dimension ``axis`` has."""
    b = Builder(4, 6)
    size = b.add("Gather", b.add("Shape", "x"), np.array(axis))
    row = b.add("Range", np.array(0), size, np.array(1))
    b.add("Add", "x", b.add("Cast", row, to=TensorProto.FLOAT))
    return b


def test_some_of_very_many_numbers() -> None:
    """A matrix of ones for each of those that there are would fit no memory."""
    size = 1 << 18
    index = np.random.default_rng(0).integers(0, size, 40)
    b = Builder(size)
    nodes = read(b.model(b.add("Gather", "x", index, axis=1))).nodes
    (weight,) = (node.constants["weight"] for node in nodes if "weight" in node.constants)
    rows, places = np.nonzero(weight)
    np.testing.assert_array_equal(rows, np.arange(40))
    np.testing.assert_array_equal(places, index)


def test_numbers_in_a_row() -> None:
    agree(counted(2), values(2, 4, 6))
    with pytest.raises(UserError, match=r"\(Cast\): it casts the indices of examples"):
        read(counted(0).model())
    b = Builder(6)
    b.add("Add", "x", b.add("Cast", b.add("Range", *map(np.array, (0, 1 << 40, 1))), to=1))
    with pytest.raises(UserError, match="too many for this file"):
        read(b.model())


def test_heads_beside_one_another_before_the_batch() -> None:
    """As ``torch.stack([a, b]).mean(0)`` writes it."""
    b = Builder(4, 6)
    first = [
        b.add("Unsqueeze", b.add(op, "x"), np.array([axis]))
        for op, axis in (("Relu", 0), ("Neg", -4))
    ]
    b.add("ReduceMean", b.add("Concat", *first, axis=0), np.array([0]), keepdims=0)
    agree(b, values(2, 4, 6))
