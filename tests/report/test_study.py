"""An experiment judged against its thresholds, by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fakes import ACCURACY, DENSITY, Axis, Fake, Goal, Record, Sum, experiment

from gossamer.report.study import best_so_far, hypervolume_so_far, importances, study


def made(*values: tuple[float, float]) -> Fake:
    return Fake(
        [
            Record(number, "complete", {}, {"accuracy": accuracy, "density": density})
            for number, (accuracy, density) in enumerate(values)
        ]
    )


def test_threshold_itself_is_inside() -> None:
    read = study(made((0.965, 0.15), (0.9649, 0.1), (0.98, 0.1501)))
    assert [trial.inside for trial in read.trials] == [True, False, False]
    assert read.inside == 1
    assert read.verdict == "1 trial on the frontier, inside the thresholds"


def test_nearest_trials_are_called_so() -> None:
    read = study(made((0.96, 0.15), (0.5, 0.9)))
    assert not read.feasible
    assert [trial.number for trial in read.frontier] == [0, 1]
    assert read.verdict == "no trial is inside the thresholds; the nearest 2 are shown"


def test_trials_of_a_cheaper_task_are_only_counted() -> None:
    values = {"accuracy": 0.97, "density": 0.1}
    cheaper = [Record(n, "complete", {}, values, fidelity="small") for n in range(2)]
    read = study(Fake(cheaper))
    assert (read.trials, read.inside, read.cheaper) == ((), 0, 2)
    assert read.verdict == "no trial of the full task is complete yet"
    read = study(Fake([*cheaper, Record(2, "complete", {}, values)]))
    assert [trial.number for trial in read.frontier] == [2]
    assert (read.inside, read.cheaper) == (1, 2)


def test_trials_are_sorted_by_what_became_of_them() -> None:
    records = [
        Record(0, "complete", {}, {"accuracy": 0.97, "density": 0.1}),
        Record(1, "failed", reason="out of\n memory"),
        Record(2, "failed"),
        Record(3, "running"),
        Record(4, "waiting"),
        Record(5, "complete", {}, {"accuracy": math.nan, "density": 0.1}),
        Record(6, "complete", {}, {"accuracy": 0.9}),
    ]
    read = study(Fake(records))
    assert [trial.number for trial in read.trials] == [0]
    assert [(failure.number, failure.reason) for failure in read.failures] == [
        (1, "out of memory"),
        (2, "no reason was given"),
        (5, "no finite value of accuracy"),
        (6, "no finite value of density"),
    ]
    assert read.waiting == 2


def test_limits_and_constraints_in_words() -> None:
    read = study(
        experiment(
            1,
            constraints=(
                Sum({"start": 1.0, "end": -1.0}, 0.0),
                Sum({"a": -2.0, "b": 0.5}, 1.5),
            ),
        )
    )
    assert [metric.limit for metric in read.metrics] == ["≥\u00a00.965", "≤\u00a00.15"]
    assert read.constraints == ("start − end ≤\u00a00", "−2 · a + 0.5 · b ≤\u00a01.5")


def test_parameter_that_is_none_differs_from_one_that_is_missing() -> None:
    records = [Record(0, "complete", {"rule": None}, {"accuracy": 1.0, "density": 0.0})]
    trial = study(Fake(records, parameters=(Axis("rule", options=(None, "set")),))).trials[0]
    assert trial.written("rule") == "none"
    assert trial.written("other") == "–"


def test_best_so_far_counts_only_trials_inside_all_thresholds() -> None:
    read = study(made((0.99, 0.5), (0.966, 0.14), (0.97, 0.2), (0.968, 0.15), (0.967, 0.01)))
    accuracy, density = read.metrics
    assert best_so_far(read, accuracy) == [(1, 0.966), (2, 0.966), (3, 0.968), (4, 0.968)]
    assert best_so_far(read, density) == [(1, 0.14), (2, 0.14), (3, 0.14), (4, 0.01)]


def test_hypervolume_by_hand_never_falls() -> None:
    # Gains over the thresholds (.5, .5): (.1, .3), outside, (.4, .1), (.05, .05).
    goals = (Goal("accuracy", "maximize", 0.5), Goal("density", "minimize", 0.5))
    values = ((0.6, 0.2), (0.4, 0.0), (0.9, 0.4), (0.55, 0.45))
    expected = [0.03, 0.03, 0.03 + 0.3 * 0.1, 0.06]
    for count in range(1, 5):
        fake = made(*values[:count])
        fake.metrics = goals
        steps = hypervolume_so_far(study(fake))
        assert [number for number, _ in steps] == list(range(count))
        # What was said of a trial stays, whatever comes after it.
        assert [volume for _, volume in steps] == pytest.approx(expected[:count])


def test_hypervolume_needs_two_thresholds_and_a_trial_beyond_them() -> None:
    assert hypervolume_so_far(study(experiment(30, (ACCURACY,)))) == []
    one = (ACCURACY, Goal("density", "minimize"))
    assert hypervolume_so_far(study(experiment(30, one))) == []
    assert hypervolume_so_far(study(made((0.965, 0.15)))) == []
    assert hypervolume_so_far(study(made((0.5, 0.9)))) == []


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=12))
@settings(max_examples=60)
def test_hypervolume_agrees_with_counting_the_cells_of_a_grid(
    points: list[tuple[int, int]],
) -> None:
    """Integers make the dominated region a set of unit cells, which can be counted."""
    goals = (Goal("accuracy", "maximize", 2.0), Goal("density", "minimize", 10.0))
    fake = made(*((float(a), float(d)) for a, d in points))
    fake.metrics = goals
    cells = np.zeros((10, 10), dtype=bool)
    volumes = []
    for accuracy, density in points:
        if accuracy >= 2 and density <= 10:
            cells[: accuracy - 2, : 10 - density] = True
        volumes.append(int(cells.sum()))
    steps = hypervolume_so_far(study(fake))
    assert steps == (list(enumerate(volumes)) if volumes[-1] else [])


def test_importances_are_ranked_and_finite() -> None:
    shares = {"accuracy": {"a": 0.1, "b": 0.7, "c": math.nan}, "density": {}, "other": {"a": 1.0}}
    fake = experiment(20, (ACCURACY, DENSITY), shares=shares)
    assert importances(fake, study(fake)) == {"accuracy": {"b": 0.7, "a": 0.1}}
    assert list(importances(fake, study(fake))["accuracy"]) == ["b", "a"]
    single = experiment(1, shares=shares)
    assert importances(single, study(single)) == {}
