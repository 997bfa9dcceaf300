"""Experiments of constraints alone: the search spreads over the region inside."""

import json

import numpy as np
import optuna
import pytest

from gossamer.report import frontier_table
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Experiment,
    Float,
    Snapshot,
    export_study,
    export_trials,
    import_trials,
)
from gossamer.search.coverage import Coverage, coverage_of
from gossamer.search.samplers.acquisition import filling_radius, log_uncovered
from gossamer.search.space.space import Space

PLANE = [Float("x", 0, 1), Float("y", 0, 1)]
RING = [AtLeast("a", 0.7), AtMost("b", 0.6)]


def _ring(trial):
    x, y = trial.parameters["x"], trial.parameters["y"]
    return {"a": 1 - 5 * abs(np.hypot(x - 0.5, y - 0.5) - 0.3), "b": x}


def _searched(sampler="gp", budget=20, storage=None, seed=0):
    experiment = Experiment(
        "ring", PLANE, RING, budget=budget, sampler=sampler, seed=seed, storage=storage
    )
    experiment.run(_ring, progress=False)
    return experiment


def test_a_point_covers_a_hundredth():
    coverage = Coverage(Space(PLANE))
    middle, corner = {"x": 0.5, "y": 0.5}, {"x": 0.0, "y": 0.0}
    shares = coverage.shares([middle, middle, corner])
    # The radius of a disc of area 0.01, in units of the root mean square.
    assert coverage.radius == pytest.approx((0.01 / np.pi) ** 0.5 / 2**0.5, rel=0.1)
    assert shares[0] == pytest.approx(0.01, abs=0.004)
    assert shares[1] == shares[0]
    assert 0 < shares[2] - shares[1] < shares[0]


def test_coverage_of_options():
    space = Space([Choice("kind", ["a", "b", "c", "d"])])
    assert Coverage(space).shares([{"kind": "a"}, {"kind": "a"}, {"kind": "b"}]) == pytest.approx(
        [0.25, 0.25, 0.5], abs=0.03
    )


def test_two_discs_leave_free_what_the_first_does_not_cover():
    # Discs of radius 1 with centers d apart share 2 acos(d / 2) - d / 2 sqrt(4 - d^2).
    far = np.array([[0.5], [1.0], [2.0], [5.0]])
    apart = np.minimum(far[:, 0], 2.0)
    common = 2 * np.arccos(apart / 2) - apart / 2 * np.sqrt(4 - apart**2)
    assert np.exp(log_uncovered(far, 1.0, 2)) == pytest.approx(1 - common / np.pi)
    assert filling_radius(np.pi * 4.0, 4, 2) == pytest.approx(1.0)


def test_the_search_spreads_over_the_region():
    ours, random = _searched(), _searched("random")
    shares = []
    for experiment in (ours, random):
        front = experiment.frontier()
        assert front.kind == "region"
        points = [record.parameters for record in front.trials]
        shares.append(float(coverage_of(ours.space).shares(points)[-1]))
    assert shares[0] > 1.5 * shares[1]


@pytest.mark.parametrize("sampler", ["tpe", "optuna_gp", "random"])
def test_other_samplers_search_it_too(sampler):
    experiment = _searched(sampler, budget=13)
    assert len(experiment.trials()) == 13
    assert not experiment.frontier().feasible or experiment.frontier().kind == "region"


def test_shown_with_its_coverage():
    snapshot = Snapshot.of(_searched(budget=14))
    steps = snapshot.coverage_so_far
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 0.2
    title = str(frontier_table(snapshot).renderables[0])
    assert f"{len(snapshot.inside)} trials inside the thresholds, covering" in title


def test_the_storage_keeps_the_total_violation(tmp_path):
    url = f"sqlite:///{tmp_path}/ring.db"
    experiment = _searched(budget=5, storage=url)
    trials = experiment.trials()
    study = optuna.load_study(study_name="ring", storage=url)
    beyond = [sum(max(0.0, m.violation(t.values[m.name])) for m in RING) for t in trials]
    assert [trial.value for trial in study.trials] == pytest.approx(beyond)
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    # It goes on, and elsewhere too.
    export_trials(url, tmp_path / "ring.json")
    assert json.loads((tmp_path / "ring.json").read_text())["objectives"] == {}
    import_trials(tmp_path / "ring.json", f"sqlite:///{tmp_path}/there.db")
    there = Experiment.from_storage(f"sqlite:///{tmp_path}/there.db")
    assert [t.values for t in there.trials()] == [t.values for t in trials]
    there.tell(there.ask(), {"a": 0.0, "b": 0.0})
    assert export_study(experiment, f"sqlite:///{tmp_path}/theirs.db") == 5
    theirs = optuna.load_study(study_name="ring", storage=f"sqlite:///{tmp_path}/theirs.db")
    assert [trial.value for trial in theirs.trials] == pytest.approx(beyond)
