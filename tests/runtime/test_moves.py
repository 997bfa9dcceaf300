"""Operators that only move numbers, one behind the other, against ONNX Runtime."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder

from gossamer.runtime import Engine
from gossamer.runtime.importer import read
from gossamer.runtime.lowered import lower

Shape = tuple[int, ...]


def constants(*numbers: int) -> list[networks.Array]:
    return [np.array([number]) for number in numbers]


def transposed(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    order = data.draw(st.permutations(range(len(shape))))
    b.add("Transpose", b.last, perm=[0, *(axis + 1 for axis in order)])
    return tuple(shape[axis] for axis in order)


def reshaped(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    size = math.prod(shape)
    first = data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    second = data.draw(st.sampled_from([n for n in range(1, size + 1) if size // first % n == 0]))
    sizes = (first, second, size // first // second)
    b.add("Reshape", b.last, np.array([0, *sizes]))
    return sizes


def sliced(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    axis = data.draw(st.integers(0, len(shape) - 1))
    start = data.draw(st.integers(0, shape[axis] - 1))
    end = data.draw(st.integers(start + 1, shape[axis]))
    step = data.draw(st.sampled_from([1, 1, 2, 3]))
    b.add("Slice", b.last, *constants(start, end, axis + 1, step))
    return (*shape[:axis], len(range(start, end, step)), *shape[axis + 1 :])


def doubled(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    """The value behind a part of itself."""
    axis, whole = data.draw(st.integers(0, len(shape) - 1)), b.last
    part = data.draw(st.integers(1, shape[axis]))
    b.add("Slice", whole, *constants(shape[axis] - part, shape[axis], axis + 1))
    b.add("Concat", b.last, whole, axis=axis + 1)
    return (*shape[:axis], shape[axis] + part, *shape[axis + 1 :])


def padded(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    before, after = (data.draw(st.integers(0, 2)) for _ in range(2))
    sides = [[0] * len(shape) + [n] for n in (before, after)]
    b.add("Pad", b.last, np.array(sides[0] + sides[1]))
    return (*shape[:-1], shape[-1] + before + after)


def repeated(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    axis, times = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(1, 3))
    b.add("Tile", b.last, np.array([1, *(times if i == axis else 1 for i in range(len(shape)))]))
    return (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def changed(b: Builder, shape: Shape, data: st.DataObject) -> Shape:
    b.add("Relu", b.last)
    return shape


MOVES = [transposed, reshaped, sliced, doubled, padded, repeated, changed]


@settings(max_examples=60)
@given(st.data(), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_moves_one_behind_the_other(data: st.DataObject, shape: list[int]) -> None:
    b, now = Builder(*shape), tuple(shape)
    b.last = "x"
    for move in data.draw(st.lists(st.sampled_from(MOVES), min_size=2, max_size=6)):
        now = move(b, now, data)
    model = b.model()
    for batch in (1, 3):
        x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
        found = Engine(model, threads=2)(x)
        np.testing.assert_array_equal(found, networks.reference(model, x))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_shuffle_of_channels_is_one_copy_for_each_reader(batch: int) -> None:
    """As in a ShuffleNet: what is concatenated, shuffled and split moves once."""
    b = Builder(8, 4, 4)
    halves = [b.add(op, "x") for op in ("Relu", "Neg")]
    b.add("Reshape", b.add("Concat", *halves, axis=1), np.array([0, 2, 8, 4, 4]))
    shuffled = b.add("Transpose", b.last, perm=[0, 2, 1, 3, 4])
    b.add("Reshape", shuffled, np.array([0, 16, 4, 4]))
    whole = b.last
    parts = [b.add("Slice", whole, *constants(*ends, 1)) for ends in ((0, 8), (8, 16))]
    b.add("Add", b.add("Sqrt", b.add("Abs", parts[0])), b.add("Exp", parts[1]))
    steps, _, _ = lower(read(b.model()), "portable", {})
    assert [step.kernel.operation for step in steps].count("copy") == 2
    x = np.random.default_rng(0).standard_normal((batch, 8, 4, 4)).astype(np.float32)
    model = b.model()
    np.testing.assert_allclose(Engine(model)(x), networks.reference(model, x), rtol=1e-5)
