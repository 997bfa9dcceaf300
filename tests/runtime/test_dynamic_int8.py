"""DynamicQuantizeLinear and the products of integers after it, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import helper, numpy_helper

from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa, find
from gossamer.runtime import Engine
from gossamer.runtime.graph import AnyNode
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Candidate, Lowering


def agree(model: bytes, x: networks.Array) -> None:
    """Example by example, as ONNX Runtime has one range for a whole batch."""
    wanted = np.concatenate([networks.reference(model, each[None]) for each in x])
    np.testing.assert_allclose(Engine(model, threads=1)(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["linear", "attention", "conv"])
def test_a_network_that_onnxruntime_quantized(tmp_path: Path, kind: str, per_channel: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rng = np.random.default_rng(0)

    def weight(*shape: int) -> networks.Array:
        return rng.standard_normal(shape).astype(np.float32)

    shape = (3, 6, 6) if kind == "conv" else (4, 8)
    b = Builder(*shape)
    if kind == "conv":
        b.add("Conv", "x", weight(5, 3, 3, 3), weight(5), pads=[1, 1, 1, 1])
        b.add("Relu", b.last)
        b.add("GlobalAveragePool", b.last)
        b.add("Gemm", b.add("Flatten", b.last), weight(4, 5), weight(4), transB=1)
    else:
        b.add("Add", b.add("MatMul", "x", weight(8, 8)), weight(8))
        if kind == "attention":  # both sides are quantized
            b.add("MatMul", b.last, b.add("Transpose", "x", perm=[0, 2, 1]))
        b.add("Relu", b.last)
        b.add("MatMul", b.last, weight(4 if kind == "attention" else 8, 3))
    (tmp_path / "float.onnx").write_bytes(b.model())
    quantize_dynamic(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        per_channel=per_channel,
        weight_type=QuantType.QUInt8 if kind == "conv" else QuantType.QInt8,
        extra_options={"MatMulConstBOnly": False},
    )
    model = (tmp_path / "int8.onnx").read_bytes()
    operators = {node.op_type for node in onnx.load_from_string(model).graph.node}
    assert "DynamicQuantizeLinear" in operators
    assert "MatMulInteger" in operators or "ConvInteger" in operators
    agree(model, rng.standard_normal((3, *shape)).astype(np.float32) + 0.5)


def quantized(*further: onnx.NodeProto, batch: int | None = None) -> Builder:
    b = Builder(6, batch=batch)
    b.nodes += [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), *further]
    return b


def test_zeros_and_one_sign() -> None:
    b = quantized(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    rows = np.array(
        [np.zeros(6), np.arange(6), -np.arange(6), np.full(6, 3), np.linspace(-1, 2, 6)]
    )
    agree(b.model("y"), rows.astype(np.float32))


def test_a_fixed_batch_has_one_range() -> None:
    model = quantized(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]), batch=3).model(
        "y"
    )
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    wanted = networks.reference(model, x)
    result = Engine(model, threads=1)(x)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "further",
    [
        [helper.make_node("Mul", ["x", "s"], ["y"])],  # the scale alone
        [helper.make_node("Cast", ["q"], ["y"], to=1)],  # the codes alone
        [helper.make_node("Add", ["x", "s"], ["y"])],
        [helper.make_node("Floor", ["s"], ["y"])],
        [helper.make_node("Div", ["s", "x"], ["y"])],
        [helper.make_node("Div", ["q", "s"], ["y"])],
        [  # the sum of codes with what lacks no scale
            helper.make_node("DequantizeLinear", ["q", "one", "z"], ["d"]),
            helper.make_node("Add", ["d", "x"], ["y"]),
        ],
        [helper.make_node("DequantizeLinear", ["q", "s"], ["y"])],  # without its zero point
        [  # the same, in operators of floats
            helper.make_node("Cast", ["q"], ["c"], to=1),
            helper.make_node("Mul", ["c", "s"], ["y"]),
        ],
        [
            helper.make_node("MatMulInteger", ["q", "w"], ["p"]),  # without its zero point
            helper.make_node("Cast", ["p"], ["c"], to=1),
            helper.make_node("Mul", ["c", "s"], ["y"]),
        ],
        [
            helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
            helper.make_node("Cast", ["p"], ["b"], to=3),  # cuts
            helper.make_node("Cast", ["b"], ["c"], to=1),
            helper.make_node("Mul", ["c", "s"], ["y"]),
        ],
        [
            helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
            helper.make_node("Cast", ["p"], ["c"], to=1),
            helper.make_node("Reshape", ["c", "image"], ["i"]),
            helper.make_node("Conv", ["i", "kernel", "bias"], ["o"]),  # its bias has no scale
            helper.make_node("Mul", ["o", "s"], ["y"]),
        ],
    ],
)
def test_other_uses_are_refused(further: list[onnx.NodeProto]) -> None:
    b = quantized(*further)
    constants = {
        "w": np.ones((6, 2), np.uint8),
        "image": np.array([-1, 1, 2, 1]),
        "kernel": np.ones((1, 1, 1, 1), np.float32),
        "bias": np.ones(1, np.float32),
        "one": np.array(1, np.float32),
    }
    b.constants += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    with pytest.raises(UserError, match=r"DynamicQuantizeLinear|8 bits"):
        Engine(b.model("y"))


def test_a_product_is_multiplied_by_the_scales_of_its_dequantization() -> None:
    b = quantized(
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
        helper.make_node("Mul", ["s", "step"], ["scale"]),
        helper.make_node("DequantizeLinear", ["p", "scale"], ["y"]),
    )
    b.constants += [
        numpy_helper.from_array(np.arange(12, dtype=np.uint8).reshape(6, 2), "w"),
        numpy_helper.from_array(np.array(0.25, np.float32), "step"),
    ]
    agree(b.model("y"), np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32))


def with_bias_in_codes(batch: int | None) -> bytes:
    """A convolution as quantizers of 2021 wrote it, its bias in steps of both scales."""
    b = Builder(2, 5, 5, batch=batch)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8)
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    product = b.add("ConvInteger", "q", weight, "z", np.uint8(120), pads=[1, 1, 1, 1])
    scale = b.add("Mul", "s", np.float32(0.0121))
    steps = b.add("Div", rng.standard_normal(3).astype(np.float32), scale)
    codes = b.add("Cast", b.add("Floor", steps), to=6)
    sums = b.add("Add", product, b.add("Reshape", codes, np.array([1, -1, 1, 1])))
    b.add("Mul", b.add("Cast", sums, to=1), scale)
    return b.model()


def test_a_bias_in_codes() -> None:
    model = with_bias_in_codes(batch=1)
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((1, 2, 5, 5)).astype(np.float32)
        agree(model, x)


def test_a_bias_in_codes_of_each_example_is_refused() -> None:
    with pytest.raises(UserError, match=r"Floor.*fix the batch"):
        Engine(with_bias_in_codes(batch=None))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(1, 4), min_size=0, max_size=2),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    dtype=st.sampled_from([np.int8, np.uint8]),
    zero=st.sampled_from(["none", "one", "column"]),
    batch=st.sampled_from([None, 1, 3]),
    low=st.sampled_from([-1.0, 0.0, 0.5]),
    seed=st.integers(0, 1 << 16),
)
@example(rows=[], sizes=(5, 6), dtype=np.uint8, zero="one", batch=3, low=-1.0, seed=0)
@example(rows=[2], sizes=(5, 6), dtype=np.uint8, zero="column", batch=None, low=0.5, seed=0)
def test_a_product_of_codes_and_bytes(
    rows: list[int], sizes: tuple[int, int], dtype: type, zero: str, batch: int | None,
    low: float, seed: int,
) -> None:  # fmt: skip
    depth, outputs = sizes
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    weight = rng.integers(limits.min, limits.max + 1, (depth, outputs)).astype(dtype)
    b = Builder(*rows, depth, batch=batch)
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    further = []
    if zero != "none":
        own = rng.integers(limits.min, limits.max + 1, 1 if zero == "one" else outputs)
        further = [own.astype(dtype) if zero == "column" else dtype(own[0])]
    product = b.add("MatMulInteger", "q", weight, "z", *further)
    b.add("Mul", b.add("Cast", product, to=1), "s")
    x = rng.uniform(low, 1.0, (batch or 1, *rows, depth)).astype(np.float32)
    wanted = networks.reference(b.model(), x)
    result = Engine(b.model(), threads=1)(x)
    scale = np.abs(weight.astype(np.float32)).max() * depth
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6 * scale)


def test_a_product_is_computed_in_whole_numbers() -> None:
    b = quantized(helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"]),
                  helper.make_node("Cast", ["p"], ["c"], to=1),
                  helper.make_node("Mul", ["c", "s"], ["y"]))  # fmt: skip
    weight = np.full((6, 32), -128, np.int8)  # the lowest number of a byte, too
    b.constants.append(numpy_helper.from_array(weight, "w"))
    kernels = {kernel.layout for kernel in find(chosen_isa(), "integer gemm")}
    lowering = Lowering(read(b.model("y")), chosen_isa(), every=True)
    offered = {
        candidate.name
        for node in lowering.graph.nodes
        for candidate in _emitted(lowering, node)
        if candidate.name.startswith("integer gemm")
    }
    assert {name.split()[2] for name in offered} == kernels


def _emitted(lowering: Lowering, node: AnyNode) -> list[Candidate]:
    candidates = lowering.candidates(node)
    candidates[0].emit()
    return candidates
