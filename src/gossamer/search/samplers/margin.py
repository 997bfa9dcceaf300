"""The model of a metric's margin to its threshold, called slack.

The slack is how far a metric is on the right side of its threshold: at least 0 is acceptable.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import numpy as np

from gossamer.search.samplers.gaussian_process import NOISIEST, GaussianProcess, fit
from gossamer.search.space.features import Features

# Log ratio by which compressed values must be more probable.
_DOUBT = 2.0
# Up to so many trials a quadratic mean is tried, since with more it makes no difference (see
# docs/explanation/search.md for how much it does before).
_FEW = 48
# Weight, in trials, of the prior that metrics change as in the earlier experiment.
_PSEUDO_TRIALS = 2.0


@dataclass(frozen=True)
class Slack:
    """The posterior of a metric's slack, over values that may be warped."""

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
        near: bool = False,
    ) -> Slack:
        """Make a model of `values` [points]; fit scale and hyperparameters to rows `fitted` only.

        Of values warped or not and, of few trials, with or without a quadratic mean, the most
        probable model is used.

        Args:
            earlier: a model of the same metric in another experiment.
            noise: float64 [points], known standard deviation of each value; 0 if unknown.
            near: whether length scales are near a typical one, see `fit`.
        """
        if earlier is not None:
            trend = _Trend.learn(earlier, values[fitted], features[fitted])
            rest = cls.learn(values - trend.at(features), features, fitted, noise=noise, near=near)
            return dataclasses.replace(rest, trend=trend)
        fits = []
        unit = float(np.median(np.abs(values[fitted])))
        noise = np.zeros(len(values)) if noise is None else noise
        for warped, log_slope, doubt in _warps(values, unit):
            center, scale = float(warped[fitted].mean()), float(warped[fitted].std()) or 1.0
            normal = (warped - center) / scale
            # An approximation: the warp is linear over the width of the noise.
            variance = (np.minimum(noise * np.exp(log_slope), NOISIEST * scale) / scale) ** 2
            warping = float((log_slope[fitted] - np.log(scale) - doubt).sum())
            for quadratic in (False, True) if len(fitted) <= _FEW else (False,):
                theta, evidence = fit(
                    features[fitted], normal[fitted], variance[fitted], quadratic, near
                )
                process = partial(GaussianProcess, features, normal, theta, variance, quadratic)
                fits.append((evidence + warping, process, center, scale))
        _, process, center, scale = max(fits, key=lambda one: one[0])
        return cls(process(), center, scale)

    def believing(self, pending: Features, slack: np.ndarray | None = None) -> Slack:
        """Return the model as if the points `pending` had been tried.

        Args:
            slack: their slack, float64 [points] or several possible ones [draws, points]; the
                expected slack if None.
        """
        values = None if slack is None else (slack - self._level(pending)) / self.scale
        return dataclasses.replace(self, process=self.process.believing(pending, values))

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation, float64 [points] each; where the model has several
        possible slacks of pending points, the means are [draws, points]."""
        mean, spread = self.process.predict(features)
        return self._level(features) + self.scale * mean, self.scale * spread

    def draw(self, features: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw slacks of points from their joint distribution: float64 [count, points]."""
        drawn: np.ndarray = self.process.draw(features, count, rng)
        return self._level(features) + self.scale * drawn

    @property
    def denoised(self) -> np.ndarray:
        """The expected slack at the model's points, without noise: float64 [points]."""
        return self._level(self.process.features) + self.scale * self.process.denoised

    def _level(self, features: Features) -> np.ndarray:
        """Return the slack at which the process has the value 0: float64 [points]."""
        trend = np.zeros(len(features)) if self.trend is None else self.trend.at(features)
        return trend + self.center


@dataclass(frozen=True)
class _Trend:
    """The expectation from an earlier experiment: its model with an offset and a slope."""

    model: Slack
    offset: float
    slope: float

    @classmethod
    def learn(cls, model: Slack, values: np.ndarray, features: Features) -> _Trend:
        """Fit offset and slope by least squares, with a prior slope of 1."""
        there = model.predict(features)[0]
        off, around = there - there.mean(), values - values.mean()
        weight = _PSEUDO_TRIALS * model.scale**2
        slope = float((off @ around + weight) / (off @ off + weight))
        return cls(model, float(values.mean() - slope * there.mean()), slope)

    def at(self, features: Features) -> np.ndarray:
        """Return the expected slack, float64 [points]."""
        expected: np.ndarray = self.offset + self.slope * self.model.predict(features)[0]
        return expected


def _warps(slack: np.ndarray, unit: float) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return `slack` unchanged, and with bad values compressed; each with the logarithm of its
    slope, and a penalty of its log probability per value.

    Far from the threshold only the order of magnitude matters (Eriksson and Poloczek, "Scalable
    Constrained Bayesian Optimization", AISTATS 2021). The more probable one is used, with a slight
    preference for unchanged values.
    """
    fits = [(slack, np.zeros(len(slack)), 0.0)]
    if unit > 0.0:
        log = np.log1p(np.maximum(-slack, 0.0) / unit)
        fits.append((np.where(slack < 0.0, -unit * log, slack), -log, _DOUBT / len(slack)))
    return fits


def last_fit(trials: int) -> int:
    """Return the number of trials to which hyperparameters were last fitted, at most `trials`."""
    last = 24
    while last < trials:
        following = last + last // 12
        if following > trials:
            return last
        last = following
    return trials
