"""The Gaussian process sampler: first to the acceptable region, then to the best inside it.

There is a Gaussian process for each metric, and one for failing. Until a trial is inside all
thresholds, the next point is the one most probably inside; from then on, the one with the largest
expected improvement of the hypervolume inside. If no metric is optimized, it is the one that is
probably inside and covers most of the region not yet covered (constraint active search: Malkomes,
Cheng, Lee and McCourt, ICML 2021). Of several solutions, each is improved in turn, away from the
others. Pending points count with their expected values, so that parallel trials spread ("kriging
believer": Ginsbourger, Le Riche and Carraro, 2010); while no trial is inside, the next point is the
one most probably inside if none of the pending ones is. Of many trials the models use those that
reach furthest and a sample of the others, which bounds the time of a suggestion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.distinct import ROUNDING, Solutions, distances, distinct
from gossamer.search.frontier import non_dominated
from gossamer.search.metrics import Metric, all_losses, scaled_noise
from gossamer.search.samplers.acquisition import (
    directions,
    filling_radius,
    log_expected_gain,
    log_probability_inside,
    log_uncovered,
    reach,
)
from gossamer.search.samplers.gaussian_process import GaussianProcess, fit
from gossamer.search.samplers.history import History
from gossamer.search.samplers.margin import Slack, last_fit
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.space.features import Features
from gossamer.search.space.space import Point, Space

# Number of trials in a model, and of those to which its hyperparameters are fitted.
_MODELED = 256
_FITTED = 128
# Candidates drawn anywhere, made from the furthest trials, and in each round of refinement.
_ANYWHERE = 1000
_NEARBY = 1000
_REFINED = 300
_ROUNDS = 12
# After so many trials inside, the directions change. Earlier changes fill gaps between trials that
# are not good yet: with 1 or 6 in place of 16, 100 trials of bbob-biobj's first function had 0.72
# of the hypervolume.
_TURN = 16
# The least expected value of a point, where 0.5 means success and -0.5 failure. With 0, every
# second trial near a border would fail.
_CAUTION = 0.25
# Of balls that must overlap to fill a region. After 50 trials a half ring was covered to 0.195
# with 1, 0.216 with 2, 0.207 with 3, and a ball in four dimensions to 0.252, 0.262, 0.253 (means of
# 3 seeds).
_WIDE = 2.0
# Draws of the slacks of pending points; how many without a pending point inside are used.
_DRAWN = 1024
_OUTSIDE = 16
# Influence of prior beliefs, fading with the trials: Hvarfner et al., "piBO", ICLR 2022.
_BELIEF = 5.0


@dataclass(frozen=True)
class GPSampler(Sampler):
    """Gaussian processes steered by the thresholds; for few, costly trials."""

    startup = 3

    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Point:
        # One thread: on matrices this small, more of them only wait for each other.
        with threadpool_limits(1):
            return _Suggestion(space, metrics, history, rng).point()


class _Suggestion:
    """The models of one suggestion, and the search for their best point."""

    def __init__(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> None:
        self._space = space
        self._rng = rng
        self._trials = len(history)
        units = space.encode(history.points)
        pending = space.encode(history.pending)
        slack = _slack(metrics, history.values)
        optimized = np.array([m.optimized for m in metrics])
        self._limited = np.array([m.threshold is not None for m in metrics])
        self._optimized = optimized
        inside_count = int(_all_at_least_0(slack[:, self._limited]).sum())
        turn = (inside_count + len(pending)) // _TURN if inside_count else 0
        self._ways = directions(max(1, int(optimized.sum())), turn)
        # Hyperparameters change slowly: they are fitted again when there are a twelfth more trials,
        # from the trials that there were then.
        fitted = self._chosen(slack[: last_fit(len(slack))], _FITTED)
        used = np.union1d(self._chosen(slack, _MODELED), fitted)
        features = space.features(units[used])
        rows = np.searchsorted(used, fitted)
        earlier = _learn_earlier(space, metrics, history)
        noise = np.zeros_like(slack)
        if history.noise is not None:
            noise = np.nan_to_num(scaled_noise(metrics, history.values, history.noise))
        # Measured, one trial at a time, until one is inside: docs/explanation/search.md.
        near = not inside_count and not len(pending)
        self._slacks = [
            Slack.learn(v, features, rows, before, deviations, near)
            for v, before, deviations in zip(slack[used].T, earlier, noise[used].T, strict=True)
        ]
        learned = self._slacks
        if len(pending):
            waiting = space.features(pending)
            self._slacks = [model.believing(waiting) for model in learned]
        believed = np.stack([model.denoised for model in self._slacks], axis=1)
        self._known = np.vstack([units[used], pending])
        inside = _all_at_least_0(believed[:, self._limited])
        # Pending points count as inside only next to a trial that is.
        inside &= inside[: len(used)].any()
        self._reference = _reference(believed[inside] if inside.any() else believed, self._limited)
        believed = believed - self._reference
        self._unit = _unit(believed, inside)
        reaches = self._reaches(believed / self._unit)
        self._apart, aside = self._others(history.solutions, reaches, inside)
        self._elite = self._known[np.lexsort((-_merit(reaches), aside))[:16]]
        self._best = reaches[:, inside & ~aside].max(axis=1, initial=0.0)
        self._any_inside = bool(inside.any())
        if len(pending) and not self._any_inside:
            self._slacks = self._none_inside(learned, waiting)
        failed = space.encode(history.failed)
        self._tried = np.vstack([self._known, units, failed])
        self._working = self._learn_failing(units, failed)
        if self._any_inside and not optimized.any():
            self._elite = self._known[inside]
            within = _all_at_least_0(slack[:, self._limited])
            self._covered = np.vstack([units[within], pending])
            self._radius = self._filling_radius()

    def _none_inside(self, models: Sequence[Slack], pending: Features) -> list[Slack]:
        """Return the models as if no pending point will turn out to be inside.

        So the next point is a different attempt: with their expected values, points that are
        probably inside would draw the next ones closer. The pending points have several possible
        slacks, drawn together; if there are too few draws without a point inside, those that are
        least inside are used as well.
        """
        drawn = np.stack([model.draw(pending, _DRAWN, self._rng) for model in models], axis=-1)
        furthest = drawn[..., self._limited].min(axis=-1).max(axis=-1)
        used = drawn[np.argsort(np.maximum(furthest, 0.0), kind="stable")[:_OUTSIDE]]
        return [model.believing(pending, used[..., i]) for i, model in enumerate(models)]

    def _filling_radius(self) -> float:
        """Return the radius of balls around the trials inside and one more point: `_WIDE` times
        the one with which their volumes sum to that of the region expected to be inside."""
        mean, spread = self._predict(self._space.features(self._allowed(self._anywhere())))
        inside = float(np.exp(log_probability_inside(mean, spread)).mean())
        count = len(self._covered) + 1
        return _WIDE * filling_radius(max(inside, 1e-9), count, len(self._space))

    def _chosen(self, slack: np.ndarray, count: int) -> np.ndarray:
        """Return `count` rows: half of them the furthest trials, half a sample of the others."""
        unit = _unit(slack, _all_at_least_0(slack[:, self._limited]))
        best_first = np.argsort(-_merit(self._reaches(slack / unit)), kind="stable")
        if len(best_first) <= count:
            return best_first
        others = np.random.default_rng(len(slack)).permutation(best_first[count // 2 :])
        return np.concatenate([best_first[: count // 2], others[: count - count // 2]])

    def _reaches(self, slack: np.ndarray) -> np.ndarray:
        """Return reaches, limited by the constraint metrics: float64 [directions, trials]."""
        strict = slack[:, ~self._optimized].min(axis=1, initial=np.inf)
        if not self._optimized.any():
            return np.asarray(strict[None])
        along = reach(slack[:, self._optimized], self._ways)
        return np.where(strict < 0.0, np.minimum(along, strict), along)

    def _others(
        self, solutions: Solutions | None, reaches: np.ndarray, inside: np.ndarray
    ) -> tuple[_Apart | None, np.ndarray]:
        """Return the other solutions, from which the one to be improved keeps away, and a mask of
        known points that are too near to them."""
        aside = np.zeros(len(inside), dtype=bool)
        if solutions is None or not inside.any():
            return None, aside
        best_first = np.argsort(-reaches[0], kind="stable")
        rows = distinct(self._space, self._known, best_first[inside[best_first]], solutions)
        turn = self._trials % solutions.count
        others = [row for place, row in enumerate(rows) if place != turn]
        apart = _Apart(self._space, self._known[others], solutions.distance)
        return apart, apart.lacking(self._known) > 0.0

    def _learn_failing(self, units: np.ndarray, failed: np.ndarray) -> Slack | None:
        """Return a model that is at least 0 where trials are expected not to fail."""
        if not len(failed):
            return None
        works = np.concatenate([np.full(len(units), 0.5), np.full(len(failed), -0.5)])
        points = np.vstack([units, failed])
        used = np.random.default_rng(len(points)).permutation(len(points))[:_MODELED]
        features = self._space.features(points[used])
        theta, _ = fit(features[slice(_FITTED)], works[used][:_FITTED])
        return Slack(GaussianProcess(features, works[used], theta), 0.0, 1.0)

    def _predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of the slacks in units, float64 [points, metrics] each; with
        several possible slacks of the pending points, the means are [draws, points, metrics]."""
        predicted = [model.predict(features) for model in self._slacks]
        mean, spread = (np.stack([p[i] for p in predicted], axis=-1) for i in (0, 1))
        return (mean - self._reference) / self._unit, spread / self._unit

    def _worth(self, units: np.ndarray) -> np.ndarray:
        """Return the logarithm of each point's acquisition value."""
        features = self._space.features(units)
        mean, spread = self._predict(features)
        if self._any_inside or not self._limited.any():
            chosen = self._optimized
            strict = ~chosen
            if chosen.any():
                gain = mean[:, chosen], spread[:, chosen]
                worth = log_expected_gain(*gain, self._best, self._ways)
            else:
                far = distances(self._space, units, self._covered) * len(self._space) ** 0.5
                worth = log_uncovered(far, self._radius, len(self._space))
        else:
            worth, strict = np.zeros(len(units)), self._limited
        worth += log_probability_inside(mean[..., strict], spread[:, strict])
        if self._working is not None:
            works, unsure = self._working.predict(features)
            worth += log_probability_inside(works[:, None], unsure[:, None])
            # Points that will probably fail come last, however much they could gain.
            worth += 1e3 * np.minimum(works - _CAUTION, 0.0)
        if self._apart is not None:
            worth -= 1e3 * self._apart.lacking(units)
        worth += _BELIEF / self._trials * self._space.log_belief(units)
        return worth

    def point(self) -> Point:
        """Return the best of many candidates."""
        candidates = np.vstack([self._anywhere(), self._near(self._elite, _NEARBY, 0.3)])
        candidates = self._allowed(candidates)
        worth = self._worth(candidates)
        for i in range(_ROUNDS):
            leading = candidates[np.argsort(-worth, kind="stable")[:8]]
            closer = self._allowed(self._near(leading, _REFINED, 0.2 * 0.4**i))
            candidates = np.vstack([leading, closer])
            worth = self._worth(candidates)
        order = np.argsort(-worth, kind="stable")
        keys, tried = _keys(candidates[order]), set(_keys(self._tried))
        fresh = next((i for i, key in enumerate(keys) if key not in tried), 0)
        return self._space.decode(candidates[order[fresh]])

    def _anywhere(self) -> np.ndarray:
        return self._rng.random((_ANYWHERE, self._known.shape[1]))

    def _near(self, origins: np.ndarray, count: int, furthest: float) -> np.ndarray:
        """Return `count` points near `origins`: moves of all sizes in a few or all coordinates,
        some of them toward another origin."""
        origins = np.where(np.isnan(origins), self._rng.random(origins.shape), origins)
        rng, dimension = self._rng, origins.shape[1]
        start = origins[rng.integers(len(origins), size=count)]
        other = origins[rng.integers(len(origins), size=count)]
        share = np.maximum(rng.random(count) ** 2, 1.5 / dimension)[:, None]
        moved = rng.random((count, dimension)) < share
        size = furthest * 10.0 ** (-2.0 * rng.random((count, 1)))
        steps = size * rng.standard_normal((count, dimension))
        crossed = np.where(
            rng.random((count, 1)) < 0.3, (other - start) * rng.random((count, 1)), 0
        )
        near: np.ndarray = np.clip(start + moved * (steps + crossed), 0.0, 1.0)
        return near

    def _allowed(self, units: np.ndarray) -> np.ndarray:
        """Round points to the parameters' grids; return the feasible ones, at least one point."""
        used = self._space.on_grid(units)
        return used if len(used) else self._space.encode([self._space.draw(self._rng)])


@dataclass(frozen=True)
class _Apart:
    """Points from which suggestions keep a distance.

    Args:
        space: the points' space.
        others: float64 [other points, parameters].
        distance: the distance to each.
    """

    space: Space
    others: np.ndarray
    distance: float

    def lacking(self, units: np.ndarray) -> np.ndarray:
        """Return by how much each point is too near, or 0: float64 [points]."""
        if not len(self.others):
            return np.zeros(len(units))
        nearest = distances(self.space, units, self.others).min(axis=1)
        lacking: np.ndarray = np.maximum(self.distance - nearest - ROUNDING, 0.0)
        return lacking


def _learn_earlier(space: Space, metrics: Sequence[Metric], history: History) -> list[Slack | None]:
    """Return a model of each metric in the earlier experiment; None where it lacks the metric."""
    models: list[Slack | None] = [None] * len(metrics)
    if history.earlier is None:
        return models
    points = space.encode(history.earlier.points)
    for i, values in enumerate(-all_losses(metrics, history.earlier.values).T):
        if np.isnan(values).any():
            continue
        rows = np.arange(len(values))[:_FITTED]
        models[i] = Slack.learn(values, space.features(points), rows)
    return models


def _keys(units: np.ndarray) -> list[bytes]:
    """Return a key for each point, equal for points that are equal up to rounding."""
    return [row.tobytes() for row in np.round(np.nan_to_num(units, nan=-1.0), 12)]


def _slack(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Return how far values are on the right side of thresholds: float64 [trials, metrics].

    A missing threshold is replaced by a value a little worse than the worst non-dominated trial
    inside the other thresholds, so that the models can compress much worse values.
    """
    losses = all_losses(metrics, values)
    limits = np.array([np.inf if m.threshold is None else m.loss(m.threshold) for m in metrics])
    free = np.isinf(limits)
    if free.any():
        inside = losses[(losses <= limits).all(axis=1)]
        shown = inside if len(inside) else losses
        optimized = shown[:, [m.optimized for m in metrics]]
        front = shown[non_dominated(optimized)]
        limits = np.where(free, front.max(axis=0) + 0.1 * np.ptp(front, axis=0), limits)
    slack: np.ndarray = limits - losses
    return slack


def _reference(slack: np.ndarray, limited: np.ndarray) -> np.ndarray:
    """Return the slacks of the reference point of the hypervolume, float64 [metrics].

    It is 0 for a metric with a threshold, and otherwise the worst value seen: points beyond the
    end of the frontier would gain nothing if it were that end.
    """
    worst = np.minimum(slack.min(axis=0), 0.0)
    reference: np.ndarray = np.where(limited, 0.0, worst)
    return reference


def _all_at_least_0(slack: np.ndarray) -> np.ndarray:
    return np.asarray((slack >= 0.0).all(axis=1))


def _unit(slack: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return each slack's scale, the largest inside or else its deviation: float64 [metrics]."""
    spread = slack.std(axis=0)
    unit = slack[inside].max(axis=0) if inside.any() else spread
    unit = np.maximum(unit, 1e-3 * spread)
    comparable: np.ndarray = np.where(unit > 0.0, unit, 1.0)
    return comparable


def _merit(reaches: np.ndarray) -> np.ndarray:
    """Return minus the best rank of each trial over the directions; 0 for the furthest in any."""
    order = np.argsort(-reaches, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    merit: np.ndarray = -ranks.min(axis=0)
    return merit
