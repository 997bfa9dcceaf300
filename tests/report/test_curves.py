"""Learning curves: which trials are drawn, where they end, and that trials are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from report_fakes import Fake

from gossamer.report.curves import SHOWN, curves
from gossamer.report.study import study


@dataclass
class Reporting:
    """A trial that reported its accuracy after every epoch."""

    number: int
    state: str
    accuracies: list[float]
    reason: str | None = None
    seconds: float | None = 1.0

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    @property
    def values(self) -> dict[str, float]:
        return {"accuracy": self.accuracies[-1], "density": 0.1} if self.accuracies else {}

    @property
    def reports(self) -> list[Any]:
        return [
            SimpleNamespace(step=step, values={"accuracy": accuracy})
            for step, accuracy in enumerate(self.accuracies, 1)
        ]


RECORDS = [
    Reporting(0, "complete", [0.5, 0.7, 0.97]),
    Reporting(1, "stopped", [0.3, 0.35], "cannot reach 0.965"),
    Reporting(2, "failed", [0.2], "nan"),
    Reporting(3, "complete", [0.6, 0.8]),
    Reporting(4, "complete", []),
    Reporting(5, "running", [0.4, 0.6]),
]


def test_each_state_is_one_line_with_gaps_between_trials() -> None:
    (plot,) = curves(study(Fake(RECORDS)), RECORDS)  # nobody reported a density
    lines = {trace.name: trace for trace in plot.figure.data if trace.mode == "lines"}
    assert list(lines) == ["failed", "stopped early", "complete", "running"]
    assert lines["complete"].x == (1, 2, 3, None, 1, 2, None)
    assert lines["complete"].y == (0.5, 0.7, 0.97, None, 0.6, 0.8, None)
    assert lines["complete"].customdata == (0, 0, 0, None, 3, 3, None)
    assert plot.alt == "accuracy while training: 1 failed, 1 stopped, 2 complete, 1 running."


def test_stopped_trials_end_in_a_mark() -> None:
    (plot,) = curves(study(Fake(RECORDS)), RECORDS)
    (mark,) = [trace for trace in plot.figure.data if trace.marker.symbol == "square"]
    assert (mark.x, mark.y, mark.customdata) == ((2,), (0.35,), (1,))


def test_of_many_the_newest_are_drawn_and_it_is_said() -> None:
    records = [Reporting(number, "complete", [0.5]) for number in range(SHOWN + 7)]
    (plot,) = curves(study(Fake(records)), records)
    assert min(n for n in plot.figure.data[0].customdata if n is not None) == 7
    assert f"The newest {SHOWN} of {SHOWN + 7} trials." in plot.note


def test_nothing_is_drawn_where_nothing_was_reported() -> None:
    records = [Reporting(0, "complete", [])]
    assert curves(study(Fake(records)), records) == []


def test_stopped_trials_are_neither_failed_nor_waiting() -> None:
    read = study(Fake(RECORDS))
    assert [(stopped.number, stopped.reason) for stopped in read.stopped] == [
        (1, "cannot reach 0.965")
    ]
    assert read.waiting == 1
    assert 1 not in [failure.number for failure in read.failures]
