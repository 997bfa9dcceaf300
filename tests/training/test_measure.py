"""What the engine measures of an exported network."""

import json

import numpy as np
import onnx
import pytest
from filelock import FileLock, Timeout
from onnx import TensorProto, helper, numpy_helper

from gossamer.deploy import MeasureSettings
from gossamer.deploy.bench import Turns
from gossamer.energy import EnergyModel, Work
from gossamer.errors import UserError
from gossamer.runtime import planner
from gossamer.training import measure as measuring
from gossamer.training.measure import measure, quiet_turn, returned

X = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)


def exported(path, density=0.1, width=16):
    rng = np.random.default_rng(0)
    first = rng.standard_normal((width, 32)).astype(np.float32)
    first[rng.random(first.shape) >= density] = 0.0
    second = rng.standard_normal((4, width)).astype(np.float32)
    shapes = {"x": ["N", 32], "y": ["N", 4]}
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["y"], transB=1),
    ]
    weights = [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")]
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.fixture
def clock(monkeypatch):
    """Times that are set: the dense network's 6, its own 2 after those that a test appends."""
    own = []

    def take_turns(calls, inputs, *, turns, threads):
        seconds = own.pop(0) if own and len(inputs[0]) == 1 else 2.0
        times = {"own": seconds, "dense": 6.0}
        return {name: Turns(times[name], turns, turns) for name in calls}

    monkeypatch.setattr(measuring, "take_turns", take_turns)
    return own


def test_speedup_is_the_dense_time_over_its_own(clock, tmp_path):
    path = exported(tmp_path / "m.onnx")
    found = measure(path, X, MeasureSettings(engine_batch=4), tmp_path / "plan.json")
    deployed = found["deployed"]
    assert deployed["speedup"] == 3.0
    assert deployed["latency"] == 2.0
    assert deployed["throughput"] == 4 / 2.0
    assert deployed["spread"] == {"speedup": 0.0, "latency": 0.0, "throughput": 0.0}
    assert (deployed["threads"], deployed["batch"], deployed["memory"]) == (1, 4, "L2")
    assert found["engine"]["seconds"] == {"batch1": 2.0, "batch4": 0.5}
    assert found["file_bytes"] == path.stat().st_size
    assert (tmp_path / "plan.json").is_file()
    values = returned({"speedup": 3.0, "density": 0.1}, found)
    assert values["speedup"] == (3.0, 0.0)
    assert (values["density"], values["speedup_spread"]) == (0.1, 0.0)


def test_what_stands_in_the_place_of_the_plan_is_no_fault_of_the_network(clock, tmp_path):
    path, plan = exported(tmp_path / "m.onnx"), tmp_path / "plan.json"
    plan.write_text("junk")
    assert "seconds" in measure(path, X, plan=plan)["engine"]
    assert json.loads(plan.read_text())["single"]
    plan.unlink()
    plan.mkdir()
    with pytest.raises(UserError, match=r"cannot write .*plan\.json: Is a directory"):
        measure(path, X, plan=plan)


def test_the_noise_of_a_median_is_that_of_normal_rounds():
    """Drawn again and again: the deviation that a trial returns is that of its medians."""
    rng = np.random.default_rng(0)
    medians, deviations = [], []
    for _ in range(300):
        rounds = 3.0 * (1 + 0.05 * rng.standard_normal(15))
        spread = {"speedup": measuring._spread(list(rounds))}
        run = {"deployed": {"spread": spread, "rounds": len(rounds)}}
        median, deviation = returned({"speedup": float(np.median(rounds))}, run)["speedup"]
        medians.append(median)
        deviations.append(deviation)
    assert np.mean(deviations) == pytest.approx(np.std(medians), rel=0.15)


def test_a_runs_own_plan_serves_for_the_reference(clock, tmp_path, monkeypatch):
    """The kernels of a dense run are not chosen again for each network beside it."""
    folder = tmp_path / "dense"
    folder.mkdir()
    measure(exported(folder / "model.onnx", 1.0), X, plan=folder / "plan.json")
    path, made = exported(tmp_path / "m.onnx"), []
    make = planner.make_lowered
    monkeypatch.setattr(planner, "make_lowered", lambda *a: made.append(a) or make(*a))
    measure(path, X, MeasureSettings(dense_reference=str(folder)))
    assert len(made) == 1
    (folder / "plan.json").write_text("junk")
    measure(path, X, MeasureSettings(dense_reference=str(folder)))
    assert len(made) == 3


def test_a_noisy_measurement_is_repeated(clock, tmp_path):
    clock += [1.0, 2.0, 3.0, 1.0, 3.0]  # five rounds that differ; the next ones take 2.0
    found = measure(exported(tmp_path / "m.onnx"), X)
    assert not clock
    assert found["deployed"]["latency"] == 2.0
    assert found["deployed"]["speedup"] == 3.0
    clock += [1.0, 3.0] * 100  # it never settles
    found = measure(exported(tmp_path / "m.onnx"), X)
    assert len(clock) == 200 - 3 * 5
    assert found["deployed"]["spread"]["latency"] == pytest.approx(1.0)


def test_a_dense_network_is_its_own_reference(clock, tmp_path):
    found = measure(exported(tmp_path / "m.onnx", density=1.0), X)
    assert found["deployed"]["speedup"] == 1.0
    works = {side: [Work(**work) for work in found["energy"][side]] for side in ("own", "dense")}
    ratio = EnergyModel().ratio(works["dense"], works["own"], "L2")
    assert found["deployed"]["energy_range"] == pytest.approx([1 / ratio.high, 1 / ratio.low])
    assert found["deployed"]["energy"] ** 2 == pytest.approx(1 / (ratio.high * ratio.low))


def test_another_network_may_be_the_reference(clock, tmp_path):
    """Beside a network of two units, one of 64 sparse units saves no energy."""
    path, small = exported(tmp_path / "m.onnx", width=64), exported(tmp_path / "s.onnx", 1.0, 2)
    against = measure(path, X, MeasureSettings(dense_reference=str(small)))["deployed"]
    assert against["reference"] == str(small)
    assert against["energy"] > 1.0
    with pytest.raises(UserError, match="dense_reference: no file"):
        measure(path, X, MeasureSettings(dense_reference="none.onnx"))


def test_one_measures_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with quiet_turn():
        (place,) = (tmp_path / "gossamer").glob("measuring-*.lock")
        with pytest.raises(Timeout):
            FileLock(place, timeout=0).acquire()
    with FileLock(place, timeout=0):
        pass


def test_without_a_place_for_the_lock_it_is_measured_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "gossamer").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with quiet_turn():
        pass
