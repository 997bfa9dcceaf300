"""The sign that nothing improves any more, worked by hand, and stopping by it."""

import pytest

from gossamer.search import (
    AtLeast,
    AtMost,
    Experiment,
    Float,
    Maximize,
    Minimize,
    Snapshot,
    Solutions,
    TrialRecord,
)
from gossamer.search.execution.progress import Board
from gossamer.search.improvement import stalled
from gossamer.search.space.space import Space

LINE = Space([Float("x", 0, 1)])


def _records(*values, names=("a",), state="complete"):
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    return [
        TrialRecord(i, state, {"x": i / 100}, dict(zip(names, row, strict=True)), None, 1.0)
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    [
        ((1, 2, 3, 2, 1, 0), 3, True),
        ((1, 2, 3, 2, 1, 0), 4, False),
        ((1, 2, 3), 3, False),  # too few to tell
        ((5, 1, 3, 2, 5), 3, True),  # the same value is no better
        ((5, 1, 3, 2, 5.0005), 3, True),  # nor is a two thousandth of what trials differ by
        ((5, 1, 3, 2, 5.1), 3, False),
    ],
)
def test_of_one_metric(values, patience, over):
    assert stalled([Maximize("a")], _records(*values), patience, LINE) is over


def test_trials_count_by_number_in_whatever_order_they_ended():
    records = _records(1, 2, 3, 2, 1, 0)
    assert stalled([Maximize("a")], records[::-1], 3, LINE)
    assert not stalled([Maximize("a")], records[::-1], 4, LINE)


def test_the_frontier_must_not_grow():
    metrics = [Maximize("a", 0.5), Minimize("b")]
    old = [(0.6, 3), (0.9, 9), (0.2, 1)]
    names = ("a", "b")
    assert stalled(metrics, _records(*old, (0.55, 3), (0.9, 9.5), names=names), 2, LINE)
    assert not stalled(metrics, _records(*old, (0.7, 5), (0.9, 9), names=names), 2, LINE)
    # Better in b, and outside.
    assert stalled(metrics, _records(*old, (0.1, 0.1), (0.6, 3), names=names), 2, LINE)


def test_the_first_trial_inside_and_a_nearer_one_improve():
    metrics = [AtLeast("a", 10), AtMost("b", 10)]
    names = ("a", "b")
    out = [(0, 20), (1, 30), (2, 12)]
    assert stalled(metrics, _records(*out, (1, 13), names=names), 1, LINE)
    assert not stalled(metrics, _records(*out, (3, 12), names=names), 1, LINE)
    assert not stalled(metrics, _records(*out, (10, 10), names=names), 1, LINE)


def test_of_constraints_alone_more_is_covered():
    metrics = [AtLeast("a", 0)]
    assert not stalled(metrics, _records(1, 1, 1), 1, LINE)  # a new point
    again = _records(1, 1, 1)
    again[2].parameters["x"] = again[0].parameters["x"]
    assert stalled(metrics, again, 1, LINE)


def test_of_several_solutions_any_may_improve():
    records = _records(5, 1, 4, 4.5)
    for record, x in zip(records, (0.0, 0.2, 0.9, 1.0), strict=True):
        record.parameters["x"] = x
    # The best stays; the second solution is better by the last trial.
    assert stalled([Maximize("a")], records, 1, LINE)
    assert not stalled([Maximize("a")], records, 1, LINE, Solutions(2, 0.5))


def test_failed_and_cheaper_trials_do_not_count():
    good, bad = _records(5, 1, 3, 2), _records(0, 0, 0, state="failed")
    assert not stalled([Maximize("a")], [*good[:3], *bad], 3, LINE)


def test_a_run_stops_by_it(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/a.db"
    made = Experiment(
        "flat",
        [Float("x", 0, 1)],
        [Maximize("a")],
        budget=50,
        patience=6,
        storage=url,
        sampler="random",
    )
    made.run(lambda trial: {"a": 1.0}, progress=False)
    assert len(made.trials()) == 7
    assert made.stalled()
    again = Experiment.from_storage(url)
    assert again.patience == 6
    again.run(lambda trial: {"a": 2.0}, progress=False)
    assert len(again.trials()) == 7
    without = Experiment(
        "flat", [Float("x", 0, 1)], [Maximize("a")], budget=12, storage=url, sampler="random"
    )
    without.run(lambda trial: {"a": 1.0}, progress=False)
    assert len(without.trials()) == 12
    assert without.stalled()  # after ten
    assert Snapshot.of(without).sign == "no better trial among the last 10"


def test_shown_in_the_progress_line():
    experiment = Experiment("flat", [Float("x", 0, 1)], [Maximize("a")], patience=2)
    board = Board("flat", experiment.metrics, 9, _records(3, 1), sign=experiment.sign, show=False)
    assert board.summary() == "best: trial 0, a 3"
    board.add(_records(3, 1, 2)[2])
    assert board.summary() == "best: trial 0, a 3; no better trial among the last 2"
