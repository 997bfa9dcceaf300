"""Networks as C, compiled with every warning an error, beside ONNX Runtime and the engine."""

from __future__ import annotations

import math
import re
import subprocess
from typing import Any

import networks
import numpy as np
import pytest
import torch
from compiled import compile_c, needs_gcc, run_c
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder, sparse
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.nn import KWinners2d, k_winners_functions
from gossamer.runtime import Engine
from gossamer.runtime.c.memory import planned
from gossamer.runtime.c.source import identifier, to_c
from gossamer.runtime.c.tables import number
from gossamer.runtime.graph import Operation
from gossamer.runtime.importer import read

QUICK = settings(max_examples=10, deadline=None)
MANY = settings(max_examples=300, deadline=None)


def noise(seed: int, *shape: int) -> networks.Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(model: bytes, *inputs: networks.Array) -> None:
    wanted = networks.reference(model, *inputs)
    (found,) = run_c(model, *inputs)
    assert found.shape == wanted.shape
    scale = float(np.abs(wanted).max(initial=1e-3))
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5 * scale)


@needs_gcc
@pytest.mark.parametrize("winners", [False, True])
def test_speech_network(winners: bool) -> None:
    model = networks.speech_cnn(0.05, winners=winners, width=16, hidden=100)
    x = noise(0, 3, 1, 32, 32)
    check(model, x)
    np.testing.assert_allclose(run_c(model, x)[0], Engine(model, threads=1)(x), atol=2e-5)


@needs_gcc
@pytest.mark.parametrize("winners", [False, True])
def test_a_network_in_8_bits(winners: bool) -> None:
    b = Builder(2, 9, 9)
    b.add("Conv", "x", sparse(np.random.default_rng(0), 8, 2, 3, 3, density=0.4))
    b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    b.winners(15, (8, 3, 3)) if winners else b.add("Relu", b.last)
    b.add("Conv", b.last, sparse(np.random.default_rng(1), 6, 8, 2, 2), pads=[1, 0, 0, 1])
    b.add("Relu", b.last)
    b.add("Flatten", b.last)
    weight = sparse(np.random.default_rng(2), 10, 54, density=0.3)
    b.add("Gemm", b.last, weight, noise(3, 10), transB=1)
    plain = to_c(b.model(), "net")
    model = b.in_8_bits(0.04, np.uint8(0)).model()
    text = to_c(model, "net")
    x = noise(0, 6, 2, 9, 9)
    # Rounded inside the layer before, where nothing stands between.
    assert len(re.findall(r"uint8_t \*y\)", text)) == 3
    assert len(re.findall(r"void net_\d+_round", text)) == (3 if winners else 2)
    tables, eight = (int(re.search(r"WEIGHT_BYTES (\d+)", t)[1]) for t in (plain, text))
    assert eight < 0.6 * tables
    found, engine = run_c(model, x)[0], Engine(model, threads=1)(x)
    off = np.abs(found - engine)
    assert np.median(off) < 1e-5
    assert off.max() < 0.04 * 2, "a code or two apart at most"


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    return {
        "groups": draw(st.sampled_from([1, 1, 2])),
        "channels": draw(st.sampled_from([1, 3, 5])),
        "outputs": draw(st.sampled_from([1, 3, 8])),
        "size": [d * (k - 1) + 1 + draw(st.integers(0, 9))
                 for k, d in zip(kernel, dilation, strict=True)],
        "kernel": kernel,
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilations": dilation,
        "pads": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "density": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        "winners": draw(st.booleans()),
        "relu": draw(st.booleans()),
        "pool": draw(st.booleans()),
        "zero": draw(st.sampled_from([None, np.int8(0), np.uint8(0), np.uint8(9)])),
    }  # fmt: skip


@needs_gcc
@QUICK
@given(convolutions(), st.integers(0, 9))
def test_convolution(c: dict[str, Any], seed: int) -> None:
    convolve(c, seed)


@needs_gcc
@pytest.mark.slow
@MANY
@given(convolutions(), st.integers(0, 9))
def test_many_convolutions(c: dict[str, Any], seed: int) -> None:
    convolve(c, seed)


def convolve(c: dict[str, Any], seed: int) -> None:
    """Both ways, from the inputs (behind k-winners) and from the weights."""
    groups = c["groups"]
    shape = (c["channels"] * groups, *c["size"])
    b = Builder(*shape)
    if c["winners"]:
        b.winners(max(1, math.prod(shape) // 5), shape)
    weight = sparse(np.random.default_rng(seed), c["outputs"] * groups, c["channels"],
                    *c["kernel"], density=c["density"])  # fmt: skip
    b.add("Conv", b.last, weight, noise(seed, len(weight)), strides=c["strides"],
          dilations=c["dilations"], pads=c["pads"], group=groups)  # fmt: skip
    if c["relu"]:
        b.add("Relu", b.last)
    size = [
        (n + p + q - d * (k - 1) - 1) // s + 1
        for n, p, q, d, k, s in zip(
            c["size"], c["pads"][:2], c["pads"][2:], c["dilations"], c["kernel"], c["strides"],
            strict=True,
        )
    ]  # fmt: skip
    if c["pool"] and min(size) >= 2:
        b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    if c["zero"] is not None:
        b.in_8_bits(0.03, c["zero"])
    check(b.model(), noise(seed + 1, 2, *shape))


@needs_gcc
@QUICK
@given(
    st.sampled_from([(300,), (3, 5, 4), (16, 3, 3)]), st.booleans(), st.booleans(),
    st.floats(0.01, 1.0), st.sampled_from([0, 1, 10]), st.integers(0, 99),
)  # fmt: skip
def test_winners(
    shape: tuple[int, ...], local: bool, boosted: bool, share: float, digits: int, seed: int
) -> None:
    """The same winners as everywhere, where many tie too: the lowest index."""
    group = shape[0] if local else math.prod(shape)
    function = networks.winners_function(local)
    b = Builder(*shape)
    b.functions.append(function)
    each = (shape[0], *[1] * (len(shape) - 1))
    boost = np.random.default_rng(seed).uniform(0.5, 2, each).astype(np.float32)
    boost = boost if boosted else np.ones(each, np.float32)
    b.add(function.name, "x", boost, domain="gossamer", k=max(1, int(share * group)))
    x = np.round(noise(seed, 3, *shape), digits).astype(np.float32)
    (found,) = run_c(b.model(), x)
    np.testing.assert_array_equal(found, networks.reference(b.model(), x))
    np.testing.assert_array_equal(found, Engine(b.model(), threads=1)(x))


@needs_gcc
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("boosted", [False, True])
@pytest.mark.parametrize("n", [20, 1100])
def test_nan_wins_alike_everywhere(local: bool, boosted: bool, n: int) -> None:
    """In torch (its own operations and the kernel), ONNX Runtime, the engine and C."""
    x = noise(0, 6, n, 3)
    x[1, n // 2, 1], x[2], x[3, :, 0] = np.nan, np.nan, np.inf
    x[3, 1, 0], x[4, 0, 0], x[5, n // 3, 2] = np.nan, -np.nan, -np.inf
    boost = np.linspace(0.5, 2, n, dtype=np.float32)[:, None] if boosted else np.ones((n, 1), "f4")
    k = n // 5 if local else 3 * n // 5
    b = Builder(n, 3)
    b.functions.extend(k_winners_functions())
    b.add("KWinnersLocal" if local else "KWinners", "x", boost, domain="gossamer", k=k)
    wanted = networks.reference(b.model(), x)
    layer = KWinners2d(n, k / n if local else k / n / 3, local=local, boost_strength=1.0)
    layer.boost = lambda n: torch.from_numpy(boost[:, 0])  # type: ignore[method-assign]
    for found in (
        layer(torch.from_numpy(x)).numpy(),
        layer(torch.from_numpy(x).double()).float().numpy(),
        Engine(b.model(), threads=1)(x),
        run_c(b.model(), x)[0],
    ):
        np.testing.assert_array_equal(found, wanted)


@needs_gcc
def test_elementwise_functions() -> None:
    """All of them on the same input, joined."""
    b = Builder(13)
    joined = [
        b.add(op, "x", **settings)
        for op, settings in {
            "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Erf": {}, "LeakyRelu": {"alpha": 0.2},
            "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "HardSwish": {}, "Neg": {}, "Exp": {},
            "Gelu": {"approximate": "tanh"}, "Softmax": {"axis": -1}, "LogSoftmax": {"axis": 1},
            "Identity": {}, "Elu": {}, "Softplus": {}, "Mish": {}, "Abs": {}, "Reciprocal": {},
        }.items()
    ]  # fmt: skip
    joined.append(b.add("Gelu", "x"))
    joined.append(b.add("Sqrt", b.add("Exp", "x")))
    joined.append(b.add("Clip", "x", np.float32(-0.5), np.float32(0.75)))
    joined.append(b.add("Div", "x", b.add("Exp", "x")))
    joined.append(b.add("Sub", np.float32(1.5), "x"))
    b.add("Concat", *joined, axis=1)
    check(b.model(opset=20), noise(0, 3, 13))


@needs_gcc
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pool(op: str) -> None:
    b, joined = Builder(4, 7, 8), []
    for kernel, stride, pads, ceil, counted in [
        (2, 2, [0, 0, 0, 0], 0, 0), (3, 2, [1, 1, 1, 1], 0, 0), (3, 2, [1, 0, 1, 1], 1, 1),
        (2, 1, [0, 1, 1, 0], 0, 1), (3, 3, [0, 0, 0, 0], 1, 1),
    ]:  # fmt: skip
        extra = {"count_include_pad": counted} if op == "AveragePool" else {}
        b.add(op, "x", kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads,
              ceil_mode=ceil, **extra)  # fmt: skip
        joined.append(b.add("Flatten", b.last))
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        b.add(name, "x")
        joined.append(b.add("Flatten", b.last))
    b.add("Concat", *joined, axis=1)
    check(b.model(), noise(1, 2, 4, 7, 8))


@needs_gcc
def test_one_dimension() -> None:
    b = Builder(4, 20)
    b.add("Conv", "x", noise(0, 6, 4, 3), noise(1, 6), strides=[2], pads=[1, 0])
    b.add("BatchNormalization", b.last, *networks.norm(np.random.default_rng(0), 6))
    b.add("MaxPool", b.last, kernel_shape=[2], strides=[2])
    b.add("InstanceNormalization", b.last, noise(3, 6), noise(4, 6))
    check(b.model(), noise(2, 3, 4, 20))


@needs_gcc
def test_three_dimensions() -> None:
    b = Builder(4, 3, 5, 6)
    b.add("Conv", "x", noise(0, 6, 4, 2, 3, 3), noise(1, 6), pads=[1] * 6)
    b.add("MaxPool", b.last, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    b.add("GlobalAveragePool", b.last)
    check(b.model(), noise(2, 1, 4, 3, 5, 6))


@needs_gcc
def test_residual_block() -> None:
    """A value that is read again later must not be overwritten; moves of all kinds."""
    rng = np.random.default_rng(0)
    b = Builder(8, 6, 6)
    first = b.add("BatchNormalization", "x", *networks.norm(rng, 8))
    b.add("Conv", first, noise(0, 8, 8, 3, 3), noise(1, 8), pads=[1] * 4)
    b.add("Sigmoid", b.last)
    b.add("Add", b.last, first)
    b.add("Mul", b.last, noise(2, 8, 1, 1))
    b.add("GlobalAveragePool", first)
    b.add("Mul", first, b.last)  # squeeze and excite
    b.add("Concat", b.last, first, axis=1)
    b.add("Transpose", b.last, perm=[0, 2, 1, 3])
    b.add("Slice", b.last, np.array([1]), np.array([6]), np.array([1]), np.array([2]))
    b.add("Pad", b.last, np.array([0, 0, 1, 0, 0, 2, 0, 1]))
    b.add("Resize", b.last, "", np.array([1, 1, 2, 3], np.float32), mode="nearest",
          coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    b.add("ConvTranspose", b.last, noise(5, 5, 2, 3, 3), noise(6, 2), strides=[2, 2])
    b.add("Reshape", b.last, np.array([0, -1]))
    check(b.model(), noise(3, 2, 8, 6, 6))


@needs_gcc
def test_attention_block() -> None:
    b = Builder(5, 16)
    normed = b.add("LayerNormalization", "x", noise(0, 16), noise(1, 16), axis=-1)
    query, key, value = (b.add("MatMul", normed, noise(i, 16, 16)) for i in (2, 3, 4))
    turned = b.add("Transpose", key, perm=[0, 2, 1])
    b.add("Softmax", b.add("MatMul", query, turned), axis=-1)
    b.add("MatMul", b.last, value)
    b.add("Add", "x", b.last)
    b.add("MatMul", b.last, sparse(np.random.default_rng(0), 16, 24, density=0.2))
    b.add("Add", b.last, noise(5, 24))
    check(b.model(), noise(6, 3, 5, 16))


@needs_gcc
def test_choices_and_rows_of_a_table() -> None:
    """Truth, both sides of choices, and an embedding."""
    b = Builder(4, 3)
    whole = b.add("Cast", b.add("Clip", "x", np.float32(-2), np.float32(2)), to=TensorProto.INT64)
    compared = [
        b.add(op, whole, np.array(1))
        for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    ]
    truth = b.add("Or", b.add("And", *compared[:2]), b.add("Xor", *compared[1:3]))
    chosen = b.add("Where", truth, "x", np.float32(-9))
    other = b.add("Where", b.add("Not", compared[3]), np.float32(2), "x")
    least = b.add("Min", chosen, other, b.add("Pow", b.add("Abs", "x"), np.float32(1.5)))
    nothing = b.add("IsNaN", b.add("Max", b.add("Sqrt", "x"), other))
    rows = b.add("Gather", noise(0, 5, 3), b.add("ReduceMax", whole, np.array([2]), keepdims=0))
    b.add("Concat", least, b.add("Cast", nothing, to=TensorProto.FLOAT), rows, axis=-1)
    check(b.model(opset=20), noise(1, 5, 4, 3))


@needs_gcc
def test_two_inputs_and_three_outputs() -> None:
    """An output that is read on, one that only has another shape, and a fixed batch of 2."""
    b = Builder(3, batch=2)
    b.inputs.append(helper.make_tensor_value_info("z", 1, [2, 3]))
    first = b.add("Sub", "x", "z")
    second = b.add("Gemm", first, noise(0, 2, 3), noise(1, 2), transB=1)
    third = b.add("Unsqueeze", second, np.array([1]))
    x, z = noise(2, 2, 3), noise(3, 2, 3)
    found = run_c(b.model(first, second, third), x, z)
    for got, wanted in zip(found, Engine(b.model(first, second, third))(x, z), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@needs_gcc
def test_as_a_program(tmp_path) -> None:
    model = networks.linear_after_winners()
    compile_c(to_c(model, "net"), tmp_path / "net", "-DNET_MAIN", "-O2")
    x = noise(0, 3, 64)
    done = subprocess.run([tmp_path / "net"], input=x.tobytes(), capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(3, 512)
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)


def test_the_head_says_the_sizes() -> None:
    """Counted from the tables themselves; sparse weights take less."""
    sizes = {}
    for density in (0.05, 1.0):
        b = Builder(40)
        b.add("Gemm", "x", sparse(np.random.default_rng(0), 30, 40, density=density), transB=1)
        b.add("Relu", b.last)
        b.add("Gemm", b.last, noise(0, 7, 30), transB=1)
        text = to_c(b.model(), "net")
        counted = 0
        for kind, count in re.findall(r"static const (\w+) \w+\[(\d+)\]", text):
            counted += int(count) * {"float": 4, "uint8_t": 1, "uint16_t": 2}[kind]
        assert f"#define NET_WEIGHT_BYTES {counted}\n" in text
        assert "#define NET_MEMORY_BYTES 120\n" in text
        assert "math.h" not in text
        sizes[density] = counted
    assert sizes[1.0] == 4 * (1200 + 30 + 210 + 7)
    assert sizes[0.05] < sizes[1.0] / 2


def test_memory_is_shared_by_values_that_do_not_meet() -> None:
    b = Builder(100)
    for inputs, outputs in ((100, 50), (50, 60), (60, 40)):
        b.add("Gemm", b.last, noise(0, outputs, inputs), transB=1)
        b.add("Sigmoid", b.last)  # in place
    b.add("Gemm", b.last, noise(0, 3, 40), transB=1)
    assert planned(read(b.model()), {})[2] == 110


@pytest.mark.parametrize("text", ["7-bit net.v2", "int", "é*/", "", "a b\n#error", "?" * 90])
def test_names_are_made_identifiers(text: str) -> None:
    name = identifier(text)
    assert re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII)
    assert name != "int"


@needs_gcc
def test_a_file_name_cannot_end_the_comment(tmp_path) -> None:
    path = tmp_path / "a*??)\n\\é.onnx"
    path.write_bytes(networks.linear_after_winners())
    compile_c(to_c(path, path.stem), tmp_path / "net.so", "-shared", "-fPIC")


@pytest.mark.parametrize("value", [0.1, -3.0, 1e-42, 3.4028235e38, 1e10, 16777216.0, -0.0])
def test_numbers_survive(value: float) -> None:
    text = number(value)
    assert np.float32(text.rstrip("f")) == np.float32(value)
    assert re.fullmatch(r"-?\d+(\.\d*)?(e[+-]\d+)?f", text)
    assert "." in text or "e" in text


def test_every_operation_of_the_engine_has_kernels_and_c() -> None:
    def leaves(kind: type[Operation]) -> list[type[Operation]]:
        below = kind.__subclasses__()
        return [leaf for each in below for leaf in leaves(each)] if below else [kind]

    operations = leaves(Operation)
    assert len({operation.op for operation in operations}) == len(operations) > 10
    for operation in operations:
        assert not operation.__abstractmethods__, operation


def test_weights_that_are_not_finite_are_refused() -> None:
    b = Builder(2)
    b.add("Gemm", "x", np.array([[1, np.inf]], np.float32), transB=1)
    with pytest.raises(UserError, match="not finite"):
        to_c(b.model())
