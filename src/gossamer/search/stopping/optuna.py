"""Optuna's pruners as stopping rules."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gossamer.errors import UserError, nearest
from gossamer.numbers import number
from gossamer.search.metrics import Metric, Minimize
from gossamer.search.stopping.context import StoppingContext
from gossamer.search.stopping.learning_curves import Curve
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.validation import make_plain

# Optuna's pruners, with the arguments that they have here unless others are stated.
PRUNERS: dict[str, Mapping[str, Any]] = {
    "MedianPruner": {},
    "PercentilePruner": {"percentile": 25.0},
    "SuccessiveHalvingPruner": {},
    "HyperbandPruner": {},
    "PatientPruner": {"wrapped_pruner": None, "patience": 5},
    "ThresholdPruner": {},
    "WilcoxonPruner": {},
}
_PROBE = Curve(0, np.array([1]), None, {"probe": np.zeros(1)}, {"probe": 0.0})
_TWO_TRIALS = StoppingContext([Minimize("probe")], replace(_PROBE, number=1), [_PROBE], [_PROBE])
# They store with a trial which rungs it reached, and learn from the first complete one.
_OF_RUNGS = SuccessiveHalvingPruner | HyperbandPruner
# Hyperband's brackets depend on the study's name.
STUDY = "gossamer"


@dataclass(frozen=True)
class OptunaPruner:
    """Stops a trial that one of Optuna's pruners would stop.

    For experiments with one metric, which is optimized, since pruners support no other. Reports
    are passed to them as Optuna's `Trial.report` stores them.

    Args:
        pruner: its name in Optuna, one of `PRUNERS`.
        arguments: the pruner's, by name.

    Raises:
        UserError: an unknown pruner, or arguments that it does not take.
    """

    pruner: str = "MedianPruner"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.pruner, str) or self.pruner not in PRUNERS:
            raise UserError(
                f"stopping.optuna: no pruner {self.pruner!r}; {nearest(str(self.pruner), PRUNERS)}"
            )
        if not isinstance(self.arguments, Mapping):
            raise UserError(f"stopping.optuna: arguments must be a table, not {self.arguments!r}")
        if self.arguments.get("wrapped_pruner") is not None:
            raise UserError(
                f"stopping.optuna: {self.pruner} wraps no other here; leave wrapped_pruner out"
            )
        try:
            self.reason(_TWO_TRIALS)  # some arguments are read by the first decision only
        except (ArithmeticError, TypeError, ValueError) as error:
            raise UserError(f"stopping.optuna: {self.pruner}: {error}") from None

    def check(self, metrics: Sequence[Metric]) -> None:
        """Raise `UserError` unless the pruner supports these metrics."""
        if not _is_suitable(metrics):
            names = ", ".join(metric.name for metric in metrics)
            raise UserError(
                f"stopping.optuna: {self.pruner} sees one metric, which is optimized, and this "
                f"experiment has other metrics or thresholds ({names}); use the rules "
                "'out_of_reach', 'dominated' or 'halving', which see all of them"
            )

    def reason(self, context: StoppingContext) -> str | None:
        if not _is_suitable(context.metrics):
            return None  # it was optimized when the experiment was opened
        (metric,) = context.metrics
        if not len(context.trial.steps) or np.isnan(context.trial.values[metric.name][-1]):
            return None
        first = min(context.finished, key=lambda curve: curve.number, default=None)
        finished = {curve.number for curve in context.finished}
        with _quiet():
            others = []
            for curve in context.others:
                known = self._known(curve, metric, first)
                others.append(_frozen(curve, metric, known, complete=curve.number in finished))
            known = self._replay(context.trial, metric, first, reports=-1)
            trial = _frozen(context.trial, metric, known)
            prunes = self._pruner(metric, first).prune(_study(metric, others), trial)
        if not prunes:
            return None
        step, value = max(trial.intermediate_values.items())
        return f"{metric.name} {number(value)} after {step} steps, at which {self.pruner} stops it"

    def _make(self) -> BasePruner:
        arguments = {**PRUNERS[self.pruner], **self.arguments}
        with _quiet():
            made: BasePruner = getattr(optuna.pruners, self.pruner)(**arguments)
        return made

    def _pruner(self, metric: Metric, first: Curve | None) -> BasePruner:
        """Return the pruner; the first complete trial determines its arguments "auto"."""
        pruner = self._make()
        if first is not None and isinstance(pruner, _OF_RUNGS):
            shown = _frozen(first, metric, {}, complete=True)
            pruner.prune(_study(metric, [shown]), shown)
        return pruner

    def _known(self, curve: Curve, metric: Metric, first: Curve | None) -> dict[str, Any]:
        """Return the attributes that the pruner stored with another trial, cached by its curve."""
        known = self._stored.get(curve.number)
        if known is None or known[0] is not curve or known[1] is not first:
            known = self._stored[curve.number] = curve, first, self._replay(curve, metric, first)
        return known[2]

    def _replay(
        self, curve: Curve, metric: Metric, first: Curve | None, reports: int | None = None
    ) -> dict[str, Any]:
        """Return the attributes that the pruner stored with a trial: the rungs that it reached.

        They depend only on its reports, and on whether a trial was complete when it began. So a
        replay of these stores the same, except that a trial stopped at a report that passed
        several rungs counts at each of them.
        """
        pruner = self._pruner(metric, first if first and first.number < curve.number else None)
        stored: dict[str, Any] = {}
        if not isinstance(pruner, _OF_RUNGS):
            return stored
        whole = _frozen(curve, metric, {}).intermediate_values
        trial, study = _frozen(curve, metric, stored), _study(metric, [], stored)
        trial.intermediate_values = {}
        for step, value in list(whole.items())[:reports]:
            trial.intermediate_values[step] = value
            trial.system_attrs = dict(stored)
            pruner.prune(study, trial)
        return stored

    @cached_property
    def _stored(self) -> dict[int, tuple[Curve, Curve | None, dict[str, Any]]]:
        """Trial number -> its curve, the first complete one then, and the stored attributes."""
        return {}


class _Trials(InMemoryStorage):
    """Storage of one study, which has these trials and takes no others."""

    def __init__(self, trials: Sequence[FrozenTrial], written: dict[str, Any]) -> None:
        super().__init__()
        self._frozen_trials, self._written = trials, written

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._frozen_trials if states is None or trial.state in states]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return BaseStorage.get_best_trial(self, study_id)  # of `get_all_trials`

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._written[key] = value


def _study(
    metric: Metric, trials: Sequence[FrozenTrial], written: dict[str, Any] | None = None
) -> optuna.Study:
    storage = _Trials(trials, {} if written is None else written)
    return optuna.create_study(
        storage=storage, study_name=STUDY, direction=StudyDirection[metric.goal.name]
    )


def _frozen(
    curve: Curve, metric: Metric, attributes: dict[str, Any], *, complete: bool = False
) -> FrozenTrial:
    values = curve.values[metric.name]
    known = ~np.isnan(values)
    return FrozenTrial(
        number=curve.number,
        trial_id=curve.number,
        state=TrialState.COMPLETE if complete else TrialState.RUNNING,
        value=curve.ends[metric.name] if complete else None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs=attributes,
        intermediate_values=dict(
            zip(curve.steps[known].tolist(), values[known].tolist(), strict=True)
        ),
    )


def _is_suitable(metrics: Sequence[Metric]) -> bool:
    return len(metrics) == 1 and metrics[0].optimized


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's notes that a pruner is experimental or cannot compare trials."""
    with quiet_optuna(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
