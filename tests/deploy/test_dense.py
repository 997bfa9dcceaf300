"""The dense network beside a sparse one: same layers and shapes, every weight, no k-winners."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from gossamer.deploy.dense import dense_network
from gossamer.nn import KWinners, KWinners2d, SparseActivation, export
from gossamer.runtime import store_half, store_sparse


def network(winners: bool, density: float) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 8, 3),
        KWinners2d(8, 0.1, local=True) if winners else nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 40),
        KWinners(40, 0.1) if winners else nn.ReLU(),
        nn.Linear(40, 3),
    ]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight *= torch.rand_like(layer.weight) < density
    return model


def exported(model: nn.Module, x: torch.Tensor, tmp_path) -> onnx.ModelProto:
    return onnx.load(export(model, x, tmp_path / "m.onnx"))


def outputs(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"input": x.numpy()})[0]


@pytest.mark.parametrize("winners", [True, False])
def test_the_same_layers_with_all_weights_and_relu(tmp_path, winners):
    x = torch.randn(2, 1, 8, 8)
    model = exported(network(winners, 0.05), x, tmp_path)
    assert model.functions
    dense = dense_network(model)
    onnx.checker.check_model(dense, full_check=True)
    assert not dense.functions
    kinds = [node.op_type for node in dense.graph.node]
    assert kinds.count("Relu") == 2
    assert {"Conv", "Gemm"} <= set(kinds) <= {"Conv", "Gemm", "Relu", "Reshape", "Flatten"}
    weights = {t.name: numpy_helper.to_array(t) for t in dense.graph.initializer}
    wide = [weight for weight in weights.values() if weight.ndim > 1]
    assert {weight.shape for weight in wide} == {(8, 1, 3, 3), (40, 288), (3, 40)}
    assert all(weight.all() for weight in wide)
    # PyTorch as the oracle: the dense network is the one with these weights and ReLU.
    oracle = network(False, 1.0)
    state = {
        name: torch.from_numpy(weights[name].copy()) if name in weights else value
        for name, value in oracle.state_dict().items()
    }
    oracle.load_state_dict(state)
    with torch.no_grad():
        np.testing.assert_allclose(outputs(dense, x), oracle(x), rtol=1e-4, atol=1e-5)


def test_a_dense_network_is_its_own(tmp_path):
    assert dense_network(exported(network(False, 1.0), torch.randn(2, 1, 8, 8), tmp_path)) is None


def test_behind_gelu_no_relu_is_added_and_dense_weights_stay(tmp_path):
    model = nn.Sequential(
        nn.Linear(6, 30), SparseActivation(functional.gelu, KWinners(30, 0.1)), nn.Linear(30, 2)
    )
    x = torch.randn(2, 6)
    dense = dense_network(exported(model, x, tmp_path))
    plain = nn.Sequential(model[0], nn.GELU(), model[2])
    with torch.no_grad():
        np.testing.assert_allclose(outputs(dense, x), plain(x), rtol=1e-4, atol=1e-5)


def test_eight_bit_weights_stay_in_eight_bits():
    codes = np.zeros((32, 64), np.int8)
    codes[:, :4] = 5
    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        net (float[batch, 64] input) => (float[batch, 32] output) {
            step = Constant<value = float {0.1}>()
            weight = DequantizeLinear(codes, step)
            turned = Transpose(weight)
            output = MatMul(input, turned)
        }""")
    graph.graph.initializer.append(numpy_helper.from_array(codes, "codes"))
    stored = store_sparse(graph)
    assert stored.graph.node[0].op_type == "Sparse"
    for model in (graph, stored):
        dense = dense_network(model)
        (weight,) = (t for t in dense.graph.initializer if t.name == "codes")
        found = numpy_helper.to_array(weight)
        assert (found.dtype, found.shape, set(found.ravel())) == (np.int8, (32, 64), {5})


def test_weights_of_16_bits_stay_in_16_bits():
    weight = np.zeros((32, 64), np.float32)
    weight[:, :4] = 5
    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        net (float[batch, 32] input) => (float[batch, 64] output) {
            output = MatMul(input, weight)
        }""")
    graph.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    dense = dense_network(store_sparse(store_half(graph)))
    (filled,) = dense.graph.initializer
    found = numpy_helper.to_array(filled)
    assert (found.dtype, found.shape, set(found.ravel())) == (np.float16, (32, 64), {5})


def test_functions_of_others_are_looked_into():
    weight = np.eye(8, dtype=np.float32)
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18, "other": 1]>
        net (float[batch, 8] input, float[8, 8] weight) => (float[batch, 8] output) {
            output = other.Layer(input, weight)
        }
        <domain: "other", opset_import: ["": 18]>
        Layer (x, w) => (y) { y = MatMul(x, w) }
        """)
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    dense = dense_network(model)
    assert [node.op_type for node in dense.graph.node] == ["MatMul"]
    assert numpy_helper.to_array(dense.graph.initializer[0]).all()
