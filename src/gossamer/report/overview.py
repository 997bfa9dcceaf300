"""Experiments side by side: the progress of each, and its best values inside its thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from gossamer.report import experiment as words
from gossamer.report import units

if TYPE_CHECKING:
    from gossamer.search import Snapshot
    from gossamer.search.metrics import Metric


@dataclass(frozen=True)
class Best:
    """The best value of a metric inside the thresholds, as text."""

    text: str
    limit: str
    trial: int


@dataclass(frozen=True)
class OverviewRow:
    """An experiment among others.

    Attributes:
        name: its name.
        wrong: why it cannot be read; then the other attributes are empty.
        done: text of the trials that ended, out of the budget.
        running, failed: numbers of trials.
        inside: number of complete trials of the full task inside all thresholds.
        best: label of an optimized metric -> its best value, possibly each of another trial;
            None if no trial is inside.
        active: text of the time at which a trial last began, reported or ended.
    """

    name: str
    wrong: str = ""
    done: str = units.NOTHING
    running: int = 0
    failed: int = 0
    inside: int = 0
    best: Mapping[str, Best | None] = field(default_factory=dict)
    active: str = units.NOTHING


def overview(experiments: Mapping[str, Snapshot | str]) -> list[OverviewRow]:
    """Return rows of experiments, the most recently active first.

    Args:
        experiments: name -> the experiment, or why it cannot be read.
    """
    order = sorted(experiments.items(), key=lambda item: (-_active(item[1]), item[0]))
    return [
        OverviewRow(name, shown) if isinstance(shown, str) else _row(shown) for name, shown in order
    ]


def metrics_of(rows: Sequence[OverviewRow]) -> list[str]:
    """Return the labels of all metrics that the experiments optimize."""
    return list(dict.fromkeys(label for row in rows for label in row.best))


def _active(shown: Snapshot | str) -> float:
    return 0.0 if isinstance(shown, str) else shown.last_activity or 0.0


def _row(snapshot: Snapshot) -> OverviewRow:
    active = snapshot.last_activity
    return OverviewRow(
        snapshot.name,
        done=words.of_budget(snapshot, snapshot.ended),
        running=snapshot.running,
        failed=snapshot.states["failed"],
        inside=len(snapshot.inside),
        best={snapshot.label(m): _best(snapshot, m) for m in snapshot.metrics if m.optimized},
        active=f"{datetime.fromtimestamp(active):%Y-%m-%d %H:%M}" if active else units.NOTHING,
    )


def _best(snapshot: Snapshot, metric: Metric) -> Best | None:
    inside = [trial for trial in snapshot.complete if trial.number in snapshot.inside]
    if not inside:
        return None
    first = min(inside, key=lambda trial: (metric.loss(trial.values[metric.name]), trial.number))
    return Best(words.value(snapshot, metric, first), words.limit(metric), first.number)
