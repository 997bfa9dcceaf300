"""Learning curves, and forecasts of their ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.search.metrics import Metric
from gossamer.search.trials.trial import TrialRecord

# Where curves are compared: so many shares of the training, evenly spaced.
_GRID = np.linspace(0.05, 1.0, 20)
# The latest so many curves suffice, and keep a forecast's cost below a tenth of a second.
_MOST = 200


@dataclass(frozen=True)
class Curve:
    """A trial's reports as arrays.

    Attributes:
        number: of the trial.
        steps: int64 [reports], ascending.
        of: total number of steps; None if unknown.
        values: metric -> float64 [reports], NaN where a report had no such metric.
        ends: metric -> value that a complete trial returned; empty for others.
    """

    number: int
    steps: np.ndarray
    of: int | None
    values: Mapping[str, np.ndarray]
    ends: Mapping[str, float]

    @classmethod
    def of_record(cls, record: TrialRecord, metrics: Sequence[Metric]) -> Curve:
        reports = record.reports
        complete = record.state == "complete"
        planned = [report.of for report in reports if report.of is not None]
        if planned:
            of: int | None = planned[-1]
        else:
            of = reports[-1].step if complete and reports else None
        return cls(
            record.number,
            np.array([report.step for report in reports], dtype=np.int64),
            of,
            {m.name: np.array([r.values.get(m.name, math.nan) for r in reports]) for m in metrics},
            {m.name: record.values[m.name] for m in metrics} if complete else {},
        )

    @cached_property
    def on_grid(self) -> Mapping[str, np.ndarray]:
        """Metric -> its values at the shares of the grid, see `at`."""
        return {metric: self.at(metric, _GRID) for metric in self.values}

    def at(self, metric: str, share: float | np.ndarray) -> np.ndarray:
        """Return the metric at shares of the training, interpolated linearly between reports.

        NaN before its first report and after its last.
        """
        values = self.values[metric]
        known = ~np.isnan(values)
        where = np.asarray(share, dtype=np.float64)
        if self.of is None or not known.any():
            return np.full(where.shape, math.nan)
        shares = self.steps[known] / self.of
        return np.asarray(np.interp(where, shares, values[known], left=math.nan, right=math.nan))


class Forecast:
    """Forecast of a metric's final value from its value at a share of the training.

    At each share, the final values of finished curves are modeled as a line in their values there,
    plus a residual. Stopping needs a bound that is valid for *all* reports of a trial together. So
    a finished curve's score is its largest residual over all shares, where each residual is from
    the line through the *other* curves, in units of the share's typical residual. The bound is the
    conformal quantile of these scores: with exchangeable curves, a trial ends beyond it, whenever
    it was evaluated, with a probability of at most 1 - confidence (split conformal prediction, Vovk
    et al. 2005; leave-one-out residuals: Barber et al. 2021, "Predictive inference with the
    jackknife+"). The number of curves limits the confidence: 0.95 needs 19, 0.9 needs 9; with
    fewer, every end is possible.

    Args:
        metric: to forecast.
        finished: complete curves; the latest 200 are used.
    """

    def __init__(self, metric: Metric, finished: Sequence[Curve]) -> None:
        self._metric = metric
        usable = [c for c in finished if metric.name in c.ends and len(c.steps)]
        usable = usable[-_MOST:]
        self._curves = usable
        self._fits: dict[float, _Line | None] = {}
        self._ends = np.array([metric.loss(c.ends[metric.name]) for c in usable])

    def __len__(self) -> int:
        return len(self._curves)

    def expected(self, share: float, value: float) -> float:
        """Return the likeliest end of a curve at `value`; `value` with fewer than 3 curves."""
        fitted = self._fit(share)
        if fitted is None:
            return value
        end, _ = fitted.predict(self._metric.loss(value))
        return self._metric.value(end)

    def best(self, share: float, value: float, confidence: float) -> float:
        """Return the best end that is within the bound; infinitely good with too few curves."""
        fitted = self._fit(share)
        rank = math.ceil((len(self._scores) + 1) * confidence)
        if fitted is None or rank > len(self._scores):
            return self._metric.value(-math.inf)
        end, spread = fitted.predict(self._metric.loss(value))
        return self._metric.value(end - float(np.sort(self._scores)[rank - 1]) * spread)

    @cached_property
    def _scores(self) -> np.ndarray:
        """float64 [curves]: how far each ended below its forecasts, at the worst share."""
        worst = np.zeros(len(self._curves))
        values = np.array([curve.on_grid[self._metric.name] for curve in self._curves])
        for column in values.T:
            fitted = self._fitted(column)
            if fitted is not None:
                worst[fitted.used] = np.maximum(worst[fitted.used], fitted.scores)
        return worst

    def _fit(self, share: float) -> _Line | None:
        if share not in self._fits:
            self._fits[share] = self._fitted(
                np.array([curve.at(self._metric.name, share) for curve in self._curves])
            )
        return self._fits[share]

    def _fitted(self, values: np.ndarray) -> _Line | None:
        """Return the line through the curves' values at a share; NaN if a curve has none."""
        used = ~np.isnan(values)
        losses = np.array([self._metric.loss(value) for value in values[used]])
        return _Line(losses, self._ends[used], used) if used.sum() >= 3 else None


class _Line:
    """A line through points (x, y), shrunk a little to slope 1 so that few points suffice.

    Args:
        x, y: float64 [points].
        used: bool [curves], which of the curves the points are of.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, used: np.ndarray) -> None:
        self.used = used
        self._mean = x.mean()
        centered, gains = x - self._mean, y - x
        self._spread = float(centered @ centered)
        self._scale = max(float(np.abs(x).max()), float(np.abs(y).max()), 1e-300)
        tiny = (1e-9 * self._scale) ** 2
        # The prior is worth one point at the curves' typical distance.
        self._ridge = self._spread / len(x) + tiny
        self._slope = float(centered @ gains) / (self._spread + self._ridge)
        self._gain = float(gains.mean())
        leverage = 1 / len(x) + centered**2 / (self._spread + self._ridge)
        residuals = (gains - self._gain - self._slope * centered) / np.maximum(1 - leverage, 1e-3)
        self._typical = float(np.sqrt(np.mean(residuals**2)))
        # What is constant to rounding leaves no residual worth the name.
        exact = self._typical <= 1e-6 * self._scale
        self.scores = np.zeros(len(x)) if exact else -residuals / self._typical
        self._typical = 0.0 if exact else self._typical
        self._points = len(x)

    def predict(self, x: float) -> tuple[float, float]:
        """Return the expected end from `x` and its typical error, which grows with the distance
        from the points."""
        off = x - self._mean
        leverage = 1 / self._points + off**2 / (self._spread + self._ridge)
        return x + self._gain + self._slope * off, self._typical * math.sqrt(1 + leverage)
