"""The benchmark of other people's networks: failures, zeros, random weights, and its page."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str):
    spec = importlib.util.spec_from_file_location(f"{name}_bench", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # for the module that writes its results
    return benchmark("networks")


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


class Deep(nn.Module):
    """Twenty convolutions with norms, then a head that starts as zeros (as ViT's does)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            layer
            for i in range(20)
            for layer in (nn.Conv2d(8 if i else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.layer_scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
        self.head = nn.Linear(8, 5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x) * self.layer_scale[:, 0, 0])


def test_random_weights_carry_activations_through():
    architectures = benchmark("architectures")
    network, image = Deep().train(), (1, 3, 16, 16)
    architectures.randomize(network, image)
    assert not any(module.training for module in network.modules())
    sizes = []
    for module in network.modules():
        module.register_forward_hook(lambda _, __, y: sizes.append(float(y.detach().std())))
    x = torch.randn(image, generator=torch.Generator().manual_seed(1))
    first, other = network(x), network(x.flip(-1))
    assert all(0.02 < size < 50 for size in sizes)
    assert not torch.allclose(first, other, rtol=1e-3)  # the image decides, not the biases alone
    again = Deep()
    architectures.randomize(again, image)
    assert torch.equal(again(x), first)


def test_norms_have_the_statistics_of_noise():
    architectures = benchmark("architectures")
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    architectures.randomize(network, (1, 3, 64, 64))
    conv, norm = network
    # Independent inputs of variance 1: the output's mean is its bias, its variance the weights'.
    torch.testing.assert_close(norm.running_mean, conv.bias, atol=0.05, rtol=0)
    torch.testing.assert_close(
        norm.running_var, conv.weight.square().sum((1, 2, 3)), rtol=0.05, atol=0
    )


def row(ratio: float) -> dict[str, float]:
    keys = [f"{n}_ratio" for n in ("engine", "zeros", "blocks")]
    keys += [f"{key}_onnxruntime" for key in keys]
    others = ("engine_difference", "engine_ms", "memory_mb", "memory_onnxruntime_mb")
    return dict.fromkeys(keys, ratio) | dict.fromkeys((*others, "planning_s", "planning_mb"), 1e-6)


def test_architectures_have_a_section_of_their_own(networks):
    rows = {"a/x.onnx": row(2.0), "b/z.onnx": {"reason": "no"}}
    rows |= {f"architectures/{name}.onnx": row(3.0) for name in ("torchvision/y", "timm/u")}
    failed, shipped, made, other = networks.tables(rows).split("## ")[1:]
    assert "| b: z.onnx | no |" in failed
    assert shipped.startswith("1 of 2 run")
    assert "95 % zeros, single, against the faster peer's dense | 2.00x | 2.00x" in shipped
    assert "| a: x.onnx |" in shipped
    assert made.startswith("1 of 1 of torchvision")
    assert "90 % zeros, single, against the faster peer's dense | 3.00x | 3.00x" in made
    assert "| a: x.onnx |" not in made
    assert "| torchvision: y.onnx |" in made
    assert other.startswith("1 of 1 of timm")
    assert "| timm: u.onnx |" in other


def test_rows_of_several_threads_stand_beside_those_of_one(networks):
    shared = row(1.5) | {"meeting_ns": 130.0}
    rows = {"a/x.onnx": row(2.0) | {"2_threads": shared}, "b/y.onnx": row(3.0)}
    text = networks.tables(rows)
    assert "| as shipped, against the faster of the peers | 2.50x | 2.00x |" in text
    assert "| 2 threads: as shipped, against the faster of the peers | 1.50x | 1.50x |" in text
    assert "| 2 threads: 95 % zeros, single, against the faster peer's dense | 1.50x |" in text
    assert "2 threads met in 130 ns after a step (median of the files), within 120 ns" in text
    header, line, first, other = text.split("\n\n")[-1].strip().splitlines()
    assert header.startswith("| file | against the faster peer | 2 threads | onnxruntime |")
    assert header.count("|") == line.count("|") == first.count("|") == other.count("|")
    assert first.startswith("| a: x.onnx | 2.00x | 1.50x | 2.00x |")
    assert other.startswith("| b: y.onnx | 3.00x | - | 3.00x |")


def test_threads_use_the_plans_of_one(networks, tmp_path):
    info = onnx.helper.make_tensor_value_info
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in "xy"]
    tensor = onnx.numpy_helper.from_array(weight, "w")
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [tensor])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "x.onnx")
    found = networks.measure(tmp_path / "x.onnx", tmp_path, 1, 2)
    assert found["engine_difference"] < 1e-5
    assert found["2_threads"].keys() >= {"engine_ratio", "zeros_ratio", "onnxruntime_ms"}
    assert found["2_threads"]["meeting_ns"] < 1e6
    assert "blocks_ratio" in found
    assert "2_threads" not in networks.measure(tmp_path / "x.onnx", tmp_path, 1, 1)


def test_earlier_rows_of_other_conditions_are_refused(networks, tmp_path):
    file = tmp_path / "networks.json"
    file.write_text(json.dumps({"about": "On A.", "networks": {"a/x.onnx": row(2.0)}}))
    assert networks.measured_before(file, "On A.") == {"a/x.onnx": row(2.0)}
    with pytest.raises(SystemExit, match=r"On A\. These are: On B\."):
        networks.measured_before(file, "On B.")


def test_several_threads_are_measured_until_their_cores_are_near(networks, tmp_path, monkeypatch):
    meetings = [300.0, 80.0, 70.0]
    monkeypatch.setattr(
        networks, "child", lambda *_: {"2_threads": {"meeting_ns": meetings.pop(0)}}
    )
    assert networks.nearest(tmp_path, 2, "threads") == {"2_threads": {"meeting_ns": 80.0}}
    meetings[:] = [300.0, 200.0, 400.0]
    assert networks.nearest(tmp_path, 2, "threads") == {"2_threads": {"meeting_ns": 200.0}}
    monkeypatch.setattr(networks, "child", lambda *_: {"reason": "refused"})
    assert networks.nearest(tmp_path, 2, "threads") == {"reason": "refused"}
