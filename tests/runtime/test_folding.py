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
    "a convolution": ("Conv", [table(1, 3, 8, 10), table(2, 3, 3, 3), table(2)], {}),
    "groups of pixels": ("Conv", [table(2, 6, 17), table(6, 1, 3)],
                         {"group": 6, "strides": [2], "pads": [0, 1]}),
    "a spread image": ("ConvTranspose", [table(1, 2, 3, 4), table(2, 2, 2, 2)],
                       {"strides": [2, 2]}),
    "an error function": ("Erf", [table(8)], {}),
    "a function of a number": ("Erf", [np.float32(0.3)], {}),
    "slopes": ("PRelu", [table(6, 8), table(8)], {}),
    "a function of several steps": ("Selu", [table(6, 8)], {}),
    "norms of images": ("InstanceNormalization", [table(2, 6, 8), *table(2, 6)], {}),
    "logarithms of shares": ("LogSoftmax", [table(6, 8)], {"axis": 1}),
    "logarithms of shares of all rows": ("LogSoftmax", [table(6, 8)], {"axis": 0}),
    "the largest of each window": ("MaxPool", [table(2, 6, 15)],
                                   {"kernel_shape": [2], "strides": [2], "pads": [0, 1]}),
    "a sum of sizes": ("ReduceL1", [table(3, 6, 8), whole(0)], {"keepdims": 0}),
    "a frame": ("Pad", [table(4, 6), whole(1, 0, 1, 2), np.float32(3)], {}),
    "channels to pixels": ("DepthToSpace", [table(1, 8, 3, 4)], {"blocksize": 2}),
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


def test_places_and_truths_of_constants_keep_their_type() -> None:
    b = Builder(6, 8)
    places = b.add("ArgMax", table(8, 6), axis=1, keepdims=0)
    rows = b.add("Gather", table(9, 8), places, axis=0)
    other = b.add("Xor", table(8, 1) > 0, table(8, 8) > 0)
    chosen = b.add("Where", other, rows, table(8, 8))
    b.add("MatMul", "x", chosen)
    agree(b, 6, 8)


def test_quantized_constants() -> None:
    b = Builder(6, 8)
    steps = np.linspace(0.01, 0.02, 8, dtype=np.float32), np.full(8, -3, np.int8)
    codes = b.add("QuantizeLinear", table(8, 8), *steps, axis=1)
    b.add("MatMul", "x", b.add("DequantizeLinear", codes, *steps, axis=1))
    agree(b, 6, 8)


def test_a_convolution_of_a_constant_of_all_examples() -> None:
    """Of positions, which exporters expand to the batch before a layer reads them."""
    b = Builder(6, 8)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(1, 1), axis=0)
    each = b.add("Concat", b.add("Expand", table(1, 1, 8), sizes), b.last, axis=-2)
    half = b.add("Slice", each, whole(0, 0), whole(2**63 - 1, 1), whole(0, 1))
    b.add("Add", "x", b.add("Conv", half, table(6, 1, 1)))
    agree(b, 6, 8)


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


@pytest.mark.parametrize(("start", "end"), [(1, 2), (0, -1)])
def test_a_part_of_what_all_examples_have_is_refused(start: int, end: int) -> None:
    b = Builder(*SHAPE)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(3, 8), axis=0)
    each = b.add("Expand", table(1, 1, 8), sizes)
    b.add("Add", "x", b.add("Slice", each, whole(start), whole(end), whole(0)))
    with pytest.raises(UserError, match=r"\(Slice\): it takes a part of the batch"):
        Engine(b.model())


def test_the_first_of_what_all_examples_have() -> None:
    b = Builder(*SHAPE)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(3, 8), axis=0)
    each = b.add("Expand", table(1, 1, 8), sizes)
    b.add("Add", "x", b.add("Slice", each, whole(0), whole(1), whole(0)))
    agree(b, *SHAPE)


def test_what_the_engine_would_compute_across_examples_is_refused() -> None:
    b = Builder(*SHAPE)
    sizes = b.add("Concat", b.add("Shape", "x", start=0, end=1), whole(1, 8), axis=0)
    b.add("Add", "x", b.add("LogSoftmax", b.add("Expand", table(1, 1, 8), sizes), axis=0))
    with pytest.raises(UserError, match=r"\(LogSoftmax\): .*batch"):
        Engine(b.model())


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("Tile", [whole(1 << 20, 1 << 20)]),
        ("Resize", ["", np.float32([1e5, 1e5])]),
        ("Pad", [whole(0, 0, 8000, 8000)]),
    ],
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


@pytest.mark.parametrize("size", ["Size", "Shape"])
@pytest.mark.parametrize("to", [1, 11])
def test_results_that_depend_on_the_number_of_examples_are_refused(size: str, to: int) -> None:
    b = Builder(3, 8)
    count = b.add("Cast", b.add(size, "x", **({"end": 1} if size == "Shape" else {})), to=to)
    b.add("Div", "x", b.add("Cast", count, to=1))
    with pytest.raises(UserError, match=r"\(Cast\): it computes with the number of examples"):
        Engine(b.model(), threads=1)
    fixed = Engine(b.model(), threads=1, shapes={"x": (2, 3, 8)})
    x = table(2, 3, 8)
    np.testing.assert_allclose(fixed(x), x / (2 if size == "Shape" else 48), rtol=1e-6)


def check_counted(b: Builder, operator: str, wanted: int) -> None:
    """Refused for any number of examples; with two, the operator adds ``wanted``."""
    refusal = rf"\({operator}\): it computes with the number of examples"
    with pytest.raises(UserError, match=refusal):
        Engine(b.model(), threads=1)
    x = table(2, 3, 8)
    fixed = Engine(b.model(), threads=1, shapes={"x": x.shape})
    np.testing.assert_array_equal(fixed(x), x + wanted)


@pytest.mark.parametrize(
    ("operator", "wanted"),
    [("Div", 1), ("Mod", 0), ("Add", 4), ("Sub", 0), ("Greater", 0), ("Equal", 1), ("Min", 2)],
)
def test_numbers_made_of_the_number_of_examples_are_refused(operator: str, wanted: int) -> None:
    b = Builder(3, 8)
    part = b.add(operator, b.add("Shape", "x", end=1), whole(2))
    b.add("Add", "x", b.add("Cast", part, to=1))
    check_counted(b, operator, wanted)


@pytest.mark.parametrize(("operator", "wanted"), [("ReduceMax", 8), ("ReduceSum", 13)])
def test_shapes_made_into_one_number_are_refused(operator: str, wanted: int) -> None:
    b = Builder(3, 8)
    b.add("Add", "x", b.add(operator, b.add("Cast", b.add("Shape", "x"), to=1), keepdims=0))
    check_counted(b, operator, wanted)


def test_shapes_are_broadcast_as_exporters_write_it() -> None:
    """Where a size is -1 or 1, the other shape's stands, the batch as it is."""
    b = Builder(3, 8)
    shape = b.add("Shape", "x")
    kept = b.add("Where", b.add("Equal", shape, whole(-1, -1, -1)), whole(1, 1, 1), shape)
    wider = b.add("Where", b.add("Equal", kept, whole(1, 1, 1)), shape, b.add("Max", kept, shape))
    b.add("Add", "x", b.add("Expand", table(1, 3, 8), wider))
    agree(b, 3, 8)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_whole_numbers_with_the_number_of_examples_are_refused(operator: str) -> None:
    b = Builder(3)
    numbers = b.add("Cast", "x", to=7)
    b.add("Cast", b.add(operator, numbers, b.add("Shape", "x", end=1)), to=1)
    with pytest.raises(
        UserError, match=rf"\({operator}\): it computes with the number of examples"
    ):
        Engine(b.model(), threads=1)
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    fixed = Engine(b.model(), threads=1, shapes={"x": x.shape})
    np.testing.assert_array_equal(fixed(x), x + 2 if operator == "Add" else x * 2)
