"""The frontier, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.search import Maximize, Minimize, TrialRecord
from gossamer.search.frontier import frontier, non_dominated, violations


def _records(*values, names=("accuracy", "density")):
    return [
        TrialRecord(i, "complete", {"x": i}, dict(zip(names, row, strict=True)), None, 1.0)
        for i, row in enumerate(values)
    ]


def _numbers(found):
    return [record.number for record in found.trials]


METRICS = [Maximize("accuracy", 0.9), Minimize("density", 0.2)]


def test_inside_the_thresholds():
    records = _records(
        (0.95, 0.10),  # 0: on the frontier
        (0.94, 0.12),  # 1: beaten by 0
        (0.99, 0.19),  # 2: on the frontier, best accuracy
        (0.999, 0.30),  # 3: too dense
        (0.90, 0.05),  # 4: exactly at the threshold is inside
        (0.80, 0.01),  # 5: not accurate enough
    )
    found = frontier(METRICS, records)
    assert found.feasible
    assert _numbers(found) == [2, 0, 4]


def test_equal_trials_do_not_beat_each_other():
    found = frontier(METRICS, _records((0.95, 0.1), (0.95, 0.1), (0.95, 0.11)))
    assert _numbers(found) == [0, 1]


def test_nothing_inside_gives_the_nearest_misses():
    records = _records(
        (0.80, 0.10),  # 0: accuracy 0.1 short
        (0.85, 0.30),  # 1: 0.05 short, 0.1 too dense
        (0.95, 0.40),  # 2: 0.2 too dense
        (0.70, 0.15),  # 3: 0.2 short: 0 is nearer in everything
        (0.85, 0.50),  # 4: 1 is nearer
    )
    found = frontier(METRICS, records)
    assert not found.feasible
    # Units: median violation of accuracy among (.1, .05, .2, .05) is .075, of density among
    # (.1, .2, .3) is .2. Totals: 0: 1.33; 1: .67 + .5 = 1.17; 2: 1.0.
    assert _numbers(found) == [2, 1, 0]


def test_equal_misses_are_ranked_by_the_metrics():
    records = _records((0.80, 0.10), (0.80, 0.05), (0.80, 0.05))
    found = frontier(METRICS, records)
    assert not found.feasible
    assert _numbers(found) == [1, 2]


def test_without_thresholds_every_trial_is_inside():
    found = frontier([Minimize("a"), Minimize("b")], _records((1, 2), (2, 1), (2, 2), names="ab"))
    assert found.feasible
    assert _numbers(found) == [0, 1]


def test_one_metric_gives_the_best():
    found = frontier([Maximize("a", 1.0)], _records((1.5,), (2.5,), (2.5,), (0.5,), names="a"))
    assert _numbers(found) == [1, 2]


def test_failed_and_running_trials_do_not_count():
    records = [
        TrialRecord(0, "failed", {}, {"accuracy": 0.99}, "why", 1.0),
        TrialRecord(1, "running", {}, {}, None, None),
        TrialRecord(2, "waiting", {}, {}, None, None),
    ]
    found = frontier(METRICS, records)
    assert found.trials == []
    assert not found.feasible


def test_violations_are_in_units_of_the_median_violation():
    values = np.array([[0.8, 0.1], [0.7, 0.5], [0.95, 0.3]])
    expected = [[0.1 / 0.15, -0.1 / 0.2], [0.2 / 0.15, 0.3 / 0.2], [-0.05 / 0.15, 0.1 / 0.2]]
    assert violations(METRICS, values) == pytest.approx(np.array(expected))
    assert violations([Maximize("a")], values[:, :1]).shape == (3, 0)


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12).map(
        lambda rows: np.array(rows, dtype=float)
    )
)
def test_non_dominated_by_definition(losses):
    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(
            x < y for x, y in zip(a, b, strict=True)
        )

    expected = [not any(dominates(b, a) for b in losses) for a in losses]
    assert non_dominated(losses).tolist() == expected
