"""Parts of threads: copies by strides, and layers whose outputs have very different work."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.kernels.registry import KERNELS, Kernel
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.program import Buffer, Step, assemble

SIZES = (1, 1, 2, 3, 7, 16, 33, 64, 130)
SHARED = ("planes", "columns", "windows", "block lists", "sparse gemm")


def strides(rng: np.random.Generator, sizes: list[int], apart: bool) -> list[int]:
    """Strides of an array whose axes lie in any order, maybe with something between its rows."""
    steps, step = [0] * 5, 1
    for axis in rng.permutation(5):
        steps[axis] = step
        step *= sizes[axis]
        if apart and sizes[axis] > 1 and rng.random() < 0.6:
            step += int(rng.integers(0, 20))
    return steps


def reach(sizes: list[int], steps: list[int]) -> int:
    return sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1


def check_a_copy(kernel: Kernel, rng: np.random.Generator) -> None:
    sizes = [int(rng.choice(SIZES)) for _ in range(5)]
    while math.prod(sizes) > 40_000:
        sizes[rng.integers(5)] = 1
    source = strides(rng, sizes, rng.random() < 0.4)
    target = strides(rng, sizes, rng.random() < 0.7)
    if rng.random() < 0.2:
        source[rng.integers(5)] = 0  # the same numbers again
    if rng.random() < 0.2:
        source = [2 * step for step in source]
    if rng.random() < 0.1:
        target = [2 * step for step in target]
    start, at, items = int(rng.integers(5)), int(rng.integers(70)), int(rng.integers(1, 3))
    clear_at = int(rng.integers(at + 1))
    behind = int(rng.integers(300))
    clear = at - clear_at + reach(sizes, target) + behind if rng.random() < 0.7 else 0
    shape = {
        "sizes": sizes,
        "in_strides": source,
        "out_strides": target,
        "in_offset": start,
        "out_offset": at,
        "clear_offset": clear_at,
        "clear": clear,
        "pixels": int(rng.choice([0, 0, 200, 400, 1024])),
    }
    x = rng.standard_normal((items, start + reach(sizes, source))).astype(np.float32)
    wanted = np.full((items, at + reach(sizes, target) + behind), np.nan, np.float32)
    wanted[:, clear_at : clear_at + clear] = 0
    for here, there in zip(x, wanted, strict=True):
        view = np.lib.stride_tricks.as_strided
        moved = view(here[start:], sizes, [4 * step for step in source])
        view(there[at:], sizes, [4 * step for step in target])[...] = moved
    buffers = Buffer("x", x.size), Buffer("y", wanted.size)
    step = Step(kernel, buffers[:1], buffers[1:], shape, items=items)
    known = ~np.isnan(wanted)
    for threads in (1, 2, 3):
        program = assemble(
            [step], buffers[:1], buffers[1:], [(1, x.size)], [(1, wanted.size)], threads=threads
        )
        found = program.run([x.reshape(1, -1)], False).reshape(wanted.shape)
        np.testing.assert_array_equal(found[known], wanted[known], err_msg=f"{shape}, {threads}")


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.operation == "copy"], ids=str)
def test_threads_share_copies_that_clear_what_lies_between(kernel: Kernel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        check_a_copy(kernel, rng)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.operation in SHARED], ids=str)
def test_threads_share_outputs_of_uneven_work(kernel: Kernel) -> None:
    """Most weights are those of one output: first, in the middle or last; and of many rows."""
    used = 0
    for full in (0, 20, 39):
        weight = np.zeros((40, 24), np.float32)
        weight[full] = np.random.default_rng(full).standard_normal(24)
        weight[:, full % 24] = 0.5
        for rows in (1, 700):
            if kernel.operation == "planes":
                b = Builder(24, 1, rows)
                b.add("Conv", "x", weight[:, :, None, None], np.ones(40, np.float32))
            else:
                b = Builder(rows, 24)
                b.add("Add", b.add("MatMul", "x", weight.T.copy()), np.ones(40, np.float32))
            model = b.model()
            graph = read(model)
            (name,), (result,) = graph.inputs, graph.outputs
            x = np.random.default_rng(1).standard_normal((1, *graph.shapes[name][1:]))
            x = x.astype(np.float32)
            found = []
            for threads in (1, 2, 3, 7):
                lowering = Lowering(graph, kernel.isa, threads=threads, batched=True, every=True)
                for node in graph.nodes:
                    candidates = lowering.candidates(node)
                    next((c for c in candidates if c.name == str(kernel)), candidates[0]).emit()
                used += any(step.kernel == kernel for step in lowering.steps)
                output = lowering.form(lowering.values[result], "dense")
                shapes = [graph.shapes[name]], [graph.shapes[result]]
                source = Buffer(name, math.prod(graph.shapes[name]))
                program = assemble(lowering.steps, [source], [output], *shapes, threads=threads)
                found.append(program.run([x], False))
            for each in found[1:]:
                np.testing.assert_array_equal(each, found[0])
            wanted = networks.reference(model, x)
            np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)
    assert used or kernel.operation == "planes"  # depthwise ones are of other layers
