"""Indices that count the examples of a batch, and what is made of them, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.runtime import Engine

SHAPE = (3, 8)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def counting(*shape: int) -> tuple[Builder, str]:
    """A network over [batch, ...], and its value ``arange(batch)``."""
    b = Builder(*shape or SHAPE)
    count = b.add("Shape", "x", start=0, end=1)
    limit = b.add("Squeeze", count, whole(0))
    return b, b.add("Range", np.int64(0), limit, np.int64(1))


def agree(b: Builder, shape: tuple[int, ...] = SHAPE) -> None:
    engine = Engine(b.model(), threads=1)
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        wanted, found = networks.reference(b.model(), x), engine(x)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def spread(b: Builder, places: str, parts: list[np.ndarray]) -> str:
    """[batch, n, 1 + parts]: each place with every index, as torch's newer exporter does it."""
    column = b.add("Unsqueeze", places, whole(1))
    wide = b.add("Shape", b.add("Max", column, parts[0][None]))
    columns = [column, *(b.constant(part[None]) for part in parts)]
    apart = [b.add("Unsqueeze", b.add("Expand", c, wide), whole(-1)) for c in columns]
    return b.add("Concat", *apart, axis=-1)


@pytest.mark.parametrize(
    "parts",
    [[whole(0, 1, 2)], [whole(2)], [whole(1, 2)], [whole(0, 0, 0, 0), whole(1, 3, 5, 7)]],
    ids=str,
)
def test_gather_nd_takes_each_examples_own(parts: list[np.ndarray]) -> None:
    b, places = counting()
    b.add("GatherND", "x", spread(b, places, parts))
    agree(b)


@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd_by_an_input_of_each_example(depth: int) -> None:
    b = Builder(4, 5, 3)
    b.inputs.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["batch", 6, depth]))
    b.add("GatherND", "x", "i", batch_dims=1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 3)).astype(np.float32)
    index = rng.integers(-4, 4, (2, 6, depth))
    found = Engine(b.model(), threads=1)(x, index)
    np.testing.assert_allclose(found, networks.reference(b.model(), x, index), rtol=1e-6)


@pytest.mark.parametrize("dims", [0, 1])
def test_gather_nd_by_constants_from_one_example(dims: int) -> None:
    index = np.array([[0, 1, 2], [0, -1, 4], [0, 0, 0]])[:, dims:]
    b = Builder(4, 5, 3, batch=1)
    b.add("GatherND", "x", index[None] if dims else index, batch_dims=dims)
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), networks.reference(b.model(), x))


@pytest.mark.parametrize("keys", [whole(*range(8)), whole(1, 3, 5), whole(7)], ids=str)
@pytest.mark.parametrize("shape", [(8,), (8, 4)])
def test_gather_from_flat_examples(keys: np.ndarray, shape: tuple[int, ...]) -> None:
    b, places = counting(*shape)
    flat = b.add("Reshape", "x", whole(-1, *shape[1:]))
    starts = b.add("Mul", b.add("Unsqueeze", places, whole(1, 2)), np.int64(8))
    b.add("Gather", flat, b.add("Add", keys[None, None], starts), axis=0)
    agree(b, shape)


def test_gather_from_a_constant_that_every_example_has() -> None:
    b, places = counting()
    table = np.arange(24, dtype=np.float32).reshape(1, *SHAPE)
    shared = b.add("Expand", table, b.add("Shape", "x"))
    picked = b.add("GatherND", shared, spread(b, places, [whole(2, 0)]))
    b.add("Add", b.add("Slice", "x", whole(0), whole(2), whole(1)), picked)
    agree(b)


def test_gather_all_of_the_batch_in_order() -> None:
    b, places = counting()
    b.add("Gather", "x", places)
    agree(b)


@pytest.mark.parametrize(
    ("operator", "than"),
    [("GreaterOrEqual", 0), ("Greater", -1), ("Less", 0), ("LessOrEqual", -1)],
)
def test_comparisons_with_one_answer(operator: str, than: int) -> None:
    b, places = counting()
    answer = b.add(operator, b.add("Unsqueeze", places, whole(1, 2)), np.int64(than))
    b.add("Where", answer, "x", b.add("Neg", "x"))
    agree(b)


def sums(b: Builder, places: str) -> None:
    b.add("Add", "x", b.add("Cast", b.add("Unsqueeze", places, whole(1, 2)), to=1))


def compares(b: Builder, places: str) -> None:
    b.add("GreaterOrEqual", places, np.int64(1))


def shifts(b: Builder, places: str) -> None:
    b.add("Gather", "x", b.add("Add", places, np.int64(1)))


def mixes(b: Builder, places: str) -> None:
    b.add("Gather", "x", b.add("Mul", places, places))


def reverses(b: Builder, places: str) -> None:
    b.add("Gather", "x", b.add("Sub", np.int64(0), places))


def outer(b: Builder, places: str) -> None:
    b.add("Unsqueeze", places, whole(0))


def looks_up(b: Builder, places: str) -> None:
    b.add("Gather", np.ones((9, 2), np.float32), places)


def reads_largest(b: Builder, places: str) -> None:
    b.add("Gather", "x", b.add("Max", places, np.int64(0)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (sums, r"\(Cast\): it casts the indices of examples"),
        (compares, "its result depends on the index of an example"),
        (shifts, "numbers of other examples"),
        (mixes, "it multiplies the indices of examples"),
        (reverses, "numbers of other examples"),
        (outer, "batch first only"),
        (looks_up, "numbers of other examples"),
        (reads_largest, "it reads the indices of examples"),
    ],
)
def test_results_that_depend_on_the_place_in_the_batch_are_refused(wrong, message: str) -> None:
    b, places = counting()
    wrong(b, places)
    with pytest.raises(UserError, match=message):
        Engine(b.model())


@settings(max_examples=20)
@given(st.sampled_from([1, 2, -1, -2]), st.booleans(), st.booleans(), st.booleans())
def test_running_sums(axis: int, exclusive: bool, reverse: bool, constant: bool) -> None:
    b = Builder(*SHAPE)
    given = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    value = given if constant else "x"
    b.add("CumSum", value, np.int64(axis), exclusive=int(exclusive), reverse=int(reverse))
    b.add("Add", "x", b.last)
    agree(b)


def test_running_sums_along_the_batch_are_refused() -> None:
    b = Builder(*SHAPE)
    b.add("CumSum", "x", np.int64(0))
    with pytest.raises(UserError, match="within an example only"):
        Engine(b.model())


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_constants_gathered_by_elements(axis: int) -> None:
    b = Builder(2, 3)
    table = np.arange(20, dtype=np.float32).reshape(4, 5)
    picked = b.add("GatherElements", table, np.array([[3, 0, 1], [2, 2, 0]]), axis=axis)
    b.add("Add", "x", picked)
    agree(b, (2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_elements_of_a_constant_row(dtype: type) -> None:
    """As RoBERTa looks up token types by places that it computes of the ids."""
    b = Builder(8)
    row = b.add(
        "Expand",
        np.array([[3, 1, 4, 1]], dtype),
        b.add("Concat", b.add("Shape", "x", end=1), whole(4), axis=0),
    )
    index = b.add("Cast", b.add("Clip", "x", np.float32(0), np.float32(3)), to=7)
    picked = b.add("GatherElements", row, index, axis=1)
    b.add("Add", "x", b.add("Cast", picked, to=1))
    agree(b, (8,))


@pytest.mark.parametrize(
    ("table", "axis", "message"),
    [(np.ones((3, 8)), 1, "one row only"), (np.ones((1, 4)), 0, "another axis")],
)
def test_elements_that_are_no_row_are_refused(table: np.ndarray, axis: int, message: str) -> None:
    b = Builder(8)
    b.add("GatherElements", table.astype(np.float32), b.add("Cast", "x", to=7), axis=axis)
    with pytest.raises(UserError, match=message):
        Engine(b.model())


def test_a_constant_token_repeated_by_ones_for_every_example() -> None:
    """Expand's shape may say 1 where the constant has more, as of a class token."""
    b = Builder(*SHAPE)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(1, 1), axis=0)
    token = b.add("Expand", np.arange(8, dtype=np.float32)[None, None], sizes)
    b.add("Concat", token, "x", axis=1)
    agree(b)


@pytest.mark.parametrize("flat", [True, False])
def test_rows_by_integers_of_each_example(flat: bool) -> None:
    """``x[arange(batch), x[..., 0].argmax()]`` as torch's exporters write it."""
    b, places = counting()
    first = b.add("Gather", "x", np.int64(0), axis=2)
    best = b.add("ArgMax", first, axis=1, keepdims=0)
    if flat:
        index = b.add("Add", best, b.add("Mul", places, np.int64(SHAPE[0])))
        b.add("Gather", b.add("Flatten", "x", axis=2), index, axis=0)
    else:
        back = b.add("Sub", best, np.int64(SHAPE[0]))  # negative: counted from the end
        columns = [b.add("Unsqueeze", c, whole(-1)) for c in (places, back)]
        b.add("GatherND", "x", b.add("Concat", *columns, axis=-1))
    agree(b)


@pytest.mark.parametrize("wrong", ["a product", "the first column"])
def test_places_joined_otherwise_are_refused(wrong: str) -> None:
    b, places = counting()
    best = b.add("ArgMax", b.add("Gather", "x", np.int64(0), axis=2), axis=1, keepdims=0)
    if wrong == "a product":
        b.add("Gather", b.add("Flatten", "x", axis=2), b.add("Mul", places, best), axis=0)
    else:
        columns = [b.add("Unsqueeze", c, whole(-1)) for c in (best, places)]
        b.add("GatherND", "x", b.add("Concat", *columns, axis=-1))
    with pytest.raises(UserError, match="indices of examples"):
        Engine(b.model())


@pytest.mark.parametrize("tiled", [False, True])
def test_a_constant_of_every_part_of_an_example(tiled: bool) -> None:
    """As the masks of Swin's shifted windows: several parts of each example beside the batch."""
    b = Builder(6, 4)
    mask = np.random.default_rng(0).standard_normal((1, 3, 1, 4)).astype(np.float32)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(*[1] * (3 - tiled)), axis=0)
    if tiled:
        each = b.add("Tile", mask[0], sizes)
    else:
        each = b.add("Reshape", b.add("Expand", mask, sizes), whole(-1, 1, 4))
    parts = b.add("Reshape", "x", whole(-1, 2, 4))
    b.add("Reshape", b.add("Add", parts, b.add("Neg", each)), whole(-1, 6, 4))
    agree(b, (6, 4))
