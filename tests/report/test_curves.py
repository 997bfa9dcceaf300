"""Learning curves: which trials are drawn, where they end, and that trials are kept apart."""

from __future__ import annotations

from report_fakes import record, snapshot

from gossamer.report.plots.curves import SHOWN, curves
from gossamer.search import Report, TrialRecord
from gossamer.search.trials.trial import State


def reporting(number: int, state: State, accuracies: list[float]) -> TrialRecord:
    """A trial that reported its accuracy after every epoch."""
    reports = tuple(
        Report(step, None, {"accuracy": accuracy}, 1.0)
        for step, accuracy in enumerate(accuracies, 1)
    )
    values = {"accuracy": 0.97, "density": 0.1} if state == "complete" else {}
    return record(number, state, {}, values, reports=reports)


RECORDS = [
    reporting(0, "complete", [0.5, 0.7, 0.97]),
    reporting(1, "stopped", [0.3, 0.35]),
    reporting(2, "failed", [0.2]),
    reporting(3, "complete", [0.6, 0.8]),
    reporting(4, "complete", []),
    reporting(5, "running", [0.4, 0.6]),
]


def test_each_state_is_one_line_with_gaps_between_trials() -> None:
    (plot,) = curves(snapshot(RECORDS))  # nobody reported a density
    lines = {trace.name: trace for trace in plot.figure.data if trace.mode == "lines"}
    assert list(lines) == ["failed", "stopped early", "complete", "running"]
    assert lines["complete"].x == (1, 2, 3, None, 1, 2, None)
    assert lines["complete"].y == (0.5, 0.7, 0.97, None, 0.6, 0.8, None)
    assert lines["complete"].customdata == (0, 0, 0, None, 3, 3, None)
    assert plot.alt == "accuracy while training: 1 failed, 1 stopped, 2 complete, 1 running."


def test_stopped_trials_end_in_a_mark() -> None:
    (plot,) = curves(snapshot(RECORDS))
    (mark,) = [trace for trace in plot.figure.data if trace.marker.symbol == "square"]
    assert (mark.x, mark.y, mark.customdata) == ((2,), (0.35,), (1,))


def test_of_many_the_newest_are_drawn_with_a_note() -> None:
    records = [reporting(number, "complete", [0.5]) for number in range(SHOWN + 7)]
    (plot,) = curves(snapshot(records))
    assert min(n for n in plot.figure.data[0].customdata if n is not None) == 7
    assert f"The newest {SHOWN} of {SHOWN + 7} trials." in plot.note


def test_nothing_is_drawn_where_nothing_was_reported() -> None:
    records = [reporting(0, "complete", [])]
    assert curves(snapshot(records)) == []
