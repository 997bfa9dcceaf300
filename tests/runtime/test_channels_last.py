"""Copies by strides of what a convolution wrote with its channels last, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder

from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine
from gossamer.runtime.importer import read
from gossamer.runtime.lowering.layouts import Lowering


def noise(seed: int, *shape: int) -> networks.Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def copies(b: Builder, isa: str) -> list[dict[str, Any]]:
    """The shapes of the copies between convolutions; all by kernels that want channels last."""
    graph = read(b.model())
    lowering = Lowering(graph, isa)
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        next((c for c in candidates if c.name.endswith(" last")), candidates[0]).emit()
    return [dict(step.shape) for step in lowering.steps if step.kernel.operation == "copy"]


def convolution(b: Builder, value: str, outputs: int, inputs: int) -> str:
    return b.add("Conv", value, noise(outputs, outputs, inputs, 1, 1), noise(3, outputs))


MOVES = ("resize", "to space", "crd", "to depth", "slice", "channels", "turn", "pad", "windows")


@settings(max_examples=60)
@given(st.data(), st.sampled_from(ISAS), st.sampled_from(MOVES))
def test_copies_between_convolutions(data: st.DataObject, isa: str, move: str) -> None:
    high, wide = (2 * data.draw(st.integers(1, 6)) for _ in range(2))
    inputs, channels = data.draw(st.integers(2, 5)), 4 * data.draw(st.integers(1, 10))
    b = Builder(inputs, high, wide)
    value, made = convolution(b, "x", channels, inputs), channels
    match move:
        case "resize":
            scales = np.array([1, 1, *data.draw(st.sampled_from([(2, 2), (3, 1), (1, 4)]))])
            rounding = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
            b.add("Resize", value, "", scales.astype(np.float32), nearest_mode="floor", **rounding)
        case "to space" | "crd":
            mode = "CRD" if move == "crd" else "DCR"
            b.add("DepthToSpace", value, blocksize=2, mode=mode)
            made //= 4
        case "to depth":
            b.add("SpaceToDepth", value, blocksize=2)
            made *= 4
        case "slice":
            start = data.draw(st.integers(0, high - 1))
            b.add("Slice", value, *map(np.array, ([start, 0], [high, wide], [2, 3], [1, 2])))
        case "channels":
            made = data.draw(st.integers(1, channels))
            b.add("Slice", value, *map(np.array, ([channels - made], [channels], [1])))
        case "turn":
            limits = ([-1, wide], [-high - 1, -wide - 1], [2, 3], [-1, -2])
            b.add("Slice", value, *map(np.array, limits))
        case "pad":
            b.add("Pad", value, np.array([0, 0, 1, 2, 0, 0, 0, 3]))
        case "windows":
            groups = data.draw(st.sampled_from([1, 2, channels]))
            made = 2 * groups if groups < channels else channels
            sides = data.draw(st.sampled_from([(2, 2), (3, 2), (1, 4)]))
            weight = noise(5, channels, made // groups, *sides)
            b.add("ConvTranspose", value, weight, noise(6, made), strides=sides, group=groups)
            b.add("Mul", b.last, noise(7, made, 1, 1))
    convolution(b, b.last, 3, made)
    x = noise(1, 2, inputs, high, wide)
    wanted = networks.reference(b.model(), x)
    found = Engine(b.model(), threads=1, isa=isa)(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("isa", ISAS)
def test_no_copy_turns_what_stays_last(isa: str) -> None:
    """One copy each for the input, Resize and the windows of ConvTranspose."""
    b = Builder(3, 6, 5)
    value = convolution(b, "x", 24, 3)
    scales = np.array([1, 1, 2, 2], np.float32)
    rounding = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    value = b.add("Resize", value, "", scales, nearest_mode="floor", **rounding)
    value = b.add("ConvTranspose", value, noise(5, 24, 8, 2, 2), strides=[2, 2])
    convolution(b, value, 3, 8)
    turned, resized, windows = copies(b, isa)
    assert turned["sizes"][-2:] == [3, 30]
    assert resized["sizes"][-1] == 24
    assert windows["sizes"][-1] == 2 * 8  # two pixels of a window's row
