"""Distances between points, distinct solutions, and trials in the order of their difference."""

import numpy as np
import pytest

from gossamer.errors import UserError
from gossamer.search import Choice, Experiment, Float, Maximize, Minimize, Solutions, TrialRecord
from gossamer.search.distinct import distances, most_different_first
from gossamer.search.frontier import frontier
from gossamer.search.space.space import Space

PLANE = Space([Float("x", 0, 1), Float("y", 0, 10)])


def _records(*rows):
    return [
        TrialRecord(i, "complete", {"x": x, "y": y}, {"a": a}, None, 1.0)
        for i, (x, y, a) in enumerate(rows)
    ]


def test_distances_are_shares_of_the_ranges():
    units = PLANE.encode([{"x": 0.0, "y": 0.0}, {"x": 0.3, "y": 4.0}, {"x": 1.0, "y": 10.0}])
    far = distances(PLANE, units, units)
    # sqrt((0.3^2 + 0.4^2) / 2), and opposite corners are 1 apart.
    assert far[0, 1] == pytest.approx(0.5 / 2**0.5)
    assert far[0, 2] == pytest.approx(1.0)
    assert np.diag(far) == pytest.approx(0.0, abs=1e-7)


def test_options_of_a_choice_and_absence_differ_by_1():
    space = Space([Choice("kind", ["a", "b", "c"]), Float("x", 0, 1, when={"kind": "a"})])
    with_x, without, other = space.encode([{"kind": "a", "x": 0.5}, {"kind": "b"}, {"kind": "c"}])
    assert distances(space, with_x[None], without[None])[0, 0] == pytest.approx(1.0)
    assert distances(space, without[None], other[None])[0, 0] == pytest.approx(0.5**0.5)


def test_solutions_keep_their_distance_from_all_better_ones():
    records = _records((0, 0, 1.0), (0.1, 0, 0.99), (0.5, 0, 0.7), (0.55, 0, 0.8), (1, 10, 0.1))
    best = frontier([Maximize("a")], records, PLANE, Solutions(3, 0.3))
    # 1 is too near to 0, and 2 to 3, which is better.
    assert [record.number for record in best.trials] == [0, 3, 4]
    assert best.kind == "solutions"
    limited = frontier([Maximize("a", 0.5)], records, PLANE, Solutions(3, 0.3))
    assert [record.number for record in limited.trials] == [0, 3]


def test_most_different_first():
    points = [{"x": x, "y": 0.0} for x in (0.0, 0.1, 1.0, 0.5)]
    assert most_different_first(PLANE, points) == [0, 2, 3, 1]
    assert most_different_first(PLANE, points, 2) == [0, 2, 1, 3]


def _peaks(trial):
    x, y = trial.parameters["x"], trial.parameters["y"]
    peaks = [(1.0, 0.2, 0.2), (0.9, 0.8, 0.7), (0.8, 0.2, 0.8)]
    return {
        "a": sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.02) for h, a, b in peaks),
        "cost": x,
    }


def test_a_search_finds_three_peaks():
    plane = [Float("x", 0, 1), Float("y", 0, 1)]
    solutions = Solutions(3, distance=0.2)
    experiment = Experiment("peaks", plane, [Maximize("a")], budget=45, solutions=solutions)
    experiment.run(_peaks, progress=False)
    best = experiment.frontier().trials
    assert [record.values["a"] for record in best] == pytest.approx([1.0, 0.9, 0.8], abs=0.02)


def test_solutions_are_stored_with_the_experiment(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    plane = [Float("x", 0, 1), Float("y", 0, 1)]
    made = Experiment("s", plane, [Maximize("a")], storage=url, solutions=Solutions(2, 0.1))
    made.tell(made.ask(), {"a": 1.0})
    assert Experiment.from_storage(url).solutions == Solutions(2, 0.1)


@pytest.mark.parametrize(
    ("metrics", "solutions", "says"),
    [
        (
            [Maximize("a"), Minimize("b")],
            Solutions(2),
            "solutions need exactly one metric .* not 2",
        ),
        ([Maximize("a")], 3, "solutions must be Solutions"),
    ],
)
def test_solutions_that_cannot_be(metrics, solutions, says):
    with pytest.raises(UserError, match=says):
        Experiment("s", [Float("x", 0, 1)], metrics, solutions=solutions)


@pytest.mark.parametrize("numbers", [(1, 0.2), (2.5, 0.2), (2, 0.0), (2, 1.0), (2, "far")])
def test_numbers_of_solutions(numbers):
    with pytest.raises(UserError, match=r"solutions: (count|distance) must be"):
        Solutions(*numbers)
