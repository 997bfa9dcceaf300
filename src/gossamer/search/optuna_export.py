"""An experiment as a study of Optuna's own, without anything of gossamer's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import FrozenTrial, TrialState

from gossamer.errors import UserError
from gossamer.search.experiment import Experiment
from gossamer.search.trials.databases import open_storage, readable_errors
from gossamer.search.trials.ending import ordered_values
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.records import STATES
from gossamer.search.trials.storage import directions_of
from gossamer.search.trials.trial import ENDED, TrialRecord

_ENDED = {state: theirs for theirs, state in STATES.items() if state in ENDED}


def export_study(experiment: Experiment, storage: str) -> int:
    """Write the trials that have ended to an Optuna study of the same name.

    Deleted trials are left out, corrected values take their places, metrics have their names, and
    what misses a threshold is infeasible by today's thresholds. Where no metric is optimized, the
    study minimizes the total violation. Values that are not optimized,
    standard deviations, notes and reasons are user attributes.

    Args:
        experiment: is only read.
        storage: URL of the database, which is made if it is not there.

    Returns:
        The number of trials written.

    Raises:
        UserError: the storage has a study of that name.
    """
    metrics = [m for m in experiment.metrics if m.optimized]
    trials = [trial for trial in experiment.trials() if trial.state in _ENDED]
    with quiet_optuna(), readable_errors():
        try:
            study = optuna.create_study(
                study_name=experiment.name,
                directions=directions_of({m.name: m.goal for m in metrics}),
                storage=open_storage(storage),
            )
        except DuplicatedStudyError:
            raise UserError(
                f"storage '{storage}' has a study '{experiment.name}' already; name another storage"
            ) from None
        # As Study.set_metric_names, which is experimental and warns.
        study._storage.set_study_system_attr(
            study._study_id, "study:metric_names", [m.name for m in metrics] or ["violation"]
        )
        distributions = experiment.space.distributions()
        study.add_trials([_trial(trial, experiment, distributions) for trial in trials])
    return len(trials)


def _trial(
    record: TrialRecord, experiment: Experiment, distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    goals = {m.name: m.goal for m in experiment.metrics if m.optimized}
    optimized = list(goals)
    others: dict[str, Any] = {n: v for n, v in record.values.items() if n not in optimized}
    others |= {f"{name} (standard deviation)": n for name, n in record.noise.items()}
    others |= {"fidelity": record.fidelity, "reason": record.reason, "note": record.note}
    complete = record.comparable
    violations = {
        m.name: m.violation(record.values[m.name])
        for m in experiment.metrics
        if complete and m.threshold is not None
    }
    beyond = {f"constraints:{name}": violation for name, violation in violations.items()}
    trial = optuna.trial.create_trial(
        # A cheaper task's values are not comparable.
        state=_ENDED[record.state] if complete or record.state != "complete" else TrialState.PRUNED,
        params=record.parameters,
        distributions={name: distributions[name] for name in record.parameters},
        values=ordered_values(goals, record.values, violations) if complete else None,
        user_attrs={name: value for name, value in others.items() if value is not None},
        # Optuna 5 reads the constraints one by one, others as a list.
        system_attrs={**beyond, "constraints": list(beyond.values())} if beyond else {},
        intermediate_values={
            report.step: report.values[optimized[0]]
            for report in record.reports
            if len(optimized) == 1 and optimized[0] in report.values
        },
    )
    if record.started is not None:
        trial.datetime_start = datetime.fromtimestamp(record.started)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=record.seconds or 0.0)
    return trial
