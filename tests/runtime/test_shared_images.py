"""Threads that share the pixels of one image: the same numbers, whatever their number."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.kernels.registry import chosen_isa
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.program import assemble

KERNELS = ("planes unstructured whole", "planes blocks of 4", "planes depthwise", "gemm")


def run(model: bytes, x: networks.Array, kernel: str, threads: int) -> networks.Array:
    """Run it with a kernel wherever there is a candidate of it, all steps shared."""
    graph = read(model)
    lowering = Lowering(graph, chosen_isa(), threads=threads)
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        next((c for c in candidates if c.name.startswith(kernel)), candidates[0]).emit()
    outputs = [lowering.form(lowering.values[name], "dense") for name in graph.outputs]
    inputs = [lowering.values[name].forms["dense"] for name in graph.inputs]
    shapes = ([graph.shapes[name] for name in names] for names in (graph.inputs, graph.outputs))
    program = assemble(lowering.steps, inputs, outputs, *shapes, threads=threads)
    found: networks.Array = program.run([x], False)
    return found


def network(high: int, wide: int) -> bytes:
    """Padding, strides, parts of channels, enlarging, 1x1 and depthwise layers."""
    rng = np.random.default_rng(high)
    b = Builder(6, high, wide)
    b.add("Conv", "x", networks.sparse(rng, 8, 6, 3, 3, density=0.3), pads=[1] * 4)
    wide_ = b.add("Relu", b.last)
    b.add("Conv", wide_, networks.sparse(rng, 12, 8, 1, 1, density=0.3))
    b.add("Conv", b.last, networks.sparse(rng, 12, 1, 3, 3), pads=[1] * 4, group=12)
    first = b.add("Slice", b.last, np.array([0]), np.array([5]), np.array([1]))
    b.add("Conv", first, networks.sparse(rng, 4, 5, 3, 3, density=0.4), pads=[1, 0, 1, 2])
    b.add("Conv", b.last, networks.sparse(rng, 8, 4, 3, 3, density=0.4),
          pads=[1] * 4, strides=[2, 2])  # fmt: skip
    b.add("Resize", b.last, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32),
          mode="nearest", coordinate_transformation_mode="asymmetric",
          nearest_mode="floor")  # fmt: skip
    b.add("Conv", b.last, networks.sparse(rng, 8, 8, 1, 1, density=0.3))
    cut = b.add("Slice", b.last, np.array([0, 0]), np.array([high, wide]), np.array([2, 3]))
    b.add("Concat", cut, wide_, axis=1)
    return b.model()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(40, 40), (18, 34), (7, 6), (2, 3)])
def test_threads_share_an_image(kernel: str, size: tuple[int, int]) -> None:
    model = network(*size)
    x = np.random.default_rng(1).standard_normal((1, 6, *size)).astype(np.float32)
    alone = run(model, x, kernel, 1)
    wanted = networks.reference(model, x)
    np.testing.assert_allclose(alone, wanted, rtol=1e-4, atol=1e-4)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(run(model, x, kernel, threads), alone)
