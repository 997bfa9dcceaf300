"""Timing in turns, and what the engine's times hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.deploy import bench, engine_times
from gossamer.deploy.bench import take_turns
from gossamer.errors import UserError
from gossamer.nn import export


def test_turns_alternate_and_all_inputs_are_used(monkeypatch):
    """By a clock that ticks with every call: one tick for `one`, ten for `ten`."""
    now, seen, done = [0.0], [], []
    monkeypatch.setattr("time.process_time", lambda: now[0])

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
        on_turn=lambda: done.append(1),
    )
    assert found["one"].seconds == pytest.approx(0.004)
    assert found["ten"].seconds == pytest.approx(0.04)
    assert len(done) == found["one"].turns == found["one"].kept == 5
    after = seen[4:]  # two calls of each to begin with
    assert after[:3] == [("one", 0), ("one", 1), ("ten", 0)]
    assert set(after) == {(name, x) for name in ("one", "ten") for x in (0, 1)}


def test_engine_times_of_a_file(tmp_path):
    path = export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path / "m.onnx")
    found = engine_times(path, np.ones((5, 6), np.float32))  # fewer than a batch
    assert found["threads"] == 1
    assert set(found["seconds"]) == {"batch1", "batch64"}
    assert all(seconds > 0 for seconds in found["seconds"].values())


def test_a_peer_that_refuses_is_named(tmp_path, monkeypatch):
    from gossamer.deploy import peers

    def refuse(path, threads):
        raise RuntimeError("no\nsuch thing")

    monkeypatch.setitem(peers.PEERS, "torch", peers.Peer("torch", "torch", refuse))
    path = export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"torch cannot run .*: no such thing; leave it out"):
        bench(path, ["torch"])


def test_openvino_gets_the_bodies_of_functions(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    from gossamer.nn import KWinners

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), KWinners(40, 0.1), nn.Linear(40, 5))
    model[0].weight.data *= torch.rand(40, 30) < 0.1
    path = export(model, torch.randn(2, 30), tmp_path / "m.onnx")
    found = bench(path, ["openvino"], turns=3, threads=1)
    assert found.contestants[1].difference < 1e-4
