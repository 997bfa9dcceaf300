"""An experiment at one moment: judged against its thresholds, by hand and by brute force."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Maximize, Minimize, Snapshot, TrialRecord

ACCURACY, DENSITY = Maximize("accuracy", 0.965), Minimize("density", 0.15)


def record(number: int, state: Any = "complete", **more: Any) -> TrialRecord:
    told = {"values": {"accuracy": 0.97, "density": 0.1}, "seconds": 2.0, "reason": None}
    return TrialRecord(number, state, parameters={}, **(told | more))


def made(*values: tuple[float, float], metrics: Any = (ACCURACY, DENSITY)) -> Snapshot:
    trials = [
        record(number, values={"accuracy": accuracy, "density": density})
        for number, (accuracy, density) in enumerate(values)
    ]
    return Snapshot("speech", metrics, trials=tuple(trials))


def test_threshold_itself_is_inside() -> None:
    read = made((0.965, 0.15), (0.9649, 0.1), (0.98, 0.1501))
    assert read.inside == {0}
    assert [trial.number for trial in read.frontier.trials] == [0]


def test_other_thresholds_judge_the_same_trials() -> None:
    read = made((0.96, 0.15), (0.98, 0.2))
    assert not read.frontier.feasible
    other = read.judged_by({"accuracy": 0.9, "density": None})
    assert other.inside == {0, 1}
    assert read.inside == frozenset()
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        read.judged_by({"acuracy": 0.9})


def test_trials_of_a_cheaper_task_are_not_among_the_complete() -> None:
    read = Snapshot("some", (ACCURACY, DENSITY), trials=(record(0, fidelity="small"), record(1)))
    assert [trial.number for trial in read.complete] == [1]
    assert read.inside == {1}
    assert read.states["complete"] == 2


def test_running_trial_whose_process_has_ended_does_not_run() -> None:
    here = socket.gethostname()
    workers = (f"{here}/{os.getpid()}", f"{here}/{2**22 + 1}", "elsewhere/1", None)
    trials = tuple(record(i, "running", seconds=None, worker=w) for i, w in enumerate(workers))
    read = Snapshot("some", (ACCURACY,), trials=trials)
    assert read.states["running"] == 4
    assert read.running == 3


def test_time_left_is_that_of_the_newest_trials() -> None:
    old = [record(n, seconds=100.0) for n in range(30)]
    new = [record(n, seconds=2.0) for n in range(30, 60)]
    running = [record(n, "running", seconds=None) for n in (60, 61)]
    read = Snapshot("some", (ACCURACY,), budget=100, trials=(*old, *new, *running))
    assert read.seconds_left == 40 * 2.0 / 2
    assert read.trials_left == 40
    spent = dataclasses.replace(read, budget=60)
    assert (spent.trials_left, spent.seconds_left) == (0, 0.0)
    assert Snapshot("some", (ACCURACY,), budget=9).seconds_left is None


def test_failed_trials_are_no_measure_of_the_time_left() -> None:
    whole = [record(n, seconds=10.0) for n in range(4)]
    failed = [record(n, "failed", seconds=0.01, values={}) for n in range(4, 40)]
    read = Snapshot("some", (ACCURACY,), budget=10, trials=(*whole, *failed))
    assert (read.trials_left, read.seconds_left) == (6, 60.0)
    only = dataclasses.replace(read, trials=tuple(failed))
    assert (only.trials_left, only.seconds_left) == (10, None)


def test_cheaper_trials_take_their_part_of_the_budget_and_of_the_time() -> None:
    cheap = [record(n, fidelity="small", seconds=1.0) for n in range(20)]
    stopped = record(20, "stopped", values={}, seconds=10.0)
    read = Snapshot("x", (ACCURACY,), budget=9, trials=(*cheap, stopped), costs={"small": 0.1})
    assert (read.ended, read.spent, read.trials_left) == (21, 3.0, 6.0)
    assert (read.worth["complete"], read.worth["stopped"]) == (pytest.approx(2.0), 1.0)
    assert read.seconds_left == pytest.approx(6 * 10.0)


def test_snapshot_of_an_experiment_follows_it_and_stays() -> None:
    experiment = Experiment("some", [Float("x", 0.0, 1.0)], [Maximize("y", 0.5)], budget=20)
    before = Snapshot.of(experiment)
    for _ in range(12):
        trial = experiment.ask()
        experiment.tell(trial, {"y": trial.parameters["x"]})
    experiment.set_threshold("y", 0.0)
    after = Snapshot.of(experiment, importances=True)
    assert (len(before.trials), before.metrics[0].threshold) == (0, 0.5)
    assert (len(after.inside), after.metrics[0].threshold) == (12, 0.0)
    assert after.importances["y"] == {"x": pytest.approx(1.0)}
    assert before.version != after.version
    assert after.split is None
    trained = Experiment(
        "some", [Float("x", 0.0, 1.0)], [Maximize("y")], settings={"task": "mnist", "model": "mlp"}
    )
    assert Snapshot.of(trained).split == "validation"


def test_best_so_far_counts_only_trials_inside_all_thresholds() -> None:
    read = made((0.99, 0.5), (0.966, 0.14), (0.97, 0.2), (0.968, 0.15), (0.967, 0.01))
    accuracy, density = read.metrics
    assert read.best_so_far(accuracy) == [(1, 0.966), (2, 0.966), (3, 0.968), (4, 0.968)]
    assert read.best_so_far(density) == [(1, 0.14), (2, 0.14), (3, 0.14), (4, 0.01)]


def test_hypervolume_by_hand_never_falls() -> None:
    # Gains over the thresholds (.5, .5): (.1, .3), outside, (.4, .1), (.05, .05).
    goals = (Maximize("accuracy", 0.5), Minimize("density", 0.5))
    values = ((0.6, 0.2), (0.4, 0.0), (0.9, 0.4), (0.55, 0.45))
    expected = [0.03, 0.03, 0.03 + 0.3 * 0.1, 0.06]
    for count in range(1, 5):
        steps = made(*values[:count], metrics=goals).hypervolume_so_far
        assert [number for number, _ in steps] == list(range(count))
        # What was said of a trial stays, whatever comes after it.
        assert [volume for _, volume in steps] == pytest.approx(expected[:count])


def test_hypervolume_needs_two_thresholds_and_a_trial_beyond_them() -> None:
    assert made((0.97, 0.1), metrics=(ACCURACY,)).hypervolume_so_far == []
    one = (ACCURACY, Minimize("density"))
    assert made((0.97, 0.1), metrics=one).hypervolume_so_far == []
    assert made((0.965, 0.15)).hypervolume_so_far == []
    assert made((0.5, 0.9)).hypervolume_so_far == []


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=12))
@settings(max_examples=60)
def test_hypervolume_agrees_with_counting_the_cells_of_a_grid(
    points: list[tuple[int, int]],
) -> None:
    """Integers make the dominated region a set of unit cells, which can be counted."""
    goals = (Maximize("accuracy", 2.0), Minimize("density", 10.0))
    read = made(*((float(a), float(d)) for a, d in points), metrics=goals)
    cells = np.zeros((10, 10), dtype=bool)
    volumes = []
    for accuracy, density in points:
        if accuracy >= 2 and density <= 10:
            cells[: accuracy - 2, : 10 - density] = True
        volumes.append(int(cells.sum()))
    steps = read.hypervolume_so_far
    assert steps == (list(enumerate(volumes)) if volumes[-1] else [])
