"""Weights in the orders in which kernels read them: examples worked out by hand."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder, sparse

from gossamer.kernels.registry import ISAS, chosen_isa, find
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.packing import by_chunk, by_output
from gossamer.runtime.program import assemble

#: Outputs 0 and 1 share inputs 1 and 3, output 2 reads input 0: blocks of two outputs.
WEIGHT = np.array([[0, 1, 0, 2], [0, 3, 0, 0], [4, 0, 0, 0]], np.float32)


def test_single_weights_are_ordered_by_output() -> None:
    bounds, offsets, values = by_output(WEIGHT, 10 * np.arange(4))
    assert bounds.tolist() == [0, 2, 3, 4]
    assert offsets.tolist() == [10, 30, 10, 0]
    assert values.tolist() == [1, 2, 3, 4]


def test_blocks_contain_the_weights_of_all_their_outputs() -> None:
    """The last block lacks an output: its weights are zero."""
    bounds, offsets, values = by_output(WEIGHT, 10 * np.arange(4), 2)
    assert bounds.tolist() == [0, 2, 3]
    assert offsets.tolist() == [10, 30, 0]
    assert values.tolist() == [[1, 3], [2, 0], [4, 0]]


def test_chunks_of_blocks() -> None:
    bounds, offsets, values = by_chunk(WEIGHT, np.arange(4), 2, 2)
    assert bounds.tolist() == [[0, 1, 2], [2, 3, 3]]
    assert offsets.tolist() == [1, 0, 3]
    assert values.tolist() == [[1, 3], [4, 0], [2, 0]]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("block", "offered"), [(1, False), (4, True), (16, True)])
def test_blocks_are_tried_where_outputs_share_inputs(isa: str, block: int, offered: bool) -> None:
    b = Builder(16, 9, 9)
    weight = sparse(np.random.default_rng(0), 32, 16, 3, 3, density=0.1, block=block)
    b.add("Conv", "x", weight, pads=[1] * 4)
    graph = read(b.model())
    lowering = Lowering(graph, isa, batched=True)
    names = {c.name.split(f" {isa}")[0] for c in lowering.candidates(graph.nodes[0])}
    blocks = {
        f"{kernel.operation} {kernel.layout} {kernel.tile}"
        for operation in ("planes", "examples")
        for kernel in find(isa, operation, "blocks of 4")
    }
    assert "planes blocks of 4 whole" in blocks
    assert names & blocks == (blocks if offered else set())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("first", ["gemm", "planes unstructured whole"])
def test_planes_that_single_taps_read_begin_at_whole_vectors(isa: str, first: str) -> None:
    """7 x 7 pixels of 24 channels, which the layer before leaves first or last."""
    rng = np.random.default_rng(0)
    b = Builder(5, 7, 7)
    b.add("Conv", "x", sparse(rng, 24, 5, 3, 3, density=0.5), pads=[1] * 4)
    b.add("Conv", b.last, sparse(rng, 40, 24, 1, 1, density=0.5))
    model = b.model()
    graph = read(model)
    lowering = Lowering(graph, isa, every=True)
    for node, kernel in zip(graph.nodes, (first, "planes unstructured whole"), strict=True):
        next(c for c in lowering.candidates(node) if c.name.startswith(kernel)).emit()
    value = lowering.values[graph.nodes[1].inputs[0]]
    width = find(isa, "planes")[0].width
    assert f"planes of {-(-49 // width) * width}" in value.forms
    outputs = [lowering.form(lowering.values[name], "dense") for name in graph.outputs]
    inputs = [lowering.values[name].forms["dense"] for name in graph.inputs]
    shapes = [graph.shapes[graph.inputs[0]]], [graph.shapes[graph.outputs[0]]]
    x = rng.standard_normal((3, 5, 7, 7)).astype(np.float32)
    found = assemble(lowering.steps, inputs, outputs, *shapes).run([x], False)
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)


def test_a_block_never_reads_the_inputs_of_two_groups() -> None:
    """Six outputs in two groups of three do not divide into blocks of four."""
    b = Builder(4, 6, 6)
    weight = sparse(np.random.default_rng(0), 6, 2, 3, 3, density=0.5)
    b.add("Conv", "x", weight, group=2)
    graph = read(b.model())
    lowering = Lowering(graph, chosen_isa(), every=True)
    names = [c.name for c in lowering.candidates(graph.nodes[0])]
    assert any(name.startswith("planes unstructured") for name in names)
    assert not any("blocks of 4" in name for name in names)
