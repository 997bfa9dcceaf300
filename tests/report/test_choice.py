"""Help in choosing: knee, gains and steps of the frontier, by hand."""

from __future__ import annotations

import pytest
from report_fakes import ACCURACY, DENSITY, experiment, goal, record, snapshot

from gossamer.report.choice import choice, compared, knee
from gossamer.search import Snapshot

# accuracy, density: on the frontier but for the last, which trial 1 dominates
POINTS = [(0.970, 0.05), (0.985, 0.06), (0.987, 0.10), (0.990, 0.14), (0.980, 0.09)]


def searched(points: list[tuple[float, float]] = POINTS) -> Snapshot:
    return snapshot(
        [
            record(n, "complete", {"rate": 0.1 * n}, {"accuracy": a, "density": d, "loss": 0.5})
            for n, (a, d) in enumerate(points)
        ]
    )


def test_the_knee_is_farthest_from_the_line_between_the_ends() -> None:
    bend = knee(searched())
    assert bend is not None
    assert bend.number == 1  # gains 0.75 and 8/9; trial 2 has 0.85 and 4/9
    made = choice(searched())
    assert made is not None
    assert made["knee"] == 1
    gains = {trial["number"]: trial["gains"] for trial in made["trials"]}
    assert list(gains) == [3, 2, 1, 0]
    assert gains[1] == pytest.approx([0.75, 8 / 9])
    assert gains[3] == [1.0, 0.0]


@pytest.mark.parametrize(
    "points",
    [
        [(0.97, 0.05), (0.98, 0.11), (0.99, 0.13)],  # bent the other way
        [(0.97, 0.05), (0.99, 0.13)],
        [(0.97, 0.05)],
        [(0.90, 0.5), (0.91, 0.6), (0.95, 0.61)],  # outside the thresholds
    ],
)
def test_a_frontier_without_a_bend_has_no_knee(points: list[tuple[float, float]]) -> None:
    assert knee(searched(points)) is None


def test_what_a_step_costs() -> None:
    made = choice(searched())
    assert made is not None
    assert made["unit"] == "0.01 accuracy"
    first = made["steps"][0]
    assert (first["from"], first["to"], first["gain"]) == (0, 1, "+0.015")
    assert first["changes"] == [
        {"metric": "density", "text": "+0.01", "times": "1.20×", "price": "+0.00667"}
    ]
    assert [step["to"] for step in made["steps"]] == [1, 2, 3]
    assert made["steps"][1]["changes"][0]["price"] == "+0.2"


def test_steps_of_other_magnitudes() -> None:
    metrics = (goal("rate", "maximize"), goal("bytes", "minimize"))
    records = [
        record(n, "complete", {}, {"rate": r, "bytes": b})
        for n, (r, b) in enumerate([(100.0, 2e6), (350.0, 3e6), (350.0, 3e6), (600.0, 9e6)])
    ]
    made = choice(snapshot(records, metrics=metrics))
    assert made is not None
    assert made["unit"] == "100 rate"
    assert [(s["from"], s["to"]) for s in made["steps"]] == [(0, 2), (1, 3)]  # 1 and 2 are equal
    assert made["steps"][0]["changes"][0]["price"] == "+400,000"


def test_one_metric_or_one_trial_leaves_no_choice() -> None:
    assert choice(searched(POINTS[:1])) is None
    assert choice(experiment(30, (ACCURACY,))) is None
    assert choice(snapshot([])) is None


def test_trials_are_compared_in_words() -> None:
    made = compared(searched([(0.97, 0.05), (0.96, 0.01)]), searched().complete[:1])
    assert made["metrics"][0] == {"name": "accuracy", "label": "accuracy", "limit": "≥\u00a00.965"}
    assert made["trials"][0]["texts"]["value:loss"] == "0.5"
    outside = searched([(0.96, 0.2)])
    assert compared(outside, outside.complete)["trials"][0]["missed"] == ["accuracy", "density"]
    assert DENSITY.threshold == 0.15
