"""The data that stopping rules decide on: learning curves of a trial and of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gossamer.search.metrics import Metric
from gossamer.search.stopping.learning_curves import Curve, Forecast
from gossamer.search.trials.trial import ENDED, Trial, TrialRecord


class LearningCurves:
    """A cache of an experiment's curves and forecasts between reports.

    Only curves of running trials are read again, and forecasts are fitted again only when another
    trial has completed, so that the cost of a report does not grow with the number of reports.
    """

    def __init__(self) -> None:
        self._ended: dict[int, tuple[TrialRecord, Curve]] = {}
        self._forecasts: dict[str | None, tuple[list[Curve], dict[str, Forecast]]] = {}

    def context(
        self, trial: Trial, records: Sequence[TrialRecord], metrics: Sequence[Metric]
    ) -> StoppingContext:
        """Return the context of a trial that has reported.

        It contains trials of the same fidelity only; the thresholds are those of the full task.
        """
        full = metrics
        if trial.fidelity is not None:
            metrics = [metric.without_threshold() for metric in metrics]
        like = [r for r in records if r.fidelity == trial.fidelity and r.reports]
        curves = {record.number: self._curve(record, metrics) for record in like}
        finished = [curves[r.number] for r in like if r.state == "complete"]
        latest, forecasts = self._forecasts.get(trial.fidelity, ([], {}))
        # Curves are compared as objects: a trial that was replaced has another one.
        if len(latest) != len(finished) or any(
            a is not b for a, b in zip(latest, finished, strict=True)
        ):
            forecasts = {m.name: Forecast(m, finished) for m in metrics}
            self._forecasts[trial.fidelity] = finished, forecasts
        others = [curve for number, curve in curves.items() if number != trial.number]
        # Of constraints alone only the distance to the thresholds tells cheap trials apart.
        ranking = metrics if any(metric.optimized for metric in metrics) else full
        return StoppingContext(metrics, curves[trial.number], finished, others, forecasts, ranking)

    def _curve(self, record: TrialRecord, metrics: Sequence[Metric]) -> Curve:
        if record.state not in ENDED:
            return Curve.of_record(record, metrics)
        known = self._ended.get(record.number)
        if known is None or known[0] is not record:
            known = self._ended[record.number] = record, Curve.of_record(record, metrics)
        return known[1]


@dataclass(frozen=True)
class StoppingContext:
    """The data that a rule decides on.

    Attributes:
        metrics: of the experiment.
        trial: the curve so far of the trial that has just reported.
        finished: curves of complete trials.
        others: curves of every other trial that reported: complete, stopped and running.
        forecasts: metric -> forecast from the finished curves; made here unless there is one.
        ranking: the metrics that trials are ordered by: `metrics`, with the full task's thresholds
            where none is optimized.
    """

    metrics: Sequence[Metric]
    trial: Curve
    finished: Sequence[Curve]
    others: Sequence[Curve]
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    ranking: Sequence[Metric] = ()

    def __post_init__(self) -> None:
        made = self.forecasts or {m.name: Forecast(m, self.finished) for m in self.metrics}
        object.__setattr__(self, "forecasts", made)
        object.__setattr__(self, "ranking", self.ranking or self.metrics)

    def latest(self, metric: str) -> tuple[float, float] | None:
        """Return (share of the training, value) of the trial's latest report of a metric."""
        values = self.trial.values[metric]
        known = np.flatnonzero(~np.isnan(values))
        of = self.of()
        if not len(known) or of is None:
            return None
        return min(1.0, self.trial.steps[known[-1]] / of), float(values[known[-1]])

    def of(self) -> int | None:
        """The trial's total number of steps; by default that of the longest finished one."""
        if self.trial.of is not None:
            return self.trial.of
        return max((c.of for c in self.finished if c.of is not None), default=None)

    def expected(self) -> dict[str, float]:
        """Return forecasts of the trial's final metrics, except those that it never reported."""
        forecasts = {}
        for metric in self.metrics:
            latest = self.latest(metric.name)
            if latest is not None:
                forecasts[metric.name] = self.forecasts[metric.name].expected(*latest)
            elif len(self.trial.values[metric.name]):
                known = self.trial.values[metric.name]
                known = known[~np.isnan(known)]
                if len(known):
                    forecasts[metric.name] = float(known[-1])
        return forecasts
