"""Import of another tool's trials into an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.deploy.metrics import check_values
from gossamer.errors import UserError, nearest
from gossamer.numbers import digits
from gossamer.search.experiment import Experiment
from gossamer.search.importers.importer import OtherTrial
from gossamer.search.importers.registry import importer_of
from gossamer.search.space.parameters import Choice, Grid, Parameter
from gossamer.search.space.space import Space
from gossamer.search.validation import Value

_SHOWN = 8


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        trials: number of stored trials.
        known: number of trials that an earlier import had stored.
        unfinished: number of trials that had not ended.
        skipped: reasons why trials that do not fit the experiment were left out.
        ignored: names of parameters that the experiment does not have.
        cheaper: number of trials of a cheaper task, left out: their metrics are not comparable.
        failed: number of the stored trials that failed there, or have a metric that is NaN or
            infinite; they count as failed.
    """

    trials: int
    known: int
    unfinished: int
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    cheaper: int = 0
    failed: int = 0


def import_from(
    source: str,
    experiment: Experiment,
    *,
    tool: str | None = None,
    study: str | None = None,
    rename: Mapping[str, str] | None = None,
    skip: bool = False,
) -> Imported:
    """Store the trials of another tool in an experiment, whose sampler learns from them.

    Each trial is stored only once, also when it is imported again.

    Args:
        source: a CSV file, an Ax experiment in JSON, a database or journal of Optuna, MLflow's
            address, database or folder, W&B runs in JSON, or ``wandb:ENTITY/PROJECT``.
        experiment: the experiment; parameters that it lacks are ignored.
        tool: a name in `IMPORTERS`, if the source does not identify the tool.
        study: name of the study, experiment or sweep, if the source has several.
        rename: name in the source -> name in the experiment.
        skip: leave out trials that do not fit the experiment, instead of raising an error.

    Raises:
        UserError: the source cannot be read, or a trial does not fit the experiment; then nothing
            is stored.
    """
    others = importer_of(source, tool).read(source, study)
    names = dict(rename or {})
    _check_names(source, others, names)
    known = experiment.sources()
    new = [trial for trial in others if trial.source not in known]
    whole = [trial for trial in new if trial.fidelity is None]
    ended = [trial for trial in whole if trial.state in ("complete", "failed", "stopped")]
    arguments: list[tuple[OtherTrial, dict[str, Any]]] = []
    wrong: list[str] = []
    for trial in ended:
        try:
            read = _read(trial, experiment, names)
            experiment.check_add(**read)
            if experiment.split:
                check_values(read.get("values", {}), "values")
        except UserError as error:
            wrong.append(f"{trial.where}: {str(error).removeprefix('add: ')}{_hint(trial, error)}")
        else:
            arguments.append((trial, read))
    if wrong and not skip:
        more = f"; so are {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0]}{more}; nothing was imported: correct it, widen the experiment, or leave "
            "such trials out with --skip"
        )
    for trial, read in arguments:
        experiment.add(**read, seconds=trial.seconds, source=trial.source)
    own = {p.name for p in experiment.parameters} | {m.name for m in experiment.metrics}
    ignored = {names.get(n, n) for trial in ended for n in trial.parameters} - own
    return Imported(
        len(arguments),
        len(others) - len(new),
        len(whole) - len(ended),
        tuple(wrong),
        tuple(sorted(ignored)),
        len(new) - len(whole),
        sum("error" in read for _, read in arguments),
    )


def _check_names(source: str, others: Sequence[OtherTrial], rename: Mapping[str, str]) -> None:
    """Raise `UserError` for a name in `rename` that no trial has."""
    there = {name for trial in others for name in (*trial.parameters, *trial.values)}
    for name in rename:
        if others and name not in there:
            raise UserError(f"{source} has no '{name}' to rename; {nearest(name, there)}")


def _read(trial: OtherTrial, experiment: Experiment, rename: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `Experiment.add` for a trial."""
    there = {rename.get(name, name): value for name, value in trial.parameters.items()}
    point: dict[str, Value] = {}
    for parameter in experiment.parameters:
        if parameter.name in there and Space.is_met(parameter, point):
            point[parameter.name] = _value(parameter, there[parameter.name])
    experiment.check_add(point, error="")  # the parameters' faults come before the metrics'
    end: dict[str, Any] = {"parameters": point}
    if trial.state == "failed":
        return {**end, "error": trial.reason or "it failed there"}
    if trial.state == "stopped":
        return {**end, "stopped": trial.reason or "it was stopped there"}
    # In a table without prefixes, a column may be a parameter or a metric: only metrics are values.
    metrics = [m.name for m in experiment.metrics]
    values = {rename.get(name, name): value for name, value in trial.values.items()}
    read: dict[str, float | tuple[float, float]] = {}
    for name, value in values.items():
        if name in metrics:
            read[name] = _metric(name, value)
        elif name not in there and isinstance(value, int | float) and math.isfinite(value):
            read[name] = value
    for name, number in read.items():
        if isinstance(number, float) and not math.isfinite(number):
            return {**end, "error": f"metric '{name}' is {number}"}
    missing = next((name for name in metrics if name not in read), None)
    if missing is not None:
        raise UserError(f"metric '{missing}' is missing")
    return {**end, "values": read}


def _metric(name: str, value: Any) -> float | tuple[float, float]:
    if isinstance(value, tuple):
        number, deviation = (_number(name, part) for part in value)
        return number, deviation
    return _number(name, value)


def _number(name: str, value: Any) -> float:
    try:
        return float(digits(value) if isinstance(value, str) else value)
    except (TypeError, ValueError):
        point = "; write decimals after a point" if "," in str(value) else ""
        raise UserError(f"'{name}' is {value!r}, which is no number{point}") from None


def _value(parameter: Parameter, value: Any) -> Any:
    """Convert a value, which may be a text, to the parameter's type."""
    if not isinstance(value, str):
        return value
    if isinstance(parameter, Choice | Grid):
        return next((option for option in parameter.listed if value in _written(option)), value)
    number = _number(parameter.name, value)
    return int(number) if number.is_integer() else number


def _written(option: Value) -> set[str]:
    """Return the texts that tools write for an option."""
    texts = {str(option)}
    if option is None:
        texts |= {"null", "none"}
    elif isinstance(option, bool):
        texts |= {str(option).lower()}
    elif isinstance(option, int | float):
        texts |= {repr(float(option)), f"{option:g}"}
    return texts


def _hint(trial: OtherTrial, error: UserError) -> str:
    """Return a hint for the error about a missing name; empty for other errors."""
    if not str(error).endswith("is missing"):
        return ""
    names = list(dict.fromkeys((*trial.parameters, *trial.values)))
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f" (it has {listed or 'none'}; another name is given with --rename THERE=HERE)"
