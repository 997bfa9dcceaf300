"""Timing in turns, and what the engine's times hold."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gossamer.deploy import bench, peers
from gossamer.deploy.bench import _difference, take_turns
from gossamer.errors import UserError
from gossamer.nn import KWinners, export
from gossamer.runtime import Engine


def test_turns_alternate_and_all_inputs_are_used(monkeypatch):
    """By a clock that ticks with every call: one tick for `one`, ten for `ten`."""
    now, seen, done = [0.0], [], []
    monkeypatch.setattr("time.process_time", lambda: now[0])
    monkeypatch.setitem(take_turns.__globals__, "TURN_SECONDS", 0.01)

    def call(name, ticks):
        def run(x):
            now[0] += ticks * 0.004
            seen.append((name, x))

        return run

    found = take_turns(
        {"one": call("one", 1), "ten": call("ten", 10)},
        [0, 1],
        turns=5,
        threads=1,
        on_turn=lambda turn, turns: done.append(turn),
    )
    assert found["one"].seconds == pytest.approx(0.004)
    assert found["ten"].seconds == pytest.approx(0.04)
    assert done == [1, 2, 3, 4, 5]
    assert found["one"].turns == found["one"].quiet == 5
    after = seen[4:]  # two calls of each to begin with
    assert after[:3] == [("one", 0), ("one", 1), ("ten", 0)]
    assert set(after) == {(name, x) for name in ("one", "ten") for x in (0, 1)}


def test_a_peer_that_refuses_is_named(tmp_path, monkeypatch):
    def refuse(path, threads):
        raise RuntimeError("no\nsuch thing")

    monkeypatch.setitem(peers.PEERS, "torch", peers.Peer("torch", "torch", refuse))
    path = export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"torch cannot run .*: no such thing; leave it out"):
        bench(path, ["torch"])


def test_openvino_gets_the_bodies_of_functions(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), KWinners(40, 0.1), nn.Linear(40, 5))
    model[0].weight.data *= torch.rand(40, 30) < 0.1
    path = export(model, torch.randn(2, 30), tmp_path / "m.onnx")
    found = bench(path, ["openvino"], turns=3, threads=1)
    assert found.contestants[2].difference < 1e-4


@pytest.fixture(scope="module")
def sparse_file(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), KWinners(40, 0.1), nn.Linear(40, 5))
    model[0].weight.data *= torch.rand(40, 30) < 0.1
    return export(model, torch.randn(2, 30), tmp_path_factory.mktemp("bench") / "m.onnx")


def test_the_dense_network_comes_first(sparse_file, monkeypatch):
    """By a peer whose time is that of the file it gets: 4 ms dense, 28 ms with k-winners."""
    now, files = [0.0], []
    monkeypatch.setattr("time.process_time", lambda: now[0])

    def prepare(path, threads):
        model = onnx.load(path)
        files.append(model)
        seconds = 0.028 if model.functions else 0.004
        session = onnxruntime.InferenceSession(path)

        def call(inputs):
            now[0] += seconds
            return session.run(None, {"input": inputs[0]})

        return call

    def engine(self, *inputs):
        now[0] += 0.002
        return called(self, *inputs)

    called = Engine.__call__
    monkeypatch.setattr(Engine, "__call__", engine)
    monkeypatch.setitem(peers.PEERS, "torch", peers.Peer("torch", "torch", prepare))
    found = bench(sparse_file, ["torch"], turns=3, threads=1, plan=Engine(sparse_file).plan)
    assert [(c.name, c.network) for c in found.contestants] == [
        ("gossamer", "file"),
        ("torch", "dense"),
        ("torch", "file"),
    ]
    assert found.contestants[1].difference is None
    assert found.contestants[2].difference < 1e-5
    assert list(found.ratios()) == ["dense", "file"]
    assert found.ratios()["dense"]["torch"] == pytest.approx(2.0)
    assert found.ratios()["file"]["torch"] == pytest.approx(14.0)
    assert [bool(model.functions) for model in files] == [False, True]


def test_a_dense_file_runs_once(tmp_path):
    path = export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path / "m.onnx")
    found = bench(path, turns=3, threads=1)
    assert [(c.name, c.network) for c in found.contestants[1:]] == [("onnxruntime", "dense")]
    assert found.contestants[1].difference < 1e-5
    assert list(found.ratios()) == ["dense"]


@pytest.mark.parametrize(
    ("peer", "engine", "difference"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([np.nan, 2.0], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([np.nan, np.inf, 2.0], [np.nan, np.inf, 4.0], 0.5),
        ([np.inf], [-np.inf], np.inf),
        ([], [], 0.0),
    ],
)
def test_nan_in_one_of_two_outputs_is_a_difference(peer, engine, difference):
    assert _difference([np.zeros(1), np.array(peer)], [np.zeros(1), np.array(engine)]) == difference


@pytest.mark.parametrize(("batch", "rows"), [(None, 10), (1, 1), (3, 3), (16, 16)])
def test_the_batch_cuts_the_examples(sparse_file, monkeypatch, batch, rows):
    seen = []

    def prepare(path, threads):
        return lambda inputs: seen.append(inputs[0]) or [np.zeros((len(inputs[0]), 5))]

    monkeypatch.setitem(peers.PEERS, "torch", peers.Peer("torch", "torch", prepare))
    x = np.random.default_rng(0).standard_normal((10, 30)).astype(np.float32)
    found = bench(sparse_file, ["torch"], batch=batch, turns=3, threads=1, inputs=[x])
    assert found.batch == rows
    assert {len(array) for array in seen} == {rows}
    np.testing.assert_array_equal(seen[0], np.resize(x, (rows, 30)))
    assert len({array.tobytes() for array in seen}) == max(1, min(8, 10 // rows))
