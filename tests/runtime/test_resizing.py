"""Padding and resizing against ONNX Runtime."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder

from gossamer.deploy.torch_graph import TorchGraph
from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

NONE = np.zeros(0, np.float32)


def agree(b: Builder, *shape: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    wanted, model = networks.reference(b.model(), x), b.model()
    found = Engine(model, threads=1)(x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    (other,) = TorchGraph(read(model))(torch.from_numpy(x))
    np.testing.assert_allclose(other.numpy(), wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(st.data())
def test_resizing(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    attributes = {
        "mode": data.draw(st.sampled_from(["nearest", "linear", "cubic"])),
        "coordinate_transformation_mode": data.draw(
            st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
        ),
    }
    if len(shape) < 3 and attributes["mode"] == "cubic":
        attributes["mode"] = "linear"  # ONNX Runtime's cubic takes images only
    if attributes["mode"] == "nearest":
        attributes["nearest_mode"] = data.draw(
            st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
        )
    b = Builder(*shape)
    image = len(shape) - 1
    if data.draw(st.booleans()):
        scale = st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
        scales = [data.draw(scale) for _ in range(image)]
        if any(int(n * s) < 1 for n, s in zip(shape[1:], scales, strict=True)):
            scales = [1.0] * image
        b.add("Resize", "x", NONE, np.array([1, 1, *scales], np.float32), **attributes)
    else:
        sizes = [data.draw(st.integers(1, 12)) for _ in range(image)]
        b.add("Resize", "x", NONE, NONE, np.array([2, shape[0], *sizes]), **attributes)
        # The batch is part of the sizes: fixed here, as of a network with a fixed batch.
        b.inputs = Builder(*shape, batch=2).inputs
    agree(b, *shape)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [3, 16, 28, 33])
def test_repeated_numbers_are_exact(width: int, isa: str) -> None:
    """Rows shorter and longer than a vector, each number from twice to five times."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, width), np.float32)
    for down, across in [(1, 2), (2, 2), (3, 3), (2, 4), (2, 5), (3, 1)]:
        b = Builder(3, 5, width)
        b.add("Resize", "x", NONE, np.float32([1, 1, down, across]), mode="nearest",
              coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        found = Engine(b.model(), threads=1, isa=isa)(x)
        np.testing.assert_array_equal(found, x.repeat(down, -2).repeat(across, -1))


@settings(max_examples=30)
@given(st.data())
def test_padding_by_what_is_there(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    mode = data.draw(st.sampled_from(["reflect", "edge", "wrap"]))
    sides = [
        [data.draw(st.integers(0, n - 1 if mode == "reflect" else n)) for n in shape]
        for _ in range(2)
    ]
    b = Builder(*shape)
    b.add("Pad", "x", np.array([0, *sides[0], 0, *sides[1]]), mode=mode)
    agree(b, *shape)


@settings(max_examples=40)
@given(st.data())
def test_padding_that_crops(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(5, 7), min_size=1, max_size=3))
    sides = [[data.draw(st.integers(-2, 3)) for _ in shape] for _ in range(2)]
    border = np.float32(data.draw(st.sampled_from([0, 1.5])))
    b = Builder(*shape)
    if data.draw(st.booleans()):
        b.add("Pad", "x", np.array([0, *sides[0], 0, *sides[1]]), border)
    else:
        last = np.array([-1]) if data.draw(st.booleans()) else np.array([len(shape)])
        b.add("Pad", "x", np.array([sides[0][-1], sides[1][-1]]), border, last)
    agree(b, *shape)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "told"),
    [
        ("Pad", [[0, 0, 0, 0, 0, 6]], {"mode": "reflect"}, "reflects 6 of 6"),
        ("Pad", [[0, 0, 0, 0, 0, 1]], {"mode": "mirror"}, "pads by 'mirror'"),
        ("Pad", [[0, 0, 0, 0, 0, -1]], {"mode": "reflect"}, "pads by 'reflect' and crops"),
        ("Pad", [[0, 0, -3, 0, 0, -3]], {}, "nothing is left"),
        ("Pad", [[1, 1], np.float32(0), [7]], {}, r"for the axes \[7\] of 3"),
        ("Resize", [NONE, np.float32([2, 1, 1])], {}, "images only"),
        ("Resize", [NONE, np.float32([1, 1, 1.5])], {"mode": "sinc"}, "resizes by 'sinc'"),
        ("Resize", [NONE, np.float32([1, 1, 1e7])], {"mode": "linear"}, "too many for this file"),
        ("Resize", [NONE, np.float32([1, 1, 0.5])], {"antialias": 1}, "antialias"),
        ("Resize", [NONE, np.float32([1, 1, 0.5])], {"coordinate_transformation_mode": "?"},
         "coordinates"),
        ("Resize", [NONE, np.float32([1, 1, 0.1])], {"mode": "linear"}, "impossible shape"),
    ],
)  # fmt: skip
def test_what_cannot_be(op: str, inputs: list, attributes: dict, told: str) -> None:
    b = Builder(4, 6)
    b.add(op, "x", *(np.asarray(i) for i in inputs), **attributes)
    with pytest.raises(UserError, match=told):
        read(b.model())


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_a_long_padding_is_copies_not_a_matrix(mode: str) -> None:
    """As a network of 43,844 samples pads them: its map would have 1.9 G numbers."""
    b = Builder(2, 43844)
    b.add("Pad", "x", np.array([0, 0, 128, 0, 0, 128]), mode=mode)
    engine = Engine(b.model(), threads=1)
    assert not any(node.constants for node in engine.graph.nodes)
    x = np.random.default_rng(0).standard_normal((1, 2, 43844), np.float32)
    np.testing.assert_array_equal(engine(x), np.pad(x, [(0, 0), (0, 0), (128, 128)], mode=mode))
