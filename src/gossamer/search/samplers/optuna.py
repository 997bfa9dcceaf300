"""Adapter of Optuna's samplers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.errors import UserError
from gossamer.search.frontier import violations
from gossamer.search.metrics import Metric
from gossamer.search.samplers.history import History
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.space.space import Point, Space
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.storage import directions_of


@dataclass(frozen=True)
class OptunaSampler(Sampler):
    """One of Optuna's samplers, constructed anew for each point.

    So it must depend on the trials only. Subclasses in `NAMED` restore the state that some of
    Optuna's samplers store in addition.

    Args:
        make: makes the sampler from a seed, such as
            ``lambda seed: optuna.samplers.TPESampler(seed=seed, gamma=lambda n: n // 5)``.
    """

    make: Callable[[int], optuna.samplers.BaseSampler]
    startup: ClassVar[int] = 10

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
            goals = directions_of({m.name: m.goal for m in metrics if m.optimized})
            storage = InMemoryStorage()
            study = optuna.create_study(directions=goals, sampler=sampler, storage=storage)
            study.add_trials(self._trials(space, metrics, history))
            self._restore(study, storage, space, history)
            asked = study.ask(_distributions(space))
        return {**space.whole({}), **asked.params}

    def _trials(
        self, space: Space, metrics: Sequence[Metric], history: History
    ) -> list[FrozenTrial]:
        """Return the trials in Optuna's form, complete ones first."""
        # Optuna's models ignore failed trials and would suggest the same point again, so a failed
        # trial counts as the worst seen.
        worst = [
            (column.min() if m.goal.sign > 0 else column.max()) if len(column) else 0.0
            for m, column in zip(metrics, history.values.T, strict=True)
        ]
        # They also need values for parameters that a trial does not have; any will do.
        distributions = _distributions(space)

        def whole(point: Point) -> dict[str, Any]:
            return {name: v for name, v in space.whole(point).items() if name in distributions}

        points = [whole(point) for point in (*history.points, *history.failed)]
        values = np.vstack([history.values, *[worst for _ in history.failed]])
        limits = [m.name for m in metrics if m.threshold is not None]
        optimized = [m.optimized for m in metrics]
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
                state=TrialState.RUNNING, params=whole(point), distributions=distributions
            )
            for point in history.pending
        ]
        return [*finished, *running]

    def _restore(
        self, study: optuna.Study, storage: InMemoryStorage, space: Space, history: History
    ) -> None:
        """Store in the study the state that Optuna's sampler would have stored by now."""


@dataclass(frozen=True)
class _Genetic(OptunaSampler):
    """A genetic algorithm, whose generations are consecutive complete trials."""

    def _trials(
        self, space: Space, metrics: Sequence[Metric], history: History
    ) -> list[FrozenTrial]:
        sampler = self.make(0)
        assert isinstance(sampler, optuna.samplers.BaseGASampler)
        size = sampler.population_size
        assert size is not None
        trials = super()._trials(space, metrics, history)
        for index, trial in enumerate(trials[: len(history.points)]):
            trial.system_attrs[f"{type(sampler).__name__}:generation"] = index // size
        return trials


@dataclass(frozen=True)
class _Sequence(OptunaSampler):
    """A quasi-random sequence, after a random first trial."""

    startup: ClassVar[int] = 0

    def _restore(
        self, study: optuna.Study, storage: InMemoryStorage, space: Space, history: History
    ) -> None:
        drawn = len(history) - 1
        if drawn < 1:
            return
        study.ask(_distributions(space))  # which makes Optuna begin to count
        number = storage.get_study_id_from_name(study.study_name)
        for key in storage.get_study_system_attrs(number):
            storage.set_study_system_attr(number, key, drawn - 1)


@dataclass(frozen=True)
class _Exhaustive(OptunaSampler):
    """A sampler that tries every point of a finite space."""

    startup: ClassVar[int] = 0

    def check(self, space: Space) -> None:
        for name, distribution in _distributions(space).items():
            if isinstance(distribution, FloatDistribution) and distribution.step is None:
                raise UserError(
                    f"parameter '{name}' has infinitely many values, and this sampler tries every "
                    "one; give the parameter a step, or make it a Grid"
                )


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return distributions of the parameters with more than one value."""
    return {name: d for name, d in space.distributions().items() if not d.single()}


def gp(seed: int) -> optuna.samplers.BaseSampler:
    """Make Optuna's Gaussian process sampler (expected hypervolume improvement, constraints).

    Training is noisy, so the objective is not treated as deterministic.
    """
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Make Optuna's sampler of tree-structured Parzen estimators over all parameters jointly."""
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True)


# Optuna's samplers by their names there.
NAMED: dict[str, type[OptunaSampler]] = {
    "TPESampler": OptunaSampler,
    "GPSampler": OptunaSampler,
    "RandomSampler": OptunaSampler,
    "NSGAIISampler": _Genetic,
    "NSGAIIISampler": _Genetic,
    "QMCSampler": _Sequence,
    "BruteForceSampler": _Exhaustive,
}
# Those that cannot be used by name, and why not.
REFUSED = {
    "CmaEsSampler": "it continues a state of its own, which a search that is resumed or shared by "
    "processes does not have; use 'gp' or 'optuna:TPESampler'",
    "GridSampler": "it needs its grid as an argument; 'optuna:BruteForceSampler' tries every point "
    "of parameters with finitely many values",
    "PartialFixedSampler": "it needs another sampler as an argument; give the parameter that is "
    "fixed a single value",
}


@dataclass(frozen=True)
class Named:
    """A callable that makes the sampler of a name with Optuna's defaults."""

    name: str

    def __call__(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            made: optuna.samplers.BaseSampler = getattr(optuna.samplers, self.name)(seed=seed)
        return made
