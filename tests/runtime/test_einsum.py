"""Einsum, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Builder
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

SIZES = {"b": 3, "h": 2, "i": 4, "j": 5, "k": 6}


@pytest.mark.parametrize(
    "equation",
    [
        *("bhik,bhjk->bhij", "bhij,bhjk->bhik", "bij,bjk->bik", "b i j , b j -> b i"),
        *("bi,bj->bij", "bij,bij->b", "bij->bji", "bij->bj", "bijk,bhjk->bhi", "bji"),
        *("b...ik,b...jk->b...ij", "bij,bij,bik->bk"),
    ],
)
def test_of_values(equation: str) -> None:
    plain = equation.replace(" ", "")
    terms = plain.partition("->")[0].replace("...", "h").split(",")
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal([SIZES[letter] for letter in term]).astype(np.float32) for term in terms
    ]
    b = Builder(*arrays[0].shape[1:])
    for i, array in enumerate(arrays[1:]):
        b.inputs.append(helper.make_tensor_value_info(
            f"x{i}", TensorProto.FLOAT, ["n", *array.shape[1:]]))  # fmt: skip
    b.add("Einsum", "x", *(f"x{i}" for i in range(len(arrays) - 1)), equation=equation)
    found = Engine(b.model(), threads=1)(*arrays)
    np.testing.assert_allclose(found, np.einsum(plain, *arrays), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "equation",
    ["bij,jk->bik", "bij,kj->bik", "bhij,ijk->bhk", "bi,i->bi", "bij,ij->b", "bi,jk->bijk"],
)
@pytest.mark.parametrize("first", [False, True])
def test_of_a_value_and_a_constant(equation: str, first: bool) -> None:
    (left, right), result = equation.split("->")[0].split(","), equation.split("->")[1]
    rng = np.random.default_rng(0)
    x, w = (
        rng.standard_normal([SIZES[letter] for letter in term]).astype(np.float32)
        for term in (left, right)
    )
    b = Builder(*x.shape[1:])
    pair = [b.constant(w), "x"] if first else ["x", w]
    term = f"{right},{left}" if first else f"{left},{right}"
    b.add("Einsum", *pair, equation=f"{term}->{result}")
    found = Engine(b.model(), threads=1)(x)
    np.testing.assert_allclose(found, np.einsum(equation, x, w), rtol=1e-4, atol=1e-5)


def test_of_constants() -> None:
    b = Builder(4, 3)
    left, right = np.arange(4, dtype=np.float32), np.array([1, 10, 100], np.float32)
    b.add("Add", "x", b.add("Einsum", left, right, equation="i, j -> i j"))
    x = np.zeros((2, 4, 3), np.float32)
    np.testing.assert_allclose(Engine(b.model(), threads=1)(x)[0], np.outer(left, right))


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("bii->bi", "diagonal"),
        ("bij,bjk->bik", "is for 2 inputs"),
        ("bi->bi", "does not fit"),
        ("bij->bq", "letters in its result that no input has"),
    ],
)
def test_what_cannot_run_is_named(equation: str, message: str) -> None:
    b = Builder(4, 4)
    b.add("Einsum", "x", equation=equation)
    with pytest.raises(UserError, match=rf"Einsum.*{message}"):
        read(b.model())
