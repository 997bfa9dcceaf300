"""Concatenations and slices whose parts stay in place, against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.runtime import Engine
from gossamer.runtime.importer import read
from gossamer.runtime.lowered import lower
from gossamer.runtime.program import Step, arrange, assemble

RNG = np.random.default_rng(0)


def conv(b: Builder, value: str, inputs: int, outputs: int, size: int = 1) -> str:
    weight = networks.sparse(RNG, outputs, inputs, size, size, density=0.4)
    pads = [size // 2] * 4
    return b.add("Conv", value, weight, networks.sparse(RNG, outputs), pads=pads)


def dense_block(b: Builder, channels: int, layers: int, growth: int = 5) -> None:
    """Every layer reads a norm of all values before it, as those of a DenseNet do."""
    values = ["x"]
    for i in range(layers):
        joined = b.add("Concat", *values, axis=1) if i else "x"
        scale = networks.sparse(RNG, 1, channels + i * growth, 1, 1)
        normed = b.add("Relu", b.add("Mul", joined, scale))
        values.append(conv(b, normed, channels + i * growth, growth, 3))
    b.add("Concat", *values, axis=1)


def contiguous(step: Step) -> bool:
    loops = zip(*(step.shape[k] for k in ("sizes", "in_strides", "out_strides")), strict=True)
    return [loop[1:] for loop in loops if loop[0] > 1] == [(1, 1)]


def agree(b: Builder, x: networks.Array) -> None:
    model = b.model()
    wanted = networks.reference(model, x)
    for threads in (1, 2):
        found = Engine(model, threads=threads)(x)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def image(*shape: int) -> networks.Array:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(5, 7), (8, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_dense_block(size: tuple[int, int], batch: int) -> None:
    b = Builder(6, *size)
    dense_block(b, 6, 4)
    b.add("Relu", b.last)
    agree(b, image(batch, 6, *size))


def test_later_parts_may_be_written_first() -> None:
    """As in a U-Net, whose skipped values come after those of the deeper layers."""
    b = Builder(3, 5, 5)
    skipped = conv(b, "x", 3, 4, 3)
    deeper = conv(b, b.add("MaxPool", skipped, kernel_shape=[3, 3], pads=[1] * 4), 4, 7)
    conv(b, b.add("Concat", deeper, skipped, axis=1), 11, 2)
    agree(b, image(1, 3, 5, 5))


def test_a_value_twice_in_one_and_in_two() -> None:
    b = Builder(3, 5, 5)
    value = conv(b, "x", 3, 4)
    twice = b.add("Concat", value, value, axis=1)
    other = b.add("Concat", twice, value, "x", axis=1)
    conv(b, other, 15, 4)
    agree(b, image(1, 3, 5, 5))


def test_nothing_is_copied() -> None:
    b = Builder(16, 4, 4)
    dense_block(b, 16, 5, 16)
    conv(b, b.last, 96, 4)
    steps, inputs, outputs = lower(read(b.model()), "portable", {})
    buffers = {buffer for step in steps for buffer in (*step.inputs, *step.outputs) if buffer}
    parts = {buffer for buffer in buffers if buffer.whole}
    moved = [step for step in steps if step.kernel.operation == "copy" and contiguous(step)]
    assert len(parts) >= 4
    assert len(moved) == 1  # the input alone is in memory of the caller
    positions = arrange(steps, inputs, outputs)
    assert all(positions[p] == positions[p.whole] + p.at for p in parts if p.whole)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_slice_is_read_where_it_lies(batch: int) -> None:
    """As in the blocks of a YOLO, which give half of the channels to their layers."""
    b = Builder(3, 5, 5)
    value = conv(b, "x", 3, 8)
    first = b.add("Slice", value, *map(np.array, ([0], [5], [1])))
    second = b.add("Slice", value, *map(np.array, ([5], [8], [1])))
    b.add("Concat", conv(b, second, 3, 4), first, conv(b, first, 5, 4), axis=1)
    conv(b, b.last, 13, 2)
    steps, _, _ = lower(read(b.model()), "portable", {})
    assert not any(step.kernel.operation == "copy" and contiguous(step) for step in steps[1:])
    agree(b, image(batch, 3, 5, 5))


def test_values_of_the_caller_stay() -> None:
    """An input, and what is an output itself, are in memory of the caller."""
    b = Builder(3, 5, 5)
    b.add("Concat", "x", conv(b, "x", 3, 4), axis=1)
    steps, _, _ = lower(read(b.model()), "portable", {})
    used = [buffer for step in steps for buffer in (*step.inputs, *step.outputs) if buffer]
    assert not any(buffer.whole for buffer in used)
    agree(b, image(2, 3, 5, 5))


@pytest.mark.parametrize("activation", ["Relu", "HardSwish"])
def test_a_norm_writes_planes_of_whole_vectors(activation: str) -> None:
    """As the convolution behind it reads them: no copy makes them."""
    b, channels = Builder(6, 3, 5), 6
    numbers = [networks.sparse(RNG, channels) for _ in range(3)]
    b.add("BatchNormalization", "x", *numbers, RNG.random(channels).astype(np.float32))
    weight = networks.sparse(RNG, 40, channels, 1, 1, density=0.5)
    b.add("Conv", b.add(activation, b.last), weight, networks.sparse(RNG, 40))
    model = b.model()
    graph = read(model)
    chosen = {graph.nodes[-1].output: "planes unstructured whole portable"}
    steps, inputs, outputs = lower(graph, "portable", chosen)
    assert [step.kernel.operation for step in steps] == ["scale", "planes"]
    shapes = ([graph.shapes[name] for name in names] for names in (graph.inputs, graph.outputs))
    x = image(3, 6, 3, 5)
    found = assemble(steps, inputs, outputs, *shapes, chunk=2).run([x], False)
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)
