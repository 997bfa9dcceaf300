"""Optuna's samplers, as gossamer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.frontier import violations
from gossamer.search.metrics import Metric
from gossamer.search.samplers.history import History
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.space.space import Point, Space
from gossamer.search.trials.optuna_log import quiet_optuna


@dataclass(frozen=True)
class OptunaSampler(Sampler):
    """One of Optuna's samplers, made again for each point.

    So it must be one that learns from the trials alone, as `STATELESS` are.

    Args:
        make: makes the sampler from a seed, such as
            ``lambda seed: optuna.samplers.TPESampler(seed=seed, gamma=lambda n: n // 5)``.
    """

    make: Callable[[int], optuna.samplers.BaseSampler]
    startup = 10

    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Point:
        sampler = self.make(int(rng.integers(2**31)))
        # A fresh study in memory holds what the model may see, with the violations of *today's*
        # thresholds: those that Optuna stored with old trials would be of the thresholds then.
        # One thread: on matrices this small, more of them only wait for each other. And where one
        # point stands out by far, Optuna's roulette for the others divides 0 by 0, then goes
        # without it as it should.
        with quiet_optuna(), threadpool_limits(1), np.errstate(invalid="ignore"):
            # Of constraints alone, the violations are what is minimized.
            goals = [m.goal for m in metrics if m.optimized] or ["minimize"]
            study = optuna.create_study(directions=goals, sampler=sampler)
            study.add_trials(_as_optuna(space, metrics, history))
            asked = study.ask(space.distributions())
        return {**space.whole({}), **asked.params}


def _as_optuna(space: Space, metrics: Sequence[Metric], history: History) -> list[FrozenTrial]:
    # A failed trial counts as bad as the worst seen, or the models would ask for the same
    # point again: they know nothing of failures.
    worst = [
        column.max() if m.goal == "minimize" else column.min()
        for m, column in zip(metrics, history.values.T, strict=True)
    ]
    # Nor do they know of parameters that a trial has not: those get a value that did not matter.
    points = [space.whole(point) for point in (*history.points, *history.failed)]
    values = np.vstack([history.values, *[worst for _ in history.failed]])
    limits = [m.name for m in metrics if m.threshold is not None]
    optimized = [m.optimized for m in metrics]
    distributions = space.distributions()
    finished = [
        optuna.trial.create_trial(
            params=point,
            distributions=distributions,
            values=row[optimized].tolist() or [float(np.maximum(beyond, 0.0).sum())],
            constraints=dict(zip(limits, beyond.tolist(), strict=True)),
        )
        for point, row, beyond in zip(points, values, violations(metrics, values), strict=True)
    ]
    running = [
        optuna.trial.create_trial(
            state=TrialState.RUNNING, params=space.whole(point), distributions=distributions
        )
        for point in history.pending
    ]
    return [*finished, *running]


def gp(seed: int) -> optuna.samplers.BaseSampler:
    """Gaussian processes; expected hypervolume improvement inside the thresholds.

    Training is noisy, so the objective is not taken to be deterministic.
    """
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators over all parameters jointly."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True)


# Names in Optuna of the samplers that learn from the trials alone. NSGA-II, CMA-ES and quasi-random
# sequences go on from where they were, which a search that was stopped and resumed does not know.
STATELESS = ("TPESampler", "GPSampler", "RandomSampler")


@dataclass(frozen=True)
class Named:
    """Makes the sampler of that name, as Optuna sets it up."""

    name: str

    def __call__(self, seed: int) -> optuna.samplers.BaseSampler:
        made: optuna.samplers.BaseSampler = getattr(optuna.samplers, self.name)(seed=seed)
        return made
