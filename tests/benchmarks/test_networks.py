"""The benchmark of pretrained networks: reasons of failures, and zeros in every branch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # for the module that writes its results
    spec = importlib.util.spec_from_file_location("networks_bench", BENCHMARKS / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("status", "errors", "reason"),
    [
        (1, "Traceback\n\x1b[31mValueError: rank 3\x1b[0m\n\x1b[m\n", "ValueError: rank 3"),
        (1, "", "compare: ended with status 1"),
        (1, "\x1b[0;93m\n\x1b[m", "compare: ended with status 1"),
        (-11, "a warning of long ago\n\x1b[m", "compare: ended by SIGSEGV"),
    ],
)
def test_the_reason_of_a_failure_is_a_line_to_read(networks, status, errors, reason):
    assert networks.failure("compare", status, errors) == reason


def test_layers_within_branches_get_zeros(networks):
    def branch(name: str, seed: int) -> onnx.GraphProto:
        weight = np.random.default_rng(seed).standard_normal((32, 64)).astype(np.float32)
        tensor = onnx.numpy_helper.from_array(weight, f"{name}_weight")
        node = onnx.helper.make_node("MatMul", ["x", f"{name}_weight"], [name])
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64])
        return onnx.helper.make_graph([node], name, [], [output], [tensor])

    info = onnx.helper.make_tensor_value_info
    choice = onnx.helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", 0), else_branch=branch("b", 1)
    )
    inputs = [info("c", onnx.TensorProto.BOOL, []), info("x", onnx.TensorProto.FLOAT, [1, 32])]
    outputs = [info("y", onnx.TensorProto.FLOAT, [1, 64])]
    model = onnx.helper.make_model(onnx.helper.make_graph([choice], "g", inputs, outputs))
    pruned, share = networks.with_zeros(model, 16)
    assert share == pytest.approx(0.95, abs=0.01)
    for graph in list(networks.graphs_of(pruned.graph))[1:]:
        weight = onnx.numpy_helper.to_array(graph.initializer[0])
        assert np.mean(weight == 0) == pytest.approx(share, abs=0.01)
