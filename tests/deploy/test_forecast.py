"""What a network would gain from zeros, forecast from pruned copies."""

from __future__ import annotations

import importlib
import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from gossamer.console import show
from gossamer.deploy import Choice, Forecast, LayerForecast, forecast
from gossamer.deploy.bench import Turns
from gossamer.deploy.forecast import CHOICES, layer_seconds, prune, pruned
from gossamer.errors import UserError
from gossamer.report import forecast_table
from gossamer.runtime import Engine, LayerProfile, Plan, planner
from gossamer.runtime.importer import read

random = np.random.default_rng(0)
UNMEASURED = Plan("", "", "")
NAMES = ("first", "grouped", "wide", "odd")
SHAPES = {"first": (16, 4, 3, 3), "grouped": (16, 8, 3, 3), "wide": (32, 256), "odd": (10, 32)}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A convolution, a grouped one, and linear layers of 32 and 10 outputs."""
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), f"{name}.w")
        for name, shape in SHAPES.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first.w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "grouped.w"], ["c"], "grouped", group=2),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "wide.w"], ["e"], "wide", transB=1),
        helper.make_node("Sigmoid", ["e"], ["f"], "bend"),
        helper.make_node("Gemm", ["f", "odd.w"], ["y"], "odd", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        weights,
    )
    path = tmp_path_factory.mktemp("forecast") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def layer(name, seconds):
    return LayerProfile(name, "k", seconds, 0.0, 0.0, 0, 0.0)


def test_conversions_count_to_the_layer_that_wants_them():
    rows = [("(form)", 1), ("a", 2), ("b", 4), ("(form)", 8), ("a", 16), ("(form)", 32)]
    found = layer_seconds([layer(name, seconds) for name, seconds in rows])
    assert found == {"a": 1 + 2 + 8 + 16, "b": 4, "": 32}
    assert layer_seconds([layer("a", 1.0)]) == {"a": 1.0}


def test_the_largest_entries_stay():
    weight = np.array([[4, -0.9, 3, 0.5], [-9, 2, 0.8, 6], [1, 0.7, 0.6, 2], [0.1, 0.2, 0.4, 0.3]])
    found = prune(weight, 0.5, 1)  # the last row keeps its largest, though small
    assert found.tolist() == [[4, 0, 3, 0], [-9, 2, 0, 6], [1, 0, 0, 2], [0, 0, 0.4, 0]]
    # Sums of pairs of rows: 13 2.9 3.8 6.5 and 1.1 0.9 1 2.3; half are 13, 3.8, 6.5 and 2.3.
    found = prune(weight, 0.5, 2)
    assert found.tolist() == [[4, 0, 3, 0.5], [-9, 0, 0.8, 6], [0, 0, 0, 2], [0, 0, 0, 0.3]]


@pytest.mark.parametrize("choice", [Choice(0.8), Choice(0.9, 8), Choice(0.95, 16, True)])
def test_a_pruned_copy(network, choice):
    graph = read(network)
    copy = pruned(graph, choice)
    before = {node.output: node for node in graph.nodes}
    densities = {}
    for node in copy.nodes:
        if node.op in ("conv", "linear"):
            weight = node.constants["weight"]
            densities[before[node.output].name] = np.count_nonzero(weight) / weight.size
    keep = pytest.approx(1 - choice.zeros, abs=0.01)
    wide = pytest.approx(max(1 - choice.zeros, 1 / 256), abs=0.01)
    assert densities == {
        "first": keep,
        "grouped": 1.0,
        "wide": wide,
        "odd": keep if choice.block == 1 else 1.0,  # 10 outputs are no blocks of 8
    }
    assert all(np.count_nonzero(n.constants["weight"]) == n.constants["weight"].size
               for n in graph.nodes if "weight" in n.constants)  # fmt: skip
    winners = [(node.operation.k, node.inputs[0]) for node in copy.nodes if node.op == "winners"]
    # A tenth of 256 and of 32 inputs; the first layer reads data.
    assert [k for k, _ in winners] == ([26, 3] if choice.winners else [])
    engine = Engine(copy, threads=1, plan=UNMEASURED)
    assert engine(np.ones((2, 4, 8, 8), np.float32)).shape == (2, 10)


@pytest.fixture
def clock(monkeypatch):
    """Every kernel takes a second; one with zeros half of it, the whole network a third."""
    real = Engine.profile

    def profile(self, *inputs, repeats):
        rows = real(self, *inputs, repeats=1)
        share = {
            node.output: np.count_nonzero(node.constants["weight"]) / node.constants["weight"].size
            for node in self.graph.nodes
            if "weight" in node.constants
        }
        return [
            layer(row.node, 0.0 if row.node == "(form)" else 0.5 if share.get(row.node, 1) < 0.5
                  else 1.0)
            for row in rows
        ]  # fmt: skip

    def turns(calls, inputs, **settings):
        for call in calls.values():
            call(inputs[0])
        return {"dense": Turns(3.0, 1, 1), "sparse": Turns(1.0, 1, 1)}

    monkeypatch.setattr(Engine, "profile", profile)
    monkeypatch.setattr(importlib.import_module("gossamer.deploy.forecast"), "take_turns", turns)
    monkeypatch.setattr(planner, "make", lambda *args, **settings: UNMEASURED)


def test_every_layer_is_forecast(network, clock):
    done = []
    choices = (Choice(0.9), Choice(0.9, 8))
    found = forecast(network, threads=1, choices=choices, on_choice=lambda *n: done.append(n))
    assert done == [(1, 2), (2, 2)]
    assert found.faster == (3.0, 3.0)
    assert found.seconds == 3.0
    assert (found.batch, found.threads) == (1, 1)
    by_name = {each.name: each for each in found.layers}
    assert set(NAMES) <= set(by_name)
    assert by_name["first"].faster == (2.0, 2.0)
    assert by_name["wide"].faster == (2.0, 2.0)
    assert by_name["odd"].faster == (2.0, None)
    assert by_name["grouped"].faster == (None, None)
    assert by_name["grouped"].dense == "a grouped convolution"
    assert sum(each.share for each in found.layers) == pytest.approx(1)
    # Five kernels (an activation joins the one before it), two of them for the groups.
    assert by_name["wide"].share == pytest.approx(1 / 5)
    assert by_name["grouped"].share == pytest.approx(2 / 5)
    assert found.as_dict()["choices"][1] == {"zeros": 0.9, "block": 8, "winners": False}


def test_a_sparse_network_is_compared_in_its_dense_form(network, clock, tmp_path):
    model = onnx.load(network)
    for tensor in model.graph.initializer:
        weight = prune(numpy_helper.to_array(tensor), 0.1, 1)
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, tmp_path / "sparse.onnx")
    found = forecast(tmp_path / "sparse.onnx", threads=1, choices=(Choice(0.9),))
    assert {each.name: each.faster for each in found.layers}["wide"] == (2.0,)


def test_refused(network, tmp_path):
    with pytest.raises(UserError, match="pass at least one example"):
        forecast(network, inputs=[np.zeros((0, 4, 8, 8), np.float32)])
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph), tmp_path / "relu.onnx")
    with pytest.raises(UserError, match="no layer of it can be sparse"):
        forecast(tmp_path / "relu.onnx")


def test_the_table_fits_80_columns():
    choices = tuple(Choice(z, b, w) for w in (False, True) for b in (1, 8, 16)
                    for z in (0.8, 0.9, 0.95))  # fmt: skip
    gains = tuple(i + 0.625 for i in range(18))
    long = "a.very.long.name.of.a.layer.in.a.deep.network"
    no = (None,) * 18
    found = Forecast("m.onnx", "Abacus", 1, 1, 0.25, choices, (
        LayerForecast(long, "linear", 0.6, "", gains),
        LayerForecast("dw", "conv", 0.3, "a grouped convolution", no),
        LayerForecast("pool", "pool", 0.095, "it has no weights", no),
        LayerForecast("tiny", "unary", 0.005, "it has no weights", no),
    ), gains)  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=80).print(forecast_table(found))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text.getvalue()
    whole = next(i for i, line in enumerate(lines) if "whole network" in line)
    assert lines[whole].split()[4:] == [f"{gain:.1f}" for gain in gains[:9]]
    assert lines[whole + 1].split() == ["with", "winners", "9.6", *map(str, range(11, 19))]
    for shown in ("dw (conv)", "pool (pool)", "1 without weights", "95%"):
        assert shown in text.getvalue()


def test_a_long_name_leaves_room_for_the_speedups() -> None:
    """As TensorFlow names its layers; it is split, and no number is left out."""
    name = "model_1/cq_t2010v2_1/conv1d_1;model_1/cq_t2010v2_1/conv1d_1/of_several"
    gains = tuple(1.5 + i / 10 for i in range(len(CHOICES)))
    layer = LayerForecast(name, "conv", 1.0, "", gains)
    made = Forecast("m.onnx", "machine", 1, 1, 0.01, CHOICES, (layer,), gains)
    text = io.StringIO()
    show(forecast_table(made), Console(width=80, file=text))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.split()[-9:] == [f"{gain:.1f}" for gain in gains[:9]] for line in lines) == 2
    assert sum(line.split()[-9:] == [f"{gain:.1f}" for gain in gains[9:]] for line in lines) == 2
    assert name in "".join(line[:26].strip() for line in lines)
