"""Which point to try next.

Gossamer's own sampler or one of Optuna's chooses. Around them: known good points first, then a
joint start-up design; linear constraints and conditions kept by every point; and no point tried
twice.

A suggestion is a function of the seed and of the trials so far, never of a sampler's memory: a
search that was stopped and resumed goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import qmc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.metrics import Metric
from gossamer.search.samplers import gp, optuna
from gossamer.search.samplers.history import History
from gossamer.search.space.space import Point, Space

Suggest = Callable[[Space, Sequence[Metric], History, np.random.Generator], Point]


# Redraws until a point that was tried before is accepted again (all others may be used up).
_REDRAWS = 100

# Name -> what suggests from the trials so far, and the complete trials that it waits for; None
# draws at random, without a model.
SAMPLERS: dict[str, tuple[Suggest, int] | None] = {
    "gp": (gp.suggest, 3),
    "optuna_gp": (optuna.ThroughOptuna(optuna.gp), 10),
    "tpe": (optuna.ThroughOptuna(optuna.tpe), 10),
    "random": None,
}


class Sampler:
    """Suggests feasible points.

    Args:
        name: a key of `SAMPLERS`.
        space: what to suggest from.
        metrics: in the order of `History.values`.
        seed: for everything random.
        start: points to try first, before the best of an earlier experiment.
    """

    def __init__(
        self,
        name: str,
        space: Space,
        metrics: Sequence[Metric],
        seed: int,
        start: Sequence[Point] = (),
    ) -> None:
        entry = SAMPLERS[name]
        self._model = entry[0] if entry else None
        self._startup = entry[1] if entry else 0
        self._space = space
        self._metrics = metrics
        self._seed = seed
        self._start = list(start)
        self._design = self._startup_design(self._startup)

    def suggest(self, history: History) -> Point:
        """The next point: feasible, and not one of the history's unless none is left."""
        rng = np.random.default_rng([self._seed, len(history)])
        tried = {self._key(p) for p in (*history.points, *history.failed, *history.pending)}
        best_earlier = history.earlier.best if history.earlier else ()
        start = (*self._start, *best_earlier)
        known_good = next((p for p in start if self._key(p) not in tried), None)
        if known_good is not None:
            return dict(known_good)
        point = self._joint(history, rng)
        for _ in range(_REDRAWS):
            if self._key(point) not in tried:
                break
            point = self._space.draw(rng)
        return point

    def _joint(self, history: History, rng: np.random.Generator) -> Point:
        # Two trials tell how this experiment differs from an earlier one.
        enough = self._startup if history.earlier is None else 2
        if self._model is None or len(history.points) < enough:
            if len(history) < len(self._design):
                return self._design[len(history)]
            return self._space.draw(rng)
        # One thread: on matrices this small, more of them only wait for each other.
        with threadpool_limits(1):
            return self._model(self._space, *_scaled(self._metrics, history), rng)

    def _startup_design(self, count: int) -> list[Point]:
        """The middle, then a scrambled Sobol sequence, which fills the space; feasible points."""
        if not count:
            return []
        dimension = len(self._space)
        sequence = qmc.Sobol(dimension, scramble=True, seed=self._seed)
        units = np.vstack([np.full((1, dimension), 0.5), sequence.random(256)])
        points = (self._space.believed(unit) for unit in units)
        return [point for point in points if point is not None][:count]

    def _key(self, point: Point) -> tuple[object, ...]:
        return tuple(point.get(name, _Absent) for name in self._space.parameters)


def _scaled(metrics: Sequence[Metric], history: History) -> tuple[Sequence[Metric], History]:
    """The same, with metrics whose squares a double could not hold divided by their largest."""
    values = history.values.copy()
    changed = list(metrics)
    for i, metric in enumerate(metrics):
        largest = max(np.abs(values[:, i]).max(), abs(metric.threshold or 0.0))
        if 1e-100 < largest < 1e100 or largest == 0:
            continue
        values[:, i] /= largest
        if metric.threshold is not None:
            changed[i] = dataclasses.replace(metric, threshold=metric.threshold / largest)
    return changed, dataclasses.replace(history, values=values)


class _Absent:
    """In place of the value of a parameter that a point does not have."""
