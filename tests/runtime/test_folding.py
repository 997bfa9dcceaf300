"""What is computed of constants while a file is read, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.errors import UserError
from gossamer.runtime import Engine

SHAPE = (3, 8)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def agree(b: Builder, *shape: int) -> None:
    engine = Engine(b.model(), threads=1)
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    wanted, found = networks.reference(b.model(), x), engine(x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def table(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "operator",
    ["Abs", "Ceil", "Cos", "Exp", "Floor", "Log", "Relu", "Round", "Sigmoid", "Sign", "Sin",
     "Tanh"],
)  # fmt: skip
def test_functions_of_constants(operator: str) -> None:
    b = Builder(8)
    b.add("Add", "x", b.add(operator, np.linspace(0.5, 3, 8, dtype=np.float32)))
    agree(b, 8)


SIX = table(6, 8), table(8)
FOLDED = {
    "a norm": ("LayerNormalization", [*SIX, table(8)], {"axis": -1}),
    "a batch norm": ("BatchNormalization", [table(2, 6, 8), *map(np.abs, table(4, 6))], {}),
    "normalized weights": ("BatchNormalization", [table(2, 6, 8), *table(4, 6)],
                           {"training_mode": 1}),
    "shares": ("Softmax", [table(2, 6, 8)], {"axis": 1}),
    "limits": ("Clip", [SIX[0], np.float32(-0.5), np.float32(0.7)], {}),
    "one limit": ("Clip", [SIX[0], np.float32(0.2)], {}),
    "the other limit": ("Clip", [SIX[0], "", np.float32(0.2)], {}),
    "steps without axes": ("Slice", [table(12, 8), whole(1), whole(12), "", whole(2)], {}),
    "a product": ("MatMul", [table(2, 6, 4), table(4, 8)], {}),
    "a sum": ("ReduceSum", [table(3, 6, 8), whole(0)], {"keepdims": 0}),
    "a sum of all": ("ReduceSum", [table(3, 6, 8)], {"keepdims": 0}),
    "no sum": ("ReduceSum", [table(6, 8)], {"noop_with_empty_axes": 1}),
    "a mean": ("ReduceMean", [table(3, 6, 8), whole(-3)], {}),
    "a maximum": ("ReduceMax", [table(6, 8), whole(0)], {}),
    "a minimum": ("ReduceMin", [table(6, 8), whole(1)], {}),
    "a length": ("ReduceL2", [table(6, 8), whole(0, 1)], {}),
    "rows": ("GatherND", [table(9, 8), whole(0, 3, -1, 8, 2, 2).reshape(6, 1)], {}),
    "numbers": ("GatherND", [table(2, 9), (np.arange(16) % 2).reshape(8, 2)], {}),
    "changed rows": ("ScatterND", [table(6, 8), whole(4, -6).reshape(2, 1), table(2, 8)], {}),
    "repetition": ("Tile", [table(2, 1, 4), whole(1, 6, 2)], {}),
    "ones": ("EyeLike", [table(6, 8)], {"k": -2}),
    "a larger one": ("Resize", [table(1, 2, 4), "", np.float32([1, 3, 2])], {"mode": "linear"}),
    "one of a size": ("Resize", [table(1, 2, 4, 5), "", "", whole(1, 2, 6, 8)],
                      {"mode": "cubic", "cubic_coeff_a": -0.5}),
    "the nearest": ("Resize", [table(5, 7), "", "", whole(6, 8)], {"mode": "nearest"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_what_is_computed_of_constants(name: str) -> None:
    operator, inputs, attributes = FOLDED[name]
    b = Builder(2, 6, 8)
    made = b.add(operator, *inputs, **attributes)
    if "training_mode" in attributes:
        b.nodes[-1].output.extend(["mean", "variance"])
    b.add("Add", "x", made)
    agree(b, 2, 6, 8)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("operator", ["ReduceSum", "CumSum", "Softmax"])
def test_what_joins_a_constant_of_all_examples_is_refused(operator: str, moved: bool) -> None:
    b = Builder(*SHAPE)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(5, 8), axis=0)
    each = b.add("Expand", table(1, 8), sizes)
    if moved:
        each = b.add("Concat", b.add("Transpose", each, perm=[1, 0, 2]), table(1, 1, 8), axis=0)
    axis = int(moved)
    joined = (
        b.add(operator, each, axis=axis)
        if operator == "Softmax"
        else b.add(operator, each, whole(axis))
    )
    b.add("Add", "x", joined)
    with pytest.raises(UserError, match=rf"\({operator}\): it may mix the examples"):
        Engine(b.model())


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [("Tile", [whole(1 << 20, 1 << 20)]), ("Resize", ["", np.float32([1e5, 1e5])])],
)
def test_constants_that_would_fill_the_memory_are_refused(operator: str, inputs: list) -> None:
    b = Builder(*SHAPE)
    b.add("Add", "x", b.add(operator, table(2, 2), *inputs))
    with pytest.raises(UserError, match="too many for this file"):
        Engine(b.model())


def test_a_product_with_a_constant_of_all_examples() -> None:
    b = Builder(6, 8)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(6, 1), axis=0)
    each = b.add("Expand", table(1, 6, 4), sizes)
    b.add("Add", "x", b.add("MatMul", each, table(4, 8)))
    agree(b, 6, 8)


def test_shares_within_a_constant_of_all_examples() -> None:
    b = Builder(6, 8)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(1, 6), axis=0)
    turned = b.add("Transpose", b.add("Expand", table(1, 8, 1), sizes), perm=[0, 2, 1])
    b.add("Add", "x", b.add("Softmax", turned, axis=2))
    agree(b, 6, 8)
