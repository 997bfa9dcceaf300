"""The Gaussian process sampler: first to the acceptable region, then to the best inside it.

Each metric has a Gaussian process of its own, and so has failing. Until a trial is inside all
thresholds, the point that is most probably inside is tried next; from then on the one with the
largest expected improvement of the hypervolume inside. Points under way count as having come out
as expected, so that trials in parallel spread ("kriging believer": Ginsbourger, Le Riche and
Carraro, 2010). Of many trials the models see those that reach furthest and a sample of the
others, which bounds the time for a suggestion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.frontier import non_dominated
from gossamer.search.metrics import Metric
from gossamer.search.samplers.acquisition import (
    directions,
    log_expected_gain,
    log_probability_inside,
    reach,
)
from gossamer.search.samplers.gaussian_process import GaussianProcess, fit
from gossamer.search.samplers.history import History
from gossamer.search.samplers.margin import Slack, last_fit
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.space.space import Point, Space

# Trials whose values a model keeps, and those among them that its hyperparameters are fitted to.
_MODELED = 256
_FITTED = 128
# Candidates drawn anywhere, made from the furthest trials, and in each round of refinement.
_ANYWHERE = 1000
_NEARBY = 1000
_REFINED = 300
_ROUNDS = 12
# After so many trials inside the frontier is looked at from other directions. Sooner, and gaps are
# filled between trials that are not good yet: turned after 1 or 6, 100 trials of bbob-biobj's first
# function had 0.72 of the hypervolume that they have with 16.
_TURN = 16
# Of points that work (0.5) and fail (-0.5): what a point must be expected to reach. Half way would
# have every second trial near a border fail.
_CAUTION = 0.25
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
        self._ways = directions(int(optimized.sum()), turn)
        # Hyperparameters change slowly: they are fitted anew when there are a twelfth more trials,
        # from the trials that there were then.
        fitted = self._chosen(slack[: last_fit(len(slack))], _FITTED)
        used = np.union1d(self._chosen(slack, _MODELED), fitted)
        features = space.features(units[used])
        rows = np.searchsorted(used, fitted)
        earlier = _learn_earlier(space, metrics, history)
        unknown = np.zeros_like(slack)
        noise = unknown if history.noise is None else np.nan_to_num(history.noise)
        self._slacks = [
            Slack.learn(v, features, rows, before, deviations)
            for v, before, deviations in zip(slack[used].T, earlier, noise[used].T, strict=True)
        ]
        if len(pending):
            waiting = space.features(pending)
            self._slacks = [model.believing(waiting) for model in self._slacks]
        believed = np.stack([model.denoised for model in self._slacks], axis=1)
        self._known = np.vstack([units[used], pending])
        inside = _all_at_least_0(believed[:, self._limited])
        self._reference = _reference(believed[inside] if inside.any() else believed, self._limited)
        believed = believed - self._reference
        self._unit = _unit(believed, inside)
        reaches = self._reaches(believed / self._unit)
        self._elite = self._known[np.argsort(-_merit(reaches), kind="stable")[:16]]
        self._best = reaches[:, inside].max(axis=1, initial=0.0)
        self._any_inside = bool(inside.any())
        failed = space.encode(history.failed)
        self._tried = np.vstack([self._known, units, failed])
        self._working = self._learn_failing(units, failed)

    def _chosen(self, slack: np.ndarray, count: int) -> np.ndarray:
        """Half of them the trials that reach furthest, half of them a sample of the others."""
        unit = _unit(slack, _all_at_least_0(slack[:, self._limited]))
        best_first = np.argsort(-_merit(self._reaches(slack / unit)), kind="stable")
        if len(best_first) <= count:
            return best_first
        others = np.random.default_rng(len(slack)).permutation(best_first[count // 2 :])
        return np.concatenate([best_first[: count // 2], others[: count - count // 2]])

    def _reaches(self, slack: np.ndarray) -> np.ndarray:
        """float64 [directions, trials], no further than the constraint metrics allow."""
        along = reach(slack[:, self._optimized], self._ways)
        strict = slack[:, ~self._optimized].min(axis=1, initial=np.inf)
        return np.where(strict < 0.0, np.minimum(along, strict), along)

    def _learn_failing(self, units: np.ndarray, failed: np.ndarray) -> Slack | None:
        """A model that is at least 0 where trials are expected to work."""
        if not len(failed):
            return None
        works = np.concatenate([np.full(len(units), 0.5), np.full(len(failed), -0.5)])
        points = np.vstack([units, failed])
        used = np.random.default_rng(len(points)).permutation(len(points))[:_MODELED]
        features = self._space.features(points[used])
        theta, _ = fit(features[slice(_FITTED)], works[used][:_FITTED])
        return Slack(GaussianProcess(features, works[used], theta), 0.0, 1.0)

    def _worth(self, units: np.ndarray) -> np.ndarray:
        """Logarithm of how much each point is worth trying."""
        features = self._space.features(units)
        predicted = [model.predict(features) for model in self._slacks]
        mean, spread = (np.stack([p[i] for p in predicted], axis=1) for i in (0, 1))
        mean, spread = (mean - self._reference) / self._unit, spread / self._unit
        if self._any_inside or not self._limited.any():
            chosen = self._optimized
            worth = log_expected_gain(mean[:, chosen], spread[:, chosen], self._best, self._ways)
            strict = ~chosen
        else:
            worth, strict = np.zeros(len(units)), self._limited
        worth += log_probability_inside(mean[:, strict], spread[:, strict])
        if self._working is not None:
            works, unsure = self._working.predict(features)
            worth += log_probability_inside(works[:, None], unsure[:, None])
            # However much there would be to gain: first whatever does not probably fail.
            worth += 1e3 * np.minimum(works - _CAUTION, 0.0)
        worth += _BELIEF / self._trials * self._space.log_belief(units)
        return worth

    def point(self) -> Point:
        """The best of many candidates."""
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
        """Moves of a few or all coordinates, of all sizes, some of them toward another origin."""
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
        """Those that keep the linear constraints, on the parameters' grids; at least one."""
        used = self._space.on_grid(units)
        return used if len(used) else self._space.encode([self._space.draw(self._rng)])


def _learn_earlier(space: Space, metrics: Sequence[Metric], history: History) -> list[Slack | None]:
    """For each metric a model of the earlier experiment, where it had that metric."""
    models: list[Slack | None] = [None] * len(metrics)
    if history.earlier is None:
        return models
    points = space.encode(history.earlier.points)
    for i, column in enumerate(history.earlier.values.T):
        if np.isnan(column).any():
            continue
        values = column if metrics[i].goal == "maximize" else -column
        rows = np.arange(len(values))[:_FITTED]
        models[i] = Slack.learn(values, space.features(points), rows)
    return models


def _keys(units: np.ndarray) -> list[bytes]:
    """The same for the same points, to within rounding."""
    return [row.tobytes() for row in np.round(np.nan_to_num(units, nan=-1.0), 12)]


def _slack(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Distance of values on the right side of the thresholds; float64 [trials, metrics].

    In place of a missing threshold: a little worse than the worst non-dominated trial among those
    inside the other metrics' thresholds, so that the models draw in what is far worse.
    """
    losses = np.where([m.goal == "maximize" for m in metrics], -values, values)
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
    """The slacks from which hypervolume is measured; float64 [metrics].

    At a threshold it is 0. Without one it is the worst value seen: measured from the frontier's own
    end, nothing beyond that end would be worth anything.
    """
    worst = np.minimum(slack.min(axis=0), 0.0)
    reference: np.ndarray = np.where(limited, 0.0, worst)
    return reference


def _all_at_least_0(slack: np.ndarray) -> np.ndarray:
    return np.asarray((slack >= 0.0).all(axis=1))


def _unit(slack: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Scale of each slack: the most seen inside, else the spread; float64 [metrics]."""
    spread = slack.std(axis=0)
    unit = slack[inside].max(axis=0) if inside.any() else spread
    unit = np.maximum(unit, 1e-3 * spread)
    comparable: np.ndarray = np.where(unit > 0.0, unit, 1.0)
    return comparable


def _merit(reaches: np.ndarray) -> np.ndarray:
    """The best rank over the directions, negative: 0 for the furthest along any of them."""
    order = np.argsort(-reaches, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    merit: np.ndarray = -ranks.min(axis=0)
    return merit
