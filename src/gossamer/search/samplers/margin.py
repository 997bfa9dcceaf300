"""The model of a metric's margin to its threshold, called slack.

The slack is how far a metric is on the right side of its threshold: at least 0 is acceptable.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from gossamer.search.samplers.gaussian_process import NOISIEST, GaussianProcess, fit
from gossamer.search.space.features import Features

# How much likelier, as a logarithm, values must be when drawn in.
_DOUBT = 2.0
# So many trials' worth of belief that an earlier experiment's metrics move as this one's do.
_PSEUDO_TRIALS = 2.0


@dataclass(frozen=True)
class Slack:
    """The posterior of a metric's slack (at least 0: acceptable), warped."""

    process: GaussianProcess
    center: float
    scale: float
    trend: _Trend | None = None

    @classmethod
    def learn(
        cls,
        values: np.ndarray,
        features: Features,
        fitted: np.ndarray,
        earlier: Slack | None = None,
        noise: np.ndarray | None = None,
    ) -> Slack:
        """A model of `values` [points]; its scale and hyperparameters from the rows `fitted` alone.

        Args:
            earlier: a model of the same metric in another experiment.
            noise: float64 [points], known standard deviation of each value; 0 where it is not.
        """
        if earlier is not None:
            trend = _Trend.learn(earlier, values[fitted], features[fitted])
            rest = cls.learn(values - trend.at(features), features, fitted, noise=noise)
            return dataclasses.replace(rest, trend=trend)
        fits = []
        unit = float(np.median(np.abs(values[fitted])))
        noise = np.zeros(len(values)) if noise is None else noise
        for warped, log_slope, doubt in _warps(values, unit):
            center, scale = float(warped[fitted].mean()), float(warped[fitted].std()) or 1.0
            normal = (warped - center) / scale
            # As far as the warp is straight over the width of the noise.
            variance = (np.minimum(noise * np.exp(log_slope), NOISIEST * scale) / scale) ** 2
            theta, evidence = fit(features[fitted], normal[fitted], variance[fitted])
            evidence += float((log_slope[fitted] - np.log(scale) - doubt).sum())
            fits.append(
                (evidence, GaussianProcess(features, normal, theta, variance), center, scale)
            )
        _, process, center, scale = max(fits, key=lambda one: one[0])
        return cls(process, center, scale)

    def believing(self, pending: Features) -> Slack:
        """As if the points `pending` had come out as expected."""
        return dataclasses.replace(self, process=self.process.believing(pending))

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = self.process.predict(features)
        trend = 0.0 if self.trend is None else self.trend.at(features)
        return trend + self.center + self.scale * mean, self.scale * spread

    @property
    def denoised(self) -> np.ndarray:
        """At the points learned from, less the noise."""
        trend = 0.0 if self.trend is None else self.trend.at(self.process.features)
        denoised: np.ndarray = trend + self.center + self.scale * self.process.denoised
        return denoised


@dataclass(frozen=True)
class _Trend:
    """The expectation from an earlier experiment: its model, moved and stretched."""

    model: Slack
    offset: float
    slope: float

    @classmethod
    def learn(cls, model: Slack, values: np.ndarray, features: Features) -> _Trend:
        """Offset and slope by least squares; the slope is 1 as long as little speaks against it."""
        there = model.predict(features)[0]
        off, around = there - there.mean(), values - values.mean()
        weight = _PSEUDO_TRIALS * model.scale**2
        slope = float((off @ around + weight) / (off @ off + weight))
        return cls(model, float(values.mean() - slope * there.mean()), slope)

    def at(self, features: Features) -> np.ndarray:
        """The expected slack; float64 [points]."""
        expected: np.ndarray = self.offset + self.slope * self.model.predict(features)[0]
        return expected


def _warps(slack: np.ndarray, unit: float) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """`slack` as it is, and with bad values drawn in; each with the logarithm of its slope, and
    how much less probable it is beforehand, per value.

    Far from the threshold only the order of magnitude shows the way (Eriksson and Poloczek,
    "Scalable Constrained Bayesian Optimization", AISTATS 2021). The more probable one is used,
    with a little in favor of leaving values as they are.
    """
    fits = [(slack, np.zeros(len(slack)), 0.0)]
    if unit > 0.0:
        log = np.log1p(np.maximum(-slack, 0.0) / unit)
        fits.append((np.where(slack < 0.0, -unit * log, slack), -log, _DOUBT / len(slack)))
    return fits


def last_fit(trials: int) -> int:
    """The number of trials, at most `trials`, from which hyperparameters were last fitted."""
    last = 24
    while last < trials:
        following = last + last // 12
        if following > trials:
            return last
        last = following
    return trials
