"""Single operators of ONNX against ONNX Runtime, over shapes that hypothesis makes."""

from __future__ import annotations

import math
from typing import Any

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder, sparse
from onnx import helper

from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine, Plan, machine
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering

QUICK = settings(max_examples=15, deadline=None)
LONG = settings(max_examples=400, deadline=None)


def unmeasured(graph: Graph, isa: str, number: int = 0) -> Plan:
    """A plan that takes each node's candidate ``number`` (modulo how many there are)."""
    plan = Plan(machine(), isa, graph.fingerprint(), chunk=3)
    for many, choices in ((False, plan.single), (True, plan.batched)):
        lowering = Lowering(graph, isa, batched=many)
        for node in graph.nodes:
            candidates = lowering.candidates(node)
            chosen = candidates[number % len(candidates)]
            choices[node.output] = chosen.name
            chosen.emit()
    return plan


def check(model: bytes, x: networks.Array, *, candidates: int = 1) -> None:
    """Every instruction set, and the first few candidates, against ONNX Runtime."""
    wanted = networks.reference(model, x)
    scale = float(np.abs(wanted).max(initial=1e-3))
    graph = read(model)
    for isa in ISAS:
        seen: list[Plan] = []
        for number in range(candidates):
            plan = unmeasured(graph, isa, number)
            if plan in seen:  # no node has so many candidates
                break
            seen.append(plan)
            found = Engine(graph, threads=1, isa=isa, plan=plan)(x)
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5 * scale)


def noise(seed: int, *shape: int) -> networks.Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return {
        "channels": draw(st.sampled_from([1, 2, 3, 5, 16])),
        "outputs": draw(st.sampled_from([1, 3, 8, 16, 17, 40])),
        "size": [max(1, n + draw(st.integers(0, 9))) for n in least],
        "kernel": kernel,
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilations": dilation,
        "pads": pads,
        "density": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        "block": draw(st.sampled_from([1, 8, 16])),
        "batch": draw(st.integers(1, 3)),
        "relu": draw(st.booleans()),
        "pool": draw(st.booleans()),
    }


@QUICK
@given(convolutions(), st.integers(0, 9))
def test_convolution(c: dict[str, Any], seed: int) -> None:
    convolve(c, seed)


@pytest.mark.slow
@LONG
@given(convolutions(), st.integers(0, 9))
def test_many_convolutions(c: dict[str, Any], seed: int) -> None:
    convolve(c, seed)


@pytest.mark.parametrize("size", [[1, 1], [1, 2]])
@pytest.mark.parametrize("channels", [2, 3, 16])
def test_an_image_smaller_than_the_strides(channels: int, size: list[int]) -> None:
    c = {
        "channels": channels, "outputs": 1, "size": size, "kernel": (1, 1), "strides": (2, 3),
        "dilations": (1, 1), "pads": (0, 0, 0, 0), "density": 0.5, "block": 1, "batch": 2,
        "relu": False, "pool": False,
    }  # fmt: skip
    convolve(c, 0)


def test_pooled_convolution_with_unequal_strides() -> None:
    c = {
        "channels": 1, "outputs": 3, "size": [6, 11], "kernel": (1, 2), "strides": (1, 2),
        "dilations": (1, 1), "pads": (0, 0, 0, 0), "density": 0.3, "block": 1, "batch": 2,
        "relu": False, "pool": True,
    }  # fmt: skip
    convolve(c, 0)


def convolve(c: dict[str, Any], seed: int) -> None:
    """A convolution, with a ReLU before and a max-pool behind it if asked."""
    rng = np.random.default_rng(seed)
    weight = sparse(rng, c["outputs"], c["channels"], *c["kernel"], density=c["density"],
                    block=c["block"])  # fmt: skip
    b = Builder(c["channels"], *c["size"])
    if c["relu"]:
        b.add("Relu", b.last)
    b.add("Conv", b.last, weight, noise(seed, c["outputs"]), strides=c["strides"],
          dilations=c["dilations"], pads=c["pads"])  # fmt: skip
    height, width = (
        (n + p + q - d * (k - 1) - 1) // s + 1
        for n, p, q, d, k, s in zip(
            c["size"], c["pads"][:2], c["pads"][2:], c["dilations"], c["kernel"], c["strides"],
            strict=True,
        )
    )  # fmt: skip
    if c["pool"] and min(height, width) >= 2:
        b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    check(b.model(), noise(seed + 1, c["batch"], c["channels"], *c["size"]), candidates=9)


@QUICK
@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([1, 8, 16]), st.integers(1, 40), st.integers(0, 99),
)  # fmt: skip
def test_linear(
    inputs: int, outputs: int, density: float, block: int, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    b = Builder(inputs)
    weight = sparse(rng, outputs, inputs, density=density, block=block)
    b.add("Relu", "x")
    b.add("Gemm", b.last, weight, noise(seed, outputs), transB=1)
    check(b.model(), noise(seed, batch, inputs), candidates=9)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_product_with_a_vector(shape: tuple[int, ...]) -> None:
    """It has no last dimension."""
    b = Builder(*shape)
    b.add("MatMul", "x", noise(0, 7))
    check(b.model(), noise(1, 5, *shape))


@pytest.mark.parametrize("size", [600, 1100])
def test_linear_deeper_than_a_block(size: int) -> None:
    b = Builder(size)
    b.add("Gemm", "x", sparse(np.random.default_rng(0), 33, size), noise(1, 33), transB=1)
    check(b.model(), noise(0, 5, size))


@QUICK
@given(
    st.sampled_from([(40,), (3, 5, 4), (16, 3, 3), (20, 9, 9)]), st.booleans(),
    st.floats(0.01, 1.0), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_winners(shape: tuple[int, ...], local: bool, share: float, ties: bool, seed: int) -> None:
    """Few different values make many ties: the lowest index must win, in every layout."""
    group = shape[0] if local else math.prod(shape)
    b = Builder(*shape)
    b.winners(max(1, int(share * group)), shape, local=local)
    x = noise(seed, 3, *shape)
    check(b.model(), np.round(x).astype(np.float32) if ties else x)


@QUICK
@given(st.sampled_from([(8, 4, 4), (20, 5, 5)]), st.floats(0.05, 0.9), st.integers(0, 99))
def test_winners_after_and_before_a_convolution(
    shape: tuple[int, ...], share: float, seed: int
) -> None:
    """Lists in both orders: channels first and, behind a convolution, channels last."""
    rng = np.random.default_rng(seed)
    b = Builder(*shape)
    b.winners(max(1, int(share * math.prod(shape))), shape)
    b.add("Conv", b.last, sparse(rng, 24, shape[0], 3, 3, density=0.3), noise(seed, 24))
    b.add("Relu", b.last)  # zeros tie
    after = (24, shape[1] - 2, shape[2] - 2)
    b.winners(max(1, int(share * math.prod(after))), after)
    b.add("Flatten", b.last)
    b.add("Gemm", b.last, sparse(rng, 7, math.prod(after), density=0.3), noise(seed, 7), transB=1)
    check(b.model(), noise(seed, 2, *shape), candidates=9)


def test_boosted_winners() -> None:
    shape = (6, 3, 3)
    boost = np.random.default_rng(0).uniform(0.5, 2, (6, 1, 1)).astype(np.float32)
    for local in (False, True):
        b = Builder(*shape)
        function = networks.winners_function(local)
        b.functions.append(function)
        b.add(function.name, "x", boost, domain="gossamer", k=3)
        check(b.model(), noise(1, 4, *shape))


UNARY = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Erf": {}, "LeakyRelu": {"alpha": 0.2},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Neg": {}, "Exp": {},
    "Gelu": {"approximate": "tanh"}, "Softmax": {"axis": -1}, "LogSoftmax": {"axis": 1},
    "Identity": {}, "Sqrt": {}, "Log": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {},
    "Sin": {}, "Cos": {}, "HardSwish": {}, "Mish": {},
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    b = Builder(13)
    b.add(op, "x", **UNARY[op])
    model, x = b.model(opset=20), noise(0, 3, 13)
    check(model, np.abs(x) if op in ("Log", "Sqrt") else x)


def test_clip_and_exact_gelu() -> None:
    b = Builder(13)
    b.add("Clip", "x", np.float32(-0.5), np.float32(0.75))
    b.add("Gelu", b.last)
    check(b.model(opset=20), noise(0, 3, 13))


@QUICK
@given(
    st.sampled_from(["MaxPool", "AveragePool"]), st.integers(1, 3), st.integers(1, 5),
    st.tuples(*[st.integers(0, 1)] * 4), st.booleans(), st.booleans(), st.integers(3, 9),
)  # fmt: skip
def test_pool(
    op: str, kernel: int, stride: int, pads: tuple[int, ...], ceil: bool, counted: bool, size: int
) -> None:
    if kernel == 1:
        pads = (0, 0, 0, 0)
    extra = {"count_include_pad": int(counted)} if op == "AveragePool" else {}
    for before in (False, True):
        b = Builder(5, size, size + 1)
        if before:  # channels last
            b.add("Conv", "x", noise(0, 5, 5, 1, 1), noise(1, 5))
            b.add("Sigmoid", b.last)
        b.add(op, b.last, kernel_shape=[kernel, kernel], strides=[stride, stride],
              pads=list(pads), ceil_mode=int(ceil), **extra)  # fmt: skip
        check(b.model(), noise(2, 2, 5, size, size + 1))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool(op: str) -> None:
    b = Builder(5, 4, 3)
    b.add(op, "x")
    b.add("Flatten", b.last)
    check(b.model(), noise(0, 2, 5, 4, 3))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_and_depthwise_convolution(groups: int) -> None:
    b = Builder(6, 7, 8)
    b.add("Conv", "x", noise(0, 12, 6 // groups, 3, 3), noise(1, 12), group=groups, pads=[1] * 4)
    b.add("Relu", b.last)
    b.add("Conv", b.last, noise(2, 12, 1, 3, 3), noise(3, 12), group=12, strides=[2, 2])
    check(b.model(), noise(4, 2, 6, 7, 8))


@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("size", [(9, 13), (150, 171)])  # the second: more than a cache holds
def test_padding_does_not_keep_what_was_there(size: tuple[int, int], density: float) -> None:
    """NaN goes through the network first: no memory that is read may be left from it."""
    b, rng = Builder(3, *size), np.random.default_rng(0)
    b.add("Conv", "x", sparse(rng, 5, 3, 3, 3, density=density), noise(1, 5), pads=[1, 2, 0, 1])
    b.add("Conv", b.last, sparse(rng, 5, 5, 3, 5, density=density), noise(2, 5), pads=[1, 2, 3, 4])
    b.add("Conv", b.last, sparse(rng, 4, 5, 3, 3, density=density), noise(3, 4),
          strides=[2, 3], pads=[2, 1, 1, 2])  # fmt: skip
    b.add("Conv", b.last, sparse(rng, 4, 1, 2, 3, density=density), noise(4, 4),
          group=4, pads=[1, 1, 1, 1])  # fmt: skip
    model, x = b.model(), noise(5, 2, 3, *size)
    graph, wanted = read(model), networks.reference(model, x)
    for isa in ISAS:
        for number in range(9):
            engine = Engine(graph, threads=1, isa=isa, plan=unmeasured(graph, isa, number))
            engine(np.full_like(x, np.nan))
            np.testing.assert_allclose(engine(x), wanted, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(("outputs", "width"), [(1, 701), (2, 256)])
def test_long_filters_of_one_channel(outputs: int, width: int) -> None:
    """As filter banks have them: their lanes are pixels, although no weight is zero."""
    b = Builder(1, 1, width)
    b.add("Conv", "x", noise(0, outputs, 1, 1, 256), noise(1, outputs), strides=[1, 2])
    model = b.model()
    check(model, noise(2, 2, 1, 1, width), candidates=9)
    graph = read(model)
    for isa in ISAS:
        names = [c.name.split()[0] for c in Lowering(graph, isa).candidates(graph.nodes[0])]
        assert "planes" in names
        assert "depthwise" not in names


def test_one_dimensional_convolution() -> None:
    b = Builder(4, 20)
    b.add("Conv", "x", noise(0, 6, 4, 3), noise(1, 6), strides=[2], pads=[1, 0])
    b.add("BatchNormalization", b.last, *networks.norm(np.random.default_rng(0), 6))
    b.add("MaxPool", b.last, kernel_shape=[2], strides=[2])
    check(b.model(), noise(2, 3, 4, 20))


def test_residual_block_and_batch_norm_alone() -> None:
    rng = np.random.default_rng(0)
    b = Builder(8, 6, 6)
    first = b.add("BatchNormalization", "x", *networks.norm(rng, 8))
    b.add("Conv", first, noise(0, 8, 8, 3, 3), noise(1, 8), pads=[1] * 4)
    b.add("Relu", b.last)
    b.add("Add", b.last, first)
    b.add("Mul", b.last, noise(2, 8, 1, 1))
    b.add("Concat", b.last, first, axis=1)
    b.add("Transpose", b.last, perm=[0, 2, 1, 3])
    b.add("Reshape", b.last, np.array([0, -1]))
    check(b.model(), noise(3, 2, 8, 6, 6))


def test_feed_forward_block() -> None:
    """A transformer's: layer norm, linear, GELU written out, linear, residual."""
    b = Builder(5, 16)
    scale, bias = noise(0, 16), noise(1, 16)
    b.add("LayerNormalization", "x", scale, bias, axis=-1, epsilon=1e-5)
    b.add("MatMul", b.last, noise(2, 16, 40))
    hidden = b.add("Add", b.last, noise(3, 40))
    b.add("Div", hidden, np.float32(math.sqrt(2)))
    b.add("Erf", b.last)
    b.add("Add", b.last, np.float32(1))
    b.add("Mul", hidden, b.last)
    b.add("Mul", b.last, np.float32(0.5))
    b.add("MatMul", b.last, noise(4, 40, 16))
    b.add("Add", b.last, noise(5, 16))
    b.add("Add", "x", b.last)
    check(b.model(), noise(6, 3, 5, 16))


def test_shape_arithmetic_is_folded_away() -> None:
    """The flatten that exporters write: Shape, Gather, Unsqueeze, Concat, Reshape."""
    b = Builder(3, 4)
    shape = b.add("Shape", "x")
    first = b.add("Gather", shape, np.array(0), axis=0)
    first = b.add("Unsqueeze", first, np.array([0]))
    target = b.add("Concat", first, b.constant(np.array([-1])), axis=0)
    b.add("Reshape", "x", target)
    b.add("Gemm", b.last, noise(0, 2, 12), noise(1, 2), transB=1)
    graph = read(b.model())
    assert [node.op for node in graph.nodes] == ["reshape", "linear"]
    check(b.model(), noise(2, 3, 3, 4))


def test_fixed_batch_and_two_inputs() -> None:
    b = Builder(3, batch=2)
    b.inputs.append(helper.make_tensor_value_info("z", 1, [2, 3]))
    b.add("Sub", "x", "z")
    b.add("Gemm", b.last, noise(0, 2, 3), noise(1, 2), transB=1)
    x, z = noise(2, 2, 3), noise(3, 2, 3)
    model = b.model()
    found = Engine(model, threads=1)(x, z)
    np.testing.assert_allclose(found, networks.reference(model, x, z), rtol=1e-5, atol=1e-6)
