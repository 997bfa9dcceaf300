"""The graph in torch against ONNX Runtime, operator by operator and whole."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import networks
from networks import Builder, norm, sparse

from gossamer.deploy.torch_graph import TorchGraph
from gossamer.runtime.importer import read

RNG = np.random.default_rng(0)


def operators() -> dict[str, Builder]:
    found: dict[str, Builder] = {}

    def case(name: str, *shape: int) -> Builder:
        found[name] = Builder(*shape)
        return found[name]

    b = case("conv", 3, 9, 8)
    b.add("Conv", "x", sparse(RNG, 6, 1, 3, 2), sparse(RNG, 6), group=3, strides=[2, 1],
          pads=[1, 0, 2, 1])  # fmt: skip
    b.add("LeakyRelu", b.last, alpha=0.2)
    b = case("conv 1-d", 3, 11)
    b.add("Conv", "x", sparse(RNG, 4, 3, 3), pads=[1, 1], dilations=[2])
    b.add("BatchNormalization", b.last, *norm(RNG, 4))
    b.add("Relu", b.last)
    for kind in ("MaxPool", "AveragePool"):
        b = case(f"{kind}", 2, 7, 6)
        b.add(kind, "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1)
    b = case("padded average", 2, 7, 6)
    b.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
          count_include_pad=1)  # fmt: skip
    b = case("rows", 4, 6)
    b.add("LayerNormalization", "x", sparse(RNG, 6), sparse(RNG, 6))
    b.add("Gelu", b.last)
    b.add("Transpose", b.last, perm=[0, 2, 1])
    b.add("Softmax", b.last)
    b.add("Concat", b.last, b.last, axis=1)
    b.add("Reshape", b.last, np.array([0, -1]))
    b.add("MatMul", b.last, sparse(RNG, 48, 5))
    b.add("Clip", b.last, np.float32(-0.2), np.float32(0.3))
    b = case("local winners", 5, 3, 2)
    b.winners(2, (5, 3, 2), local=True)
    return found


@pytest.mark.parametrize("name", operators())
def test_operators(name: str) -> None:
    model = operators()[name].model(opset=20)
    graph = read(model)
    for batch in (1, 3):
        shape = (batch, *graph.shapes["x"][1:])
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        (found,) = TorchGraph(graph)(torch.from_numpy(x))
        np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)


def test_a_layer_in_8_bits() -> None:
    b = networks.Builder(20)
    b.add("Gemm", "x", networks.sparse(np.random.default_rng(0), 9, 20), transB=1)
    model = b.in_8_bits(0.05).model()
    x = np.random.default_rng(1).standard_normal((4, 20)).astype(np.float32)
    (found,) = TorchGraph(read(model))(torch.from_numpy(x))
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("winners", [False, True])
def test_a_whole_network(winners: bool) -> None:
    model = networks.speech_cnn(0.2, winners=winners, width=8, hidden=20)
    x = np.random.default_rng(1).standard_normal((2, 1, 32, 32)).astype(np.float32)
    (found,) = TorchGraph(read(model))(torch.from_numpy(x))
    np.testing.assert_allclose(found, networks.reference(model, x), rtol=1e-4, atol=1e-5)
