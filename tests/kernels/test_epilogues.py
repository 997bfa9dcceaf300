"""What follows a layer on each of its numbers, at the end of its kernel, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder, sparse

from gossamer.kernels.registry import KERNELS, Kernel, chosen_isa
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.lowering.epilogues import fuse
from gossamer.runtime.program import Step, assemble

CONVOLUTIONS = (
    *("gemm", "sparse gemm", "winograd", "depthwise"),
    *("planes", "examples", "lanes", "active"),
)
TILES = [k for k in KERNELS if k.operation in CONVOLUTIONS and k.tile != "pool"]
LINEARS = ("gemm", "sparse gemm", "columns", "windows", "block lists", "dots", "active")


def run(
    graph: Graph, x: networks.Array, kernel: Kernel | None, threads: int
) -> tuple[list[Step], networks.Array]:
    """The steps, with the kernel where it can compute a node, and the result."""
    isa = kernel.isa if kernel else chosen_isa()
    lowering = Lowering(graph, isa, threads=threads, batched=True, every=True)
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        next((c for c in candidates if c.name.startswith(str(kernel))), candidates[0]).emit()
    outputs = [lowering.form(lowering.values[name], "dense") for name in graph.outputs]
    steps = fuse(lowering.steps, outputs)
    inputs = [lowering.values[name].forms["dense"] for name in graph.inputs]
    shapes = ([graph.shapes[name] for name in names] for names in (graph.inputs, graph.outputs))
    program = assemble(steps, inputs, outputs, *shapes, threads=threads, chunk=4)
    return steps, program.run([x], False)


def check(b: Builder, kernel: Kernel | None, seed: int = 0) -> list[Step]:
    model = b.model(opset=20)
    graph = read(model)
    shape = graph.shapes[graph.inputs[0]][1:]
    x = np.random.default_rng(seed).standard_normal((5, *shape)).astype(np.float32)
    wanted = networks.reference(model, x)
    for threads in (2, 1):
        steps, found = run(graph, x, kernel, threads)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return steps


def activation_scale_and_residual(b: Builder, layer: str, scale: networks.Array) -> None:
    b.add("HardSwish", layer)
    b.add("Mul", b.last, scale)
    b.add("Sigmoid", b.last)
    b.add("Sub", "x", b.last)


@pytest.mark.parametrize("kernel", TILES, ids=str)
def test_epilogue_of_a_convolution(kernel: Kernel) -> None:
    rng, channels = np.random.default_rng(1), 19
    groups = channels if "depthwise" in (kernel.operation, kernel.layout) else 1
    b = Builder(channels, 6, 7)
    taps = (
        [int(n) for n in kernel.layout[:3].split("x")] if kernel.operation == "winograd" else [3, 3]
    )
    weight = sparse(rng, channels, channels // groups, *taps, density=0.3)
    layer = b.add("Conv", "x", weight, pads=[n // 2 for n in 2 * taps], group=groups)
    activation_scale_and_residual(b, layer, rng.standard_normal((channels, 1, 1), np.float32))
    steps = check(b, kernel)
    # Tiles too wide for these outputs are no candidates. Where channels come last, the residual has
    # another layout and stays a step of its own.
    layers = [step for step in steps if step.kernel.operation == kernel.operation]
    assert [len(step.epilogue) >= 3 for step in layers] == [True]


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("kernel", [k for k in TILES if k.operation == "planes"], ids=str)
def test_epilogue_of_a_plane_of_several_tiles(kernel: Kernel, taps: int) -> None:
    """Tiles end within rows and between them; the channels are more than a chunk, or the rows
    of a channel more than a band."""
    rng, channels = np.random.default_rng(3), 40
    groups, width = (channels, 401) if kernel.layout == "depthwise" else (1, 31)
    b = Builder(channels, 23, width)
    weight = sparse(rng, channels, channels // groups, taps, taps, density=0.5)
    layer = b.add("Conv", "x", weight, pads=[taps // 2] * 4, group=groups)
    activation_scale_and_residual(b, layer, rng.standard_normal((channels, 1, 1), np.float32))
    layers = [step for step in check(b, kernel) if step.kernel.operation == kernel.operation]
    assert [len(step.epilogue) for step in layers] == [4]


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.operation in LINEARS], ids=str)
def test_epilogue_of_a_linear_layer(kernel: Kernel) -> None:
    rng, size = np.random.default_rng(2), 37
    b = Builder(size)
    weight = sparse(rng, size, size, density=0.3)
    layer = b.add("Gemm", "x", weight, transB=1)
    activation_scale_and_residual(b, layer, rng.standard_normal(size, np.float32))
    steps = check(b, kernel)
    wanted = "gemm" if kernel.layout == "channels" else kernel.operation  # for convolutions only
    layers = [step for step in steps if step.kernel.operation == wanted]
    assert [len(step.epilogue) for step in layers] == [4]


def test_a_chain_is_one_step_over_its_values() -> None:
    """x / (1 + |x|), scaled by the last axis: longer than what is worked on at once."""
    b = Builder(3, 45, 50)
    b.add("Abs", "x")
    b.add("Add", b.last, np.float32(1))
    b.add("Div", "x", b.last)
    b.add("Mul", b.last, np.arange(50, dtype=np.float32))
    (step,) = check(b, None)
    assert [link.binary for link in step.epilogue] == [True, True, True]


@pytest.mark.parametrize("size", [(1, 1), (6, 7), (19, 23)])
def test_a_batch_norm_and_its_relu_are_one_step(size: tuple[int, int]) -> None:
    rng, channels = np.random.default_rng(3), 5
    b = Builder(channels, *size)
    numbers = [rng.standard_normal(channels).astype(np.float32) for _ in range(3)]
    b.add("BatchNormalization", "x", *numbers, rng.random(channels).astype(np.float32))
    b.add("Relu", b.last)
    b.add("Add", "x", b.last)
    (step,) = check(b, None)
    assert step.kernel.operation == "scale"
    assert len(step.epilogue) == 1


def test_products_and_sums_that_differ_stay_apart() -> None:
    """A factor of each row beside a summand of each channel."""
    rng = np.random.default_rng(4)
    b = Builder(3, 4, 5)
    b.add("Mul", "x", rng.standard_normal((4, 1)).astype(np.float32))
    b.add("Add", b.last, rng.standard_normal((3, 1, 1)).astype(np.float32))
    (step,) = check(b, None)
    assert step.kernel.operation == "binary"


def test_a_value_that_others_read_keeps_its_own_step() -> None:
    b = Builder(8, 5, 5)
    layer = b.add("Conv", "x", np.ones((8, 8, 1, 1), np.float32))
    b.add("Sigmoid", layer)
    b.add("Mul", layer, b.last)
    b.add("Add", b.last, layer)
    steps = check(b, None)
    assert not next(s for s in steps if s.kernel.operation == "gemm").epilogue


def test_an_operand_made_later_is_not_read_before_it_is_there() -> None:
    """The second layer's sum with the first is the epilogue of the second."""
    b = Builder(8, 5, 5)
    first = b.add("Conv", "x", np.full((8, 8, 1, 1), 0.1, np.float32))
    second = b.add("Conv", "x", np.full((8, 8, 1, 1), 0.2, np.float32))
    b.add("Add", first, second)
    layers = [step for step in check(b, None) if step.kernel.operation == "gemm"]
    assert [len(step.epilogue) for step in layers] == [0, 1]
