"""Suggestions: the steps that are the same for all samplers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from gossamer.errors import UserError
from gossamer.search.metrics import Metric
from gossamer.search.samplers.history import History
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.space.space import Point, Space

# Redraws before a point that was tried before is accepted (all others may be used up).
_REDRAWS = 100
# Complete trials that show how this experiment differs from an earlier one.
_ENOUGH_AFTER_EARLIER = 2


class Suggester:
    """A source of feasible points: first known good ones, then a start-up design, then a sampler's.

    A suggestion depends only on the seed and the trials so far, so that a search can be stopped
    and resumed without a difference.

    Args:
        sampler: the sampler.
        space: the space of points.
        metrics: the metrics in the order of `History.values`.
        seed: seed of all random numbers.
        start: points to try first, before the best of an earlier experiment.
    """

    def __init__(
        self,
        sampler: Sampler,
        space: Space,
        metrics: Sequence[Metric],
        seed: int,
        start: Sequence[Point] = (),
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._metrics = metrics
        self._seed = seed
        self._start = list(start)
        self._design = self._startup_design(sampler.startup)

    def suggest(self, history: History) -> Point:
        """Return the next point: feasible, and a new one unless all points have been tried.

        Raises:
            UserError: the sampler's point is not in the space.
        """
        rng = np.random.default_rng([self._seed, len(history)])
        tried = {self._key(p) for p in (*history.points, *history.failed, *history.pending)}
        best_earlier = history.earlier.best if history.earlier else ()
        start = (*self._start, *best_earlier)
        known_good = next((p for p in start if self._key(p) not in tried), None)
        if known_good is not None:
            return dict(known_good)
        point = self._choose(history, rng)
        for _ in range(_REDRAWS):
            if self._key(point) not in tried:
                break
            point = self._space.draw(rng)
        return point

    def _choose(self, history: History, rng: np.random.Generator) -> Point:
        startup = self._sampler.startup
        if history.earlier is not None:
            startup = min(startup, _ENOUGH_AFTER_EARLIER)
        if len(history.points) < startup:
            if len(history) < len(self._design):
                return self._design[len(history)]
            return self._space.draw(rng)
        metrics, scaled = _scaled(self._metrics, history)
        return self._read(self._sampler.suggest(self._space, metrics, scaled, rng))

    def _read(self, suggested: object) -> Point:
        where = f"sampler {type(self._sampler).__name__}"
        if not isinstance(suggested, Mapping):
            raise UserError(f"{where} must suggest a mapping of names to values, not {suggested!r}")
        point = self._space.read(suggested, where)
        whole = self._space.whole(point)
        for name in self._space.pruned(whole):
            if name not in point:
                raise UserError(f"{where} suggested no value of '{name}'")
        return self._space.repair(whole)

    def _startup_design(self, count: int) -> list[Point]:
        """Return feasible points: the middle, then a scrambled Sobol sequence."""
        if not count:
            return []
        from scipy.stats import qmc  # slow to import, and not for workers

        dimension = len(self._space)
        sequence = qmc.Sobol(dimension, scramble=True, seed=self._seed)
        units = np.vstack([np.full((1, dimension), 0.5), sequence.random(256)])
        points = (self._space.believed(unit) for unit in units)
        return [point for point in points if point is not None][:count]

    def _key(self, point: Point) -> tuple[object, ...]:
        """Return the point's values in the parameters' order, with ``...`` for absent ones."""
        return tuple(point.get(name, ...) for name in self._space.parameters)


def _scaled(metrics: Sequence[Metric], history: History) -> tuple[Sequence[Metric], History]:
    """Divide metrics whose squares a double cannot hold by their largest value."""
    values = history.values.copy()
    noise = None if history.noise is None else history.noise.copy()
    changed = list(metrics)
    for i, metric in enumerate(metrics):
        largest = max(np.abs(values[:, i]).max(initial=0.0), abs(metric.threshold or 0.0))
        if 1e-100 < largest < 1e100 or largest == 0:
            continue
        values[:, i] /= largest
        if noise is not None:
            with np.errstate(over="ignore"):
                noise[:, i] /= largest
        if metric.threshold is not None:
            changed[i] = dataclasses.replace(metric, threshold=metric.threshold / largest)
    return changed, dataclasses.replace(history, values=values, noise=noise)
