"""Which point to try next.

Optuna's samplers do the modelling. Around them: a joint start-up design, linear constraints kept
by every point, thresholds handed over as constraints on the results, and no point tried twice.

A suggestion is a function of the seed and of the trials so far, never of a sampler's memory: a
search that was stopped and resumed goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.constraints import Point, Space
from gossamer.search.frontier import violations
from gossamer.search.metrics import Metric
from gossamer.search.quiet import quiet_optuna

# Complete trials before a model is trusted with the choice.
STARTUP = 10
# Redraws until a point that was tried before is accepted again (all others may be used up).
_REDRAWS = 100


@dataclass(frozen=True)
class History:
    """The trials so far: points with their metrics' values, and points without (yet).

    Attributes:
        points: of complete trials.
        values: float64 [complete trials, metrics].
        failed: points whose trial failed.
        pending: points running, or waiting to be run.
    """

    points: Sequence[Point]
    values: np.ndarray
    failed: Sequence[Point]
    pending: Sequence[Point]

    def __len__(self) -> int:
        return len(self.points) + len(self.failed) + len(self.pending)


def _gp(seed: int) -> optuna.samplers.BaseSampler:
    """Gaussian processes; expected hypervolume improvement inside the thresholds.

    Training is noisy, so the objective is not taken to be deterministic.
    """
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False)


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators over all parameters jointly."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True)


# Name -> what makes the model from a seed; None draws at random, without a model.
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler] | None] = {
    "gp": _gp,
    "tpe": _tpe,
    "random": None,
}


class Sampler:
    """Suggests feasible points.

    Args:
        name: a key of `SAMPLERS`.
        space: what to suggest from.
        metrics: in the order of `History.values`.
        seed: for everything random.
    """

    def __init__(self, name: str, space: Space, metrics: Sequence[Metric], seed: int) -> None:
        self._model = SAMPLERS[name]
        self._space = space
        self._metrics = metrics
        self._seed = seed
        self._design = self._startup_design() if self._model else []

    def suggest(self, history: History) -> Point:
        """The next point: feasible, and not one of the history's unless none is left."""
        rng = np.random.default_rng([self._seed, len(history)])
        point = self._joint(history, rng)
        tried = {self._key(p) for p in (*history.points, *history.failed, *history.pending)}
        for _ in range(_REDRAWS):
            if self._key(point) not in tried:
                break
            point = self._space.draw(rng)
        return point

    def _joint(self, history: History, rng: np.random.Generator) -> Point:
        if self._model is None or len(history.points) < STARTUP:
            if len(history) < len(self._design):
                return self._design[len(history)]
            return self._space.draw(rng)
        model = self._model(int(rng.integers(2**31)))
        return self._space.repair(self._ask_model(model, history))

    def _startup_design(self) -> list[Point]:
        """Feasible points of a scrambled Sobol sequence, which fills the space evenly."""
        sequence = qmc.Sobol(len(self._space), scramble=True, seed=self._seed)
        points = (self._space.decode(unit) for unit in sequence.random(256))
        return [point for point in points if self._space.holds(point)][:STARTUP]

    def _ask_model(self, model: optuna.samplers.BaseSampler, history: History) -> Point:
        distributions = self._space.distributions()
        open_ones = {name: d for name, d in distributions.items() if not d.single()}
        # A fresh study in memory holds what the model may see, with the violations of *today's*
        # thresholds: those that Optuna stored with old trials would be of the thresholds then.
        # One thread: on matrices this small, more of them only wait for each other. And where one
        # point stands out by far, Optuna's roulette for the others divides 0 by 0, then goes
        # without it as it should.
        with quiet_optuna(), threadpool_limits(1), np.errstate(invalid="ignore"):
            study = optuna.create_study(directions=[m.goal for m in self._metrics], sampler=model)
            for trial in self._as_optuna(history, distributions):
                study.add_trial(trial)
            asked = study.ask()
            joint = model.sample_relative(study, study.trials[asked.number], open_ones)
        fixed = {name: p.decode(0.5) for name, p in self._space.parameters.items()}
        return {**fixed, **joint}

    def _as_optuna(
        self, history: History, distributions: Mapping[str, optuna.distributions.BaseDistribution]
    ) -> list[FrozenTrial]:
        # A failed trial counts as bad as the worst seen, or the models would ask for the same
        # point again: they know nothing of failures.
        goals = [m.goal for m in self._metrics]
        worst = [
            column.max() if goal == "minimize" else column.min()
            for goal, column in zip(goals, history.values.T, strict=True)
        ]
        points = [*history.points, *history.failed]
        values = np.vstack([history.values, *[worst for _ in history.failed]])
        limits = [m.name for m in self._metrics if m.threshold is not None]
        finished = [
            optuna.trial.create_trial(
                params=point,
                distributions=dict(distributions),
                values=row.tolist(),
                constraints=dict(zip(limits, beyond.tolist(), strict=True)),
            )
            for point, row, beyond in zip(
                points, values, violations(self._metrics, values), strict=True
            )
        ]
        running = [
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=point, distributions=dict(distributions)
            )
            for point in history.pending
        ]
        return [*finished, *running]

    def _key(self, point: Point) -> tuple[object, ...]:
        return tuple(point[name] for name in self._space.parameters)
