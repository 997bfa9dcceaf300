"""An experiment at one moment, for reports and the dashboard."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import socket
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.search.coverage import coverage_of
from gossamer.search.distinct import Solutions
from gossamer.search.experiment import Experiment
from gossamer.search.frontier import Frontier, frontier, inside
from gossamer.search.improvement import no_better, stalled, usual_patience
from gossamer.search.metrics import Metric, label
from gossamer.search.space.space import Space
from gossamer.search.trials.trial import TrialRecord

# The newest trials predict best how long the next ones take.
_RECENT = 30
# States of trials that have used up their part of the budget.
_SPENT = ("complete", "stopped")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of an experiment at the time of reading, under its or other thresholds.

    Attributes:
        name, metrics, parameters, constraints, budget, settings: see `Experiment`.
        trials: all trials, in the order of their numbers.
        importances: metric -> parameter -> share; empty if they were not computed.
        split: the split on which gossamer's training measured the metrics; None if a user's
            function evaluates the trials.
        costs: fidelity -> the part of the budget that one of its trials takes.
        space: the parameters' space; None leaves out all results that need distances of points.
        solutions, patience: see `Experiment`.
    """

    name: str
    metrics: tuple[Metric, ...]
    parameters: tuple[Any, ...] = ()
    constraints: tuple[Any, ...] = ()
    budget: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[TrialRecord, ...] = ()
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    split: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    space: Space | None = None
    solutions: Solutions | None = None
    patience: int | None = None

    @classmethod
    def of(cls, experiment: Experiment, importances: bool = False) -> Snapshot:
        """Read the trials and the stored thresholds.

        Args:
            experiment: the experiment to read.
            importances: whether to compute the importances, which takes seconds.
        """
        experiment.frontier()  # reads thresholds that another process has changed
        return cls(
            experiment.name,
            tuple(experiment.metrics),
            tuple(experiment.parameters),
            tuple(experiment.constraints),
            experiment.budget,
            dict(experiment.settings),
            tuple(experiment.trials()),
            experiment.importances() if importances else {},
            experiment.split,
            {fidelity.name: fidelity.cost for fidelity in experiment.fidelities},
            experiment.space,
            experiment.solutions,
            experiment.patience,
        )

    def judged_by(self, thresholds: Mapping[str, float | None]) -> Snapshot:
        """Return a snapshot of the same trials with some thresholds replaced.

        Raises:
            UserError: an unknown metric, or a threshold that the metric cannot have.
        """
        names = [metric.name for metric in self.metrics]
        for name in thresholds:
            if name not in names:
                raise UserError(f"no metric '{name}'; {nearest(name, names)}")
        changed = tuple(
            dataclasses.replace(metric, threshold=thresholds[metric.name])
            if metric.name in thresholds
            else metric
            for metric in self.metrics
        )
        return dataclasses.replace(self, metrics=changed)

    @property
    def version(self) -> str:
        """A hash of everything that is shown."""
        state = [
            [(metric.name, metric.threshold) for metric in self.metrics],
            [
                (t.number, t.state, t.seconds, len(t.reports), [(f.name, f.bytes) for f in t.files])
                for t in self.trials
            ],
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]

    @property
    def has_thresholds(self) -> bool:
        return any(metric.threshold is not None for metric in self.metrics)

    def label(self, metric: Metric) -> str:
        """Return a metric's name with the split it was measured on: "validation accuracy"."""
        return label(metric, self.split)

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """Complete trials of the full task; metrics of cheaper tasks are not comparable."""
        return tuple(trial for trial in self.trials if trial.comparable)

    @cached_property
    def frontier(self) -> Frontier:
        return frontier(self.metrics, self.complete, self.space, self.solutions)

    @cached_property
    def sign(self) -> str | None:
        """A message that trials no longer improve; None while they do."""
        if self.space is None:
            return None
        patience = self.patience or usual_patience(len(self.parameters))
        over = stalled(self.metrics, self.trials, patience, self.space, self.solutions)
        return no_better(patience) if over else None

    @cached_property
    def coverage_so_far(self) -> Sequence[tuple[int, float]]:
        """The share of the space covered after each trial, as (trial number, share).

        Empty if a metric is optimized, or no trial is inside; see `Coverage`.
        """
        if self.space is None or any(metric.optimized for metric in self.metrics):
            return []
        within = inside(self.metrics, self.complete)
        if not within:
            return []
        shares = coverage_of(self.space).shares([trial.parameters for trial in within])
        by_number = dict(zip((trial.number for trial in within), shares.tolist(), strict=True))
        steps, covered = [], 0.0
        for trial in self.complete:
            covered = by_number.get(trial.number, covered)
            steps.append((trial.number, covered))
        return steps

    @cached_property
    def inside(self) -> frozenset[int]:
        """The numbers of the complete trials inside all thresholds."""
        return frozenset(trial.number for trial in inside(self.metrics, self.complete))

    @property
    def states(self) -> dict[str, int]:
        """The number of trials in each state, also 0."""
        known = ("complete", "stopped", "failed", "running", "waiting")
        counts = Counter(str(trial.state) for trial in self.trials)
        return {state: counts[state] for state in known}

    @property
    def cheaper(self) -> int:
        """The number of complete trials of a cheaper task."""
        return self.states["complete"] - len(self.complete)

    @property
    def ended(self) -> int:
        """The number of trials that are over, failed ones too."""
        return sum(self.states[state] for state in (*_SPENT, "failed"))

    @property
    def running(self) -> int:
        """The number of running trials, except those whose process on this machine has ended."""
        return sum(trial.state == "running" and not _is_lost(trial) for trial in self.trials)

    @property
    def last_activity(self) -> float | None:
        """The time of the last start, report or end of a trial, in seconds since 1970, or None."""
        moments = [
            trial.started + max((trial.seconds or 0.0, *(r.seconds for r in trial.reports)))
            for trial in self.trials
            if trial.started is not None
        ]
        return max(moments, default=None)

    @property
    def worth(self) -> dict[str, float]:
        """How many full trials those of each state cost; one of a cheaper task is a part of one."""
        worth = dict.fromkeys(self.states, 0.0)
        for trial in self.trials:
            worth[trial.state] += self._cost(trial)
        return worth

    @property
    def spent(self) -> float:
        """How many full trials of the budget have been used up."""
        return round(sum(cost for state, cost in self.worth.items() if state in _SPENT), 9)

    @property
    def trials_left(self) -> float:
        """The number of full trials left in the budget; failed trials do not count against it."""
        return 0.0 if self.budget is None else max(0.0, round(self.budget - self.spent, 9))

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds until the budget is used up; None before a trial has ended.

        The estimate is the number of trials left, times the median time of the newest ended
        trials (each divided by its fidelity's cost), divided by the number of trials that run
        now. Failed trials are ignored, because they often end at once.
        """
        if not self.trials_left:
            return 0.0
        known = [
            trial.seconds / self._cost(trial)
            for trial in self.trials
            if trial.state in _SPENT and trial.seconds is not None
        ]
        if not known:
            return None
        return self.trials_left * statistics.median(known[-_RECENT:]) / max(1, self.running)

    def _cost(self, trial: TrialRecord) -> float:
        return 1.0 if trial.fidelity is None else self.costs.get(trial.fidelity, 1.0)

    def best_so_far(self, metric: Metric) -> list[tuple[int, float]]:
        """Return the best value of `metric` inside after each trial, as (trial number, value)."""
        best: float | None = None
        steps = []
        for trial in self.complete:
            value = trial.values[metric.name]
            if trial.number in self.inside:
                best = value if best is None else min(best, value, key=metric.loss)
            if best is not None:
                steps.append((trial.number, best))
        return steps

    @cached_property
    def hypervolume_so_far(self) -> Sequence[tuple[int, float]]:
        """The hypervolume inside the thresholds after each trial, as (trial number, volume).

        This is the area between the two thresholds and the frontier, in one metric's unit times
        the other's; it never falls. Empty unless exactly two metrics are optimized, both with a
        threshold, and the area is above 0.
        """
        metrics = [metric for metric in self.metrics if metric.optimized]
        if len(metrics) != 2 or any(metric.threshold is None for metric in metrics):
            return []
        steps = []
        best: list[tuple[float, float]] = []  # the non-dominated gains so far
        area = 0.0
        for trial in self.complete:
            # Two gains over the thresholds, larger is better.
            x, y = (-metric.violation(trial.values[metric.name]) for metric in metrics)
            if trial.number in self.inside and not any(a >= x and b >= y for a, b in best):
                best = [(a, b) for a, b in best if a > x or b > y]
                best = sorted([*best, (x, y)], reverse=True)
                area, covered = 0.0, 0.0
                for width, height in best:
                    area += width * (height - covered)
                    covered = height
            steps.append((trial.number, area))
        return steps if 0 < area < math.inf else []


def _is_lost(trial: TrialRecord) -> bool:
    """Return whether a running trial's process was on this machine and has ended."""
    host, _, pid = (trial.worker or "").rpartition("/")
    here = host == socket.gethostname() and Path("/proc/self").exists()
    return here and not Path(f"/proc/{pid}").exists()
