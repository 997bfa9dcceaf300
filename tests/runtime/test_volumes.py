"""Convolutions and pools of volumes: [batch, channels, depth, height, width]."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
import torch
from networks import Builder
from torch.nn import functional as F

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

SHAPE = 6, 5, 7, 8


def noise(*shape: int) -> networks.Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def check(b: Builder, wanted: networks.Array | None = None) -> None:
    """As ONNX Runtime, or as ``wanted``: one example and several, on one thread and on two."""
    model, x = b.model(opset=19), noise(3, *SHAPE)
    wanted = networks.reference(model, x) if wanted is None else wanted
    for threads in (1, 2):
        engine = Engine(model, threads=threads)
        for found in (engine(x), np.concatenate([engine(x[i : i + 1]) for i in range(3)])):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": [2, 1, 2], "pads": [1, 0, 2, 0, 1, 1]},
        {"dilations": [2, 1, 2], "pads": [2, 1, 0, 0, 1, 2]},
        {"group": 3, "strides": [1, 2, 1]},
        {"group": 6, "pads": [1] * 6},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 2, 1]},
        {"auto_pad": "VALID", "strides": [3, 1, 1]},
    ],
    ids=str,
)
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_convolutions(settings: dict[str, Any], density: float) -> None:
    b = Builder(*SHAPE)
    rng = np.random.default_rng(1)
    weight = networks.sparse(rng, 12, 6 // settings.get("group", 1), 3, 2, 3, density=density)
    b.add("Conv", "x", weight, noise(12), kernel_shape=[3, 2, 3], **settings)
    b.add("Relu", b.last)
    check(b)


WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 3, 2]},
    {"kernel_shape": [3, 2, 3], "strides": [2, 2, 1], "pads": [1, 0, 2, 1, 1, 0]},
    {"kernel_shape": [2, 3, 3], "strides": [2, 3, 2], "pads": [0, 1, 1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2]},
]


@pytest.mark.parametrize("settings", WINDOWS, ids=str)
def test_maximum_pools(settings: dict[str, Any]) -> None:
    b = Builder(*SHAPE)
    b.add("MaxPool", "x", **settings)
    check(b)


@pytest.mark.parametrize("with_pads", [False, True])
@pytest.mark.parametrize("settings", WINDOWS, ids=str)
def test_average_pools(settings: dict[str, Any], with_pads: bool) -> None:
    """ONNX Runtime computes the last windows of ceil_mode in its own way: PyTorch decides there."""
    b = Builder(*SHAPE)
    b.add("AveragePool", "x", count_include_pad=int(with_pads), **settings)
    wanted = None
    if settings.get("ceil_mode"):
        b = Builder(*SHAPE)
        settings = {**settings, "pads": [0, 1, 1] * 2}
        b.add("AveragePool", "x", count_include_pad=int(with_pads), **settings)
        kernel, steps = settings["kernel_shape"], settings["strides"]
        x = torch.from_numpy(noise(3, *SHAPE))
        wanted = F.avg_pool3d(x, kernel, steps, (0, 1, 1), True, with_pads).numpy()
    check(b, wanted)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator: str) -> None:
    b = Builder(*SHAPE)
    b.add(operator, "x")
    check(b)


def test_a_network_of_volumes() -> None:
    b, rng = Builder(*SHAPE), np.random.default_rng(2)
    b.add("Conv", "x", networks.sparse(rng, 8, 6, 3, 3, 3, density=0.2), noise(8), pads=[1] * 6)
    b.add("Relu", b.add("BatchNormalization", b.last, *networks.norm(rng, 8)))
    b.add("MaxPool", b.last, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    b.add("Conv", b.last, networks.sparse(rng, 4, 8, 1, 1, 1), noise(4))
    b.add("Flatten", b.add("GlobalAveragePool", b.last))
    check(b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pads": [1, 1, 1, 1]}, "4 pads for 3 dimensions"),
        ({"strides": [1, 1]}, "2 strides for 3 dimensions"),
        ({"dilations": [5, 1, 1]}, "deeper than its input"),
    ],
    ids=str,
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    b = Builder(*SHAPE)
    b.add("Conv", "x", noise(4, 6, 3, 3, 3), **settings)
    with pytest.raises(UserError, match=message):
        read(b.model())
