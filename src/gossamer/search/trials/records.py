"""Attributes of trials in an Optuna storage, and the `TrialRecord` that is read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from gossamer.search.trials.heartbeat import place
from gossamer.search.trials.trial import Report, State, TrialRecord
from gossamer.settings import strip_prefix

# User attributes of a trial.
OWNER = "gossamer:owner"
REASON = "gossamer:reason"
EXPECTED = "gossamer:expected"
FIDELITY = "gossamer:fidelity"
ORIGIN = "gossamer:origin"
CONTINUED = "gossamer:continued"
ATTEMPT = "gossamer:attempt"
LOST = "gossamer:lost:"
# What a trial that was made elsewhere is there, so that it is imported once.
SOURCE = "gossamer:source"
# Which call ended the trial, for one that was repeated because the answer was lost.
ENDED_BY = "gossamer:ended_by"
_VALUE = "gossamer:value:"
_NOISE = "gossamer:noise:"
_REPORT = "gossamer:report:"

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "stopped",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def value_attributes(
    values: Mapping[str, float], noise: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the attributes of a trial's values and their standard deviations."""
    return {
        **{_VALUE + name: value for name, value in values.items()},
        **{_NOISE + name: deviation for name, deviation in (noise or {}).items()},
    }


def report_key(attempt: int, step: int | None = None) -> str:
    """The attribute of a report, or what those of an attempt begin with: of a trial's attempts
    only the last one counts."""
    return f"{_REPORT}{attempt}:" + ("" if step is None else str(step))


def lost_key(attempt: int) -> str:
    """Return the attribute of a lost attempt, the same for all processes that notice the loss."""
    return f"{LOST}{attempt}"


def attempt(trial: FrozenTrial) -> int:
    """The number of starts of a trial."""
    return int(trial.user_attrs.get(ATTEMPT, 1))


def fidelity(trial: FrozenTrial) -> str | None:
    """The cheaper task that a trial runs; None for the full one."""
    return trial.user_attrs.get(FIDELITY)


def record(trial: FrozenTrial, metrics: Sequence[str] = ()) -> TrialRecord:
    """Record of a trial; `metrics` come first among the values."""
    stored = trial.user_attrs
    values = strip_prefix(stored, _VALUE)
    duration = trial.duration
    finished = trial.state.is_finished()
    owner = stored.get(OWNER)
    reports = [
        Report(int(step), entry["of"], entry["values"], entry["seconds"])
        for step, entry in strip_prefix(stored, report_key(attempt(trial))).items()
    ]
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        parameters=dict(trial.params),
        values={
            **{name: values[name] for name in metrics if name in values},
            **{name: values[name] for name in sorted(values) if name not in metrics},
        }
        if finished
        else {},
        reason=stored.get(REASON) if finished else None,
        seconds=duration.total_seconds() if finished and duration is not None else None,
        fidelity=fidelity(trial),
        reports=tuple(sorted(reports, key=lambda report: report.step)),
        expected=dict(stored.get(EXPECTED, {})) if finished else {},
        worker=place(owner) if owner else None,
        attempts=attempt(trial),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        origin=stored.get(ORIGIN),
        continued=int(stored.get(CONTINUED, 0)),
        noise=strip_prefix(stored, _NOISE) if finished else {},
    )
