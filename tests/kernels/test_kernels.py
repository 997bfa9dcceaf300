"""Every row of the table of kernels against ONNX Runtime, over shapes that hypothesis makes.

The table drives the tests: a row whose operation has no network here, or that no network
ever uses, fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networks
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from networks import Builder, sparse
from onnx import TensorProto

from gossamer.kernels.registry import KERNELS, Kernel
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Candidate, Lowering
from gossamer.runtime.lowering.epilogues import fuse
from gossamer.runtime.program import Buffer, Step, assemble

Network = Callable[[st.DrawFn, Kernel], Builder]
DENSITIES = st.sampled_from([0.0, 0.03, 0.2, 0.7, 1.0])
BLOCKS = st.sampled_from([1, 8, 16])


def noise(seed: int, *shape: int) -> networks.Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def activations(b: Builder, draw: st.DrawFn, shape: tuple[int, ...]) -> None:
    """Nothing, a ReLU or k-winners before the layer: all, half or few inputs are active."""
    before = draw(st.sampled_from(["nothing", "relu", "winners"]))
    if before == "relu":
        b.add("Relu", b.last)
    elif before == "winners":
        size = math.prod(shape)
        b.winners(draw(st.integers(1, max(1, size // 3))), shape)


def weights(draw: st.DrawFn, *shape: int) -> networks.Array:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return sparse(rng, *shape, density=draw(DENSITIES), block=draw(BLOCKS))


def linear(draw: st.DrawFn, kernel: Kernel) -> Builder:
    inputs, outputs = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    if draw(st.integers(0, 9)) == 0:  # deeper than what is worked on at once
        inputs = draw(st.sampled_from([500, 1100, 2100]))
    b = Builder(inputs)
    activations(b, draw, (inputs,))
    b.add("Gemm", b.last, weights(draw, outputs, inputs), noise(1, outputs), transB=1)
    if draw(st.booleans()):
        b.add("Relu", b.last)
    return b


def convolution(draw: st.DrawFn, kernel: Kernel) -> Builder:
    taps = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    dilations = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    strides = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    if kernel.tile == "pool" or kernel.operation == "winograd":
        strides = 1, 1
    if kernel.operation == "winograd":
        high, wide = kernel.layout[:3].split("x")
        taps = int(high), int(wide)
    whole = kernel.layout[:3] == "1x3" and draw(st.booleans())  # a window as high as the image
    if whole:
        taps, dilations, pads[0], pads[2] = (4, 3), (1, dilations[1]), 0, 0
    size = [
        d * (k - 1) + 1 + draw(st.integers(0, 18)) for k, d in zip(taps, dilations, strict=True)
    ]
    if whole:
        size[0] = taps[0]
    high, wide = (
        (n + p + q - d * (k - 1) - 1) // s + 1
        for n, p, q, d, k, s in zip(size, pads[:2], pads[2:], dilations, taps, strides, strict=True)
    )
    channels, outputs = (
        draw(st.sampled_from([1, 2, 7, 16, 33])),
        draw(st.sampled_from([1, 8, 19, 64])),
    )
    groups = 1
    if "depthwise" in (kernel.operation, kernel.layout):
        groups, outputs = channels, channels * draw(st.integers(1, 2))
    elif (
        kernel.operation in ("gemm", "sparse gemm", "integer gemm", "planes")
        and channels == 16
        and draw(st.booleans())
    ):
        groups = outputs = 8
    b = Builder(channels, *size)
    activations(b, draw, (channels, *size))
    weight = weights(draw, outputs, channels // groups, *taps)
    b.add("Conv", b.last, weight, noise(2, outputs), strides=strides, dilations=dilations,
          pads=pads, group=groups)  # fmt: skip
    pool = kernel.tile == "pool" or (kernel.operation != "lanes" and draw(st.booleans()))
    if pool and min(high, wide) >= 2:
        b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    if draw(st.booleans()):
        b.add("Relu", b.last)
    return b


def either(draw: st.DrawFn, kernel: Kernel) -> Builder:
    return (linear if draw(st.booleans()) else convolution)(draw, kernel)


def active(draw: st.DrawFn, kernel: Kernel) -> Builder:
    return (convolution if kernel.layout == "channels" else either)(draw, kernel)


def winners(draw: st.DrawFn, kernel: Kernel) -> Builder:
    shape = draw(st.sampled_from([(40,), (3, 5, 4), (20, 9, 9), (1500,), (24, 14, 14)]))
    local = draw(st.booleans())
    size = shape[0] if local else math.prod(shape)
    b = Builder(*shape)
    if draw(st.booleans()):
        b.add("Relu", "x")  # zeros tie
    b.winners(draw(st.integers(1, size)), shape, local=local)
    return b


def from_relu(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """A ReLU's zeros, listed for the layer that follows."""
    inputs = draw(st.integers(1, 200))
    b = Builder(inputs)
    b.add("Relu", "x")
    b.add("Gemm", b.last, sparse(np.random.default_rng(0), 5, inputs, density=0.2),
          noise(1, 5), transB=1)  # fmt: skip
    return b


def pool(draw: st.DrawFn, kernel: Kernel) -> Builder:
    sides = [draw(st.integers(1, 5)) for _ in range(2)]
    strides = [draw(st.sampled_from([1, 2, 3, 4, 5, 31])) for _ in range(2)]
    pads = [draw(st.integers(0, side - 1)) for side in 2 * sides]
    width = draw(st.one_of(st.integers(5, 36), st.sampled_from([1100, 2300])))
    channels = draw(st.sampled_from([1, 5, 16, 20] if width < 100 else [1]))
    b = Builder(channels, draw(st.integers(5, 20)), width)
    if draw(st.integers(0, 4)) == 0:  # one output a row, or a window too wide to be worth vectors
        sides, pads = [draw(st.integers(1, 5)), draw(st.sampled_from([width, width - 1]))], [0] * 4
    elif draw(st.booleans()):  # side by side in rows, which then are one row where nothing is over
        sides, pads = [1, draw(st.sampled_from([k for k in range(2, 6) if width % k < 2]))], [0] * 4
        strides = sides
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    extra = {"count_include_pad": int(draw(st.booleans()))} if op == "AveragePool" else {}
    b.add(op, "x", kernel_shape=sides, strides=strides, pads=pads,
          ceil_mode=int(draw(st.booleans())), **extra)  # fmt: skip
    return b


def copy(draw: st.DrawFn, kernel: Kernel) -> Builder:
    shape = [draw(st.integers(1, 20)) for _ in range(3)]
    b = Builder(*shape)
    b.add("Transpose", "x", perm=[0, *draw(st.permutations([1, 2, 3]))])
    if draw(st.booleans()):
        times = [1.0, 1.0, *(float(draw(st.integers(1, 5))) for _ in range(2))]
        b.add("Resize", b.last, np.zeros(0, np.float32), np.array(times, np.float32),
              coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    b.add("Concat", b.last, b.last, axis=draw(st.integers(1, 3)))
    return b


def unary(draw: st.DrawFn, kernel: Kernel) -> Builder:
    b = Builder(draw(st.integers(1, 70)))
    op, extra = draw(st.sampled_from(
        [("Sigmoid", {}), ("Tanh", {}), ("Relu", {}), ("Erf", {}), ("LeakyRelu", {"alpha": 0.2}),
         ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("Neg", {}), ("Exp", {}),
         ("Gelu", {"approximate": "tanh"}), ("Gelu", {}), ("Elu", {}), ("Softplus", {}),
         ("Abs", {}), ("Reciprocal", {})]
    ))  # fmt: skip
    b.add(op, "x", **extra)
    return b


def binary(draw: st.DrawFn, kernel: Kernel) -> Builder:
    shape = [draw(st.integers(1, 20)) for _ in range(3)]
    b = Builder(*shape)
    constant = [n if draw(st.booleans()) else 1 for n in shape]
    b.add(draw(st.sampled_from(["Add", "Sub", "Mul", "Div"])), "x", noise(3, *constant))
    b.add(draw(st.sampled_from(["Add", "Mul", "Min", "Max"])), b.last, "x")
    return b


def scale(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """A batch norm, of small images and of those whose pixels threads share, or 8-bit weights."""
    if draw(st.booleans()):
        return in_8_bits(either)(draw, kernel)
    size = draw(st.sampled_from([(1, 1), (3, 5), (4, 8), (13, 31)]))
    channels = draw(st.integers(2, 20))
    b = Builder(channels, *size)
    statistics = noise(0, channels), noise(1, channels), noise(2, channels), noise(3, channels) ** 2
    b.add("BatchNormalization", "x", *statistics)
    if draw(st.booleans()):
        b.add("Relu", b.last)
    if draw(st.booleans()):
        b.add("HardSwish", b.last)
    return b


def softmax(draw: st.DrawFn, kernel: Kernel) -> Builder:
    b = Builder(draw(st.integers(1, 4)), draw(st.integers(1, 50)))
    b.add(draw(st.sampled_from(["Softmax", "LogSoftmax"])), "x", axis=-1)
    return b


def layer_norm(draw: st.DrawFn, kernel: Kernel) -> Builder:
    size = draw(st.integers(1, 50))
    b = Builder(draw(st.integers(1, 4)), size)
    b.add("LayerNormalization", "x", noise(0, size), noise(1, size), axis=-1, epsilon=1e-5)
    return b


def embed(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """Rows of a table by numbers from -2 to 2."""
    b = Builder(draw(st.integers(1, 40)))
    b.add("Clip", "x", np.float32(-2), np.float32(2))
    index = b.add("Cast", b.last, to=TensorProto.INT64)
    b.add("Gather", noise(0, draw(st.integers(3, 9)), draw(st.integers(1, 40))), index)
    return b


def matmul(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """A value times its own transpose, matrix by matrix."""
    b = Builder(draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 40)))
    b.add("Transpose", "x", perm=[0, 1, 3, 2])
    b.add("MatMul", "x", b.last)
    return b


def round_(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """A value, or the winners of it, on the grid of a type of 8 bits."""
    shape = draw(st.sampled_from([(40,), (3, 5, 4), (20, 9, 9)]))
    b = Builder(*shape)
    if draw(st.booleans()):
        b.winners(draw(st.integers(1, math.prod(shape))), shape)
    zero = draw(st.sampled_from([np.int8(0), np.uint8(0), np.uint8(7), np.int8(-128)]))
    b.rounded(b.last, draw(st.sampled_from([0.5, 0.03, 0.007])), zero)
    return b


def in_8_bits(network: Network, steps: tuple[float, ...] = (0.0, 0.02)) -> Network:
    """The same with weights, and where a step is not 0 inputs, in 8 bits."""

    def build(draw: st.DrawFn, kernel: Kernel) -> Builder:
        b = network(draw, kernel._replace(operation=kernel.operation.removesuffix(" int8")))
        zero = draw(st.sampled_from([np.int8(0), np.uint8(0), np.uint8(100)]))
        return b.in_8_bits(draw(st.sampled_from(steps)), zero)

    return build


def in_16_bits(draw: st.DrawFn, kernel: Kernel) -> Builder:
    """Linear layers, of which a file has the weights in 16 bits."""
    return linear(draw, kernel).in_16_bits()


# A network for each operation of the table.
OPERATIONS: dict[str, Network] = {
    "gemm": either,
    "sparse gemm": either,
    "winograd": convolution,
    "depthwise": convolution,
    "planes": convolution,
    "examples": convolution,
    "columns": linear,
    "windows": linear,
    "block lists": linear,
    "dots": linear,
    "lanes": convolution,
    "active": active,
    "winners": winners,
    "nonzeros": from_relu,
    "scatter": winners,
    "embed": embed,
    "matmul": matmul,
    "pool": pool,
    "copy": copy,
    "unary": unary,
    "binary": binary,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "scale": scale,
    "integer gemm": in_8_bits(either, (0.02,)),
    "codes": in_8_bits(either, (0.02,)),
    "round": round_,
}
for operation in (
    "gemm",
    "sparse gemm",
    "depthwise",
    "planes",
    "examples",
    "columns",
    "windows",
    "block lists",
    "dots",
    "lanes",
    "active",
):
    OPERATIONS[f"{operation} int8"] = in_8_bits(OPERATIONS[operation])
for operation in ("gemm", "sparse gemm", "windows", "block lists", "dots"):
    OPERATIONS[f"{operation} float16"] = in_16_bits


def lowered(
    graph: Graph, kernel: Kernel, *, threads: int, batched: bool, sparse: bool
) -> tuple[list[Step], list[Buffer]]:
    """Steps in which the kernel computes whatever it can."""
    lowering = Lowering(
        graph, kernel.isa, threads=threads, batched=batched, every=True, sparse=sparse
    )
    through = {"nonzeros": "active", "codes": f"integer gemm {kernel.layout}"}
    wanted = through.get(kernel.operation, str(kernel))
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        chosen: Candidate = next(
            (c for c in candidates if c.name.startswith(wanted)), candidates[0]
        )
        chosen.emit()
    outputs = [lowering.form(lowering.values[name], "dense") for name in graph.outputs]
    return fuse(lowering.steps, outputs), outputs


def check(kernel: Kernel, draw: st.DrawFn) -> bool:
    """One network on one batch; returns whether the kernel was used."""
    model = OPERATIONS[kernel.operation](draw, kernel).model(opset=20)
    graph = read(model)
    name, output = graph.inputs[0], graph.outputs[0]
    batch, many = draw(st.sampled_from([0, 1, 2, 3, 21])), draw(st.booleans())
    x = noise(draw(st.integers(0, 99)), batch, *graph.shapes[name][1:])
    if draw(st.booleans()):
        x = np.round(x)  # ties, and zeros
    # What a max-pool makes of NaN depends on where it lies, in ONNX Runtime; no standard says what
    # the order of NaN is among winners, and what it is in 8 bits or as an index.
    vague = any(
        node.op in ("winners", "pool", "round", "embed") or getattr(node.operation, "pool", 1) > 1
        for node in graph.nodes
    )
    strange = kernel.any_number and not vague and bool(x.size) and draw(st.booleans())
    if strange:
        x.flat[draw(st.integers(0, x.size - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    results, used = [], False
    for threads in (1, 2, 3):
        steps, outputs = lowered(graph, kernel, threads=threads, batched=many, sparse=not strange)
        used |= any(step.kernel == kernel for step in steps)
        source = Buffer(name, math.prod(graph.shapes[name]))
        program = assemble(
            steps, [source], outputs, [graph.shapes[name]], [graph.shapes[output]],
            threads=threads, chunk=draw(st.sampled_from([1, 2, 8, 32])),
        )  # fmt: skip
        results.append(program.run([x], False))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    wanted = networks.reference(model, x) if batch else np.zeros(results[0].shape, np.float32)
    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3))
    np.testing.assert_allclose(results[0], wanted, rtol=2e-4, atol=2e-5 * scale)
    return used


def over_many(kernel: Kernel, examples: int) -> None:
    used: list[bool] = []

    def run(data: Any) -> None:
        used.append(check(kernel, data.draw))

    for count in (examples, 10 * examples):  # more, where none of the first is one for the kernel
        settings(
            max_examples=count, deadline=None, database=None, derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(st.data())(run))()  # fmt: skip
        if any(used):
            return
    raise AssertionError(f"no network used {kernel}")


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernel_against_onnx_runtime(kernel: Kernel) -> None:
    over_many(kernel, 4 if kernel.operation.endswith("int8") else 8)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernel_against_onnx_runtime_at_length(kernel: Kernel) -> None:
    over_many(kernel, 120)


def test_every_operation_of_the_table_has_a_network() -> None:
    assert {kernel.operation for kernel in KERNELS} == set(OPERATIONS)


@pytest.mark.parametrize(
    "kernel",
    [k for k in KERNELS if k.operation == "active" and k.layout not in ("channels", "dense")],
    ids=str,
)
def test_one_tap_for_each_residue_of_the_stride(kernel: Kernel) -> None:
    """Columns 0, 2 and 4 of the kernel meet inputs of different residues modulo 3."""
    b = Builder(2, 4, 12)
    b.winners(30, (2, 4, 12))
    weight = sparse(np.random.default_rng(0), 8, 2, 1, 3, density=0.7)
    b.add("Conv", b.last, weight, noise(2, 8), strides=[1, 3], dilations=[1, 2], pads=[0, 2, 0, 2])
    model = b.model(opset=20)
    graph = read(model)
    x = noise(5, 3, 2, 4, 12)
    steps, outputs = lowered(graph, kernel, threads=1, batched=True, sparse=True)
    assert any(step.kernel == kernel for step in steps)
    source = Buffer(graph.inputs[0], 2 * 4 * 12)
    shapes = [graph.shapes[graph.inputs[0]]], [graph.shapes[graph.outputs[0]]]
    found = assemble(steps, [source], outputs, *shapes).run([x], False)
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.operation == "winograd"], ids=str)
def test_filtering_loses_no_digits(kernel: Kernel) -> None:
    """Sums over 128 channels have the accuracy of single precision."""
    channels, outputs = 128, 32
    taps = [int(n) for n in kernel.layout[:3].split("x")]
    b = Builder(channels, 13, 14)
    weight = noise(0, outputs, channels, *taps)
    b.add("Conv", "x", weight, np.zeros(outputs, np.float32), pads=[n // 2 for n in 2 * taps])
    graph = read(b.model(opset=20))
    x = np.maximum(noise(1, 2, channels, 13, 14), 0)
    steps, results = lowered(graph, kernel, threads=1, batched=True, sparse=True)
    assert any(step.kernel == kernel for step in steps)
    shapes = [graph.shapes[graph.inputs[0]]], [graph.shapes[graph.outputs[0]]]
    source = Buffer(graph.inputs[0], math.prod(x.shape[1:]))
    found = assemble(steps, [source], results, *shapes).run([x], False)
    exact = [torch.from_numpy(array).double() for array in (x, weight)]
    wanted = torch.nn.functional.conv2d(*exact, padding=[n // 2 for n in taps]).numpy()
    assert np.abs(found - wanted).max() < 3e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.operation == "integer gemm"], ids=str)
@pytest.mark.parametrize("zero", [np.uint8(0), np.uint8(100), np.int8(0)], ids=repr)
def test_sums_of_whole_numbers_are_exact(kernel: Kernel, zero: np.integer[Any]) -> None:
    """At both ends of the range, where products of two bytes added up in 16 bits saturate."""
    inputs, outputs = 4099, int(kernel.tile) * kernel.width - 1
    rng = np.random.default_rng(0)
    weight = rng.choice(np.array([-127, 126, 127], np.int8), (outputs, inputs))
    weight[0], weight[1] = 127, -127
    b = Builder(inputs)
    b.rounded("x", 1.0, zero)
    b.add("Gemm", b.last, b.add("DequantizeLinear", weight, np.float32(1)), transB=1)
    graph = read(b.model())
    limits = np.iinfo(zero.dtype)
    ends = np.array([limits.min, limits.max]) - int(zero)
    x = rng.choice(ends, (13, inputs))
    x[0], x[1] = ends[1], ends[0]
    steps, results = lowered(graph, kernel, threads=1, batched=True, sparse=True)
    assert any(step.kernel == kernel for step in steps)
    shapes = [graph.shapes[graph.inputs[0]]], [graph.shapes[graph.outputs[0]]]
    program = assemble(steps, [Buffer(graph.inputs[0], inputs)], results, *shapes)
    found = program.run([x.astype(np.float32)], False)
    wanted = x.astype(np.int64) @ weight.T.astype(np.int64)
    np.testing.assert_array_equal(found, wanted.astype(np.float32))
