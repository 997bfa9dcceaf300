"""An experiment's suggestions inside Optuna: in its own loops, and behind the sweeps of W&B.

W&B's sweep scheduler (wandb 0.31) takes an Optuna study as its engine; see `sweep_study`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from gossamer.errors import UserError, nearest
from gossamer.search.experiment import Experiment
from gossamer.search.samplers.history import History
from gossamer.search.space.parameters import Choice, Float, Grid, Int, Parameter
from gossamer.search.space.space import Point
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.storage import directions_of

_ENDED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


class ExperimentSampler(optuna.samplers.BaseSampler):
    """A sampler of Optuna that suggests an experiment's points, within its thresholds.

    Args:
        experiment: the experiment, for its parameters, metrics and sampler. The trials are the
            study's; the experiment's storage is not used.

    Raises:
        UserError: a metric is not optimized; studies of Optuna support no others.
    """

    def __init__(self, experiment: Experiment) -> None:
        constraint = next((m.name for m in experiment.metrics if not m.optimized), None)
        if constraint is not None:
            raise UserError(
                f"metric '{constraint}' is not optimized, and an Optuna study holds no other; "
                "maximize or minimize it, with its threshold"
            )
        self._experiment = experiment
        self._points: dict[int, Point] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}  # whatever kind of distribution the study's loop asks with is served

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        space = self._experiment.space
        if param_name not in space.parameters:
            known = nearest(param_name, space.parameters)
            raise UserError(f"no parameter '{param_name}' in the experiment; {known}")
        if trial.number not in self._points:
            self._points[trial.number] = self._experiment.suggest(self._history(study, trial))
        # A conditional parameter that is not called for has any value.
        return {**space.middle(), **self._points[trial.number]}[param_name]

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._points.pop(trial.number, None)

    def _history(self, study: optuna.Study, asking: FrozenTrial) -> History:
        metrics = len(self._experiment.metrics)
        points: list[Point] = []
        values: list[Sequence[float]] = []
        failed: list[Point] = []
        pending: list[Point] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number == asking.number:
                continue
            point = self._points.get(trial.number) or self._point(trial.params)
            if point is None:
                continue
            if trial.state is TrialState.COMPLETE:
                points.append(point)
                values.append(trial.values)
            else:
                (failed if trial.state in _ENDED else pending).append(point)
        return History(points, np.array(values).reshape(-1, metrics), failed, pending)

    def _point(self, params: Mapping[str, Any]) -> Point | None:
        """Return a trial's point; None if it is not in the experiment's space."""
        space = self._experiment.space
        own = {name: value for name, value in params.items() if name in space.parameters}
        try:
            return space.pruned({**space.middle(), **space.read(own, "study")}) if own else None
        except UserError:
            return None


def sweep_study(
    experiment: Experiment,
) -> tuple[optuna.Study, Callable[[optuna.Study], bool]]:
    """Return the result for a function named in ``scheduler.optimizer`` of a W&B sweep.

    Returns:
        A study that suggests the experiment's points, and whether its budget is used up.

    Raises:
        UserError: see `ExperimentSampler`.
    """
    with quiet_optuna():
        study = optuna.create_study(
            study_name=experiment.name,
            directions=directions_of({m.name: m.goal for m in experiment.metrics}),
            sampler=ExperimentSampler(experiment),
            pruner=optuna.pruners.NopPruner(),
        )
    budget = experiment.budget

    def used_up(study: optuna.Study) -> bool:
        ended = sum(trial.state in _ENDED for trial in study.get_trials(deepcopy=False))
        return budget is not None and ended >= budget

    return study, used_up


def sweep_config(
    experiment: Experiment, program: str, source: str, optimizer: str = "optimizer"
) -> dict[str, Any]:
    """Return the configuration of a W&B sweep whose runs an experiment suggests.

    Args:
        experiment: the experiment, for its parameters and metrics.
        program: the program that W&B's agents run; it logs the metrics under their names.
        source: Python file with a function that returns `sweep_study` of the experiment.
        optimizer: name of that function.
    """
    metrics = [{"name": m.name, "goal": m.goal} for m in experiment.metrics]
    return {
        "name": experiment.name,
        "program": program,
        "method": "bayes",  # not used by this engine
        **({"metric": metrics[0]} if len(metrics) == 1 else {"metrics": metrics}),
        "parameters": {p.name: _as_sweep(p) for p in experiment.parameters},
        "scheduler": {"engine": "optuna", "source": source, "optimizer": optimizer},
    }


def _as_sweep(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Choice | Grid):
        return {"values": list(parameter.listed)}
    bounds: dict[str, Any] = {"min": parameter.low, "max": parameter.high}
    if parameter.step is not None:
        return {"distribution": "q_uniform", **bounds, "q": parameter.step}
    if isinstance(parameter, Int):
        return {
            "distribution": "q_log_uniform_values" if parameter.log else "int_uniform",
            **bounds,
        }
    assert isinstance(parameter, Float)
    return {"distribution": "log_uniform_values" if parameter.log else "uniform", **bounds}
