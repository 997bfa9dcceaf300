"""Export and import of an experiment's trials, for another database or for publication.

The JSON file contains all that the storage does: the definition, the earlier experiment to learn
from, and for each trial its parameters, values, state, times and attributes, which include
reports, reasons and fidelities (see `gossamer.search.trials.records`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url

from gossamer.errors import UserError
from gossamer.files import copy_file, make_folder, read_bytes, refuse_overwrite, write_text
from gossamer.search import schema
from gossamer.search.definition import from_mapping
from gossamer.search.metrics import Metric, check_metrics
from gossamer.search.trials.attachments import files_folder, files_of, trial_folder
from gossamer.search.trials.databases import open_storage, readable_errors
from gossamer.search.trials.edits import EDITS, Edits
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.records import OWNER, record
from gossamer.search.trials.storage import DEFINITION, OBJECTIVES, Store, directions_of
from gossamer.search.validation import check_name

_FORMAT = "gossamer trials"
_WITHOUT_EDITS, _VERSION = 1, 2
# Of a study whose import has begun; it is whole once it has a definition.
_IMPORTING = "gossamer:importing"


def export_trials(storage: str, path: str | os.PathLike[str], name: str | None = None) -> int:
    """Write an experiment and all its trials to a file, and return their number.

    Files of trials are copied to a folder next to it: ``x.files`` of ``x.json``.

    Args:
        storage: URL of the database.
        path: the JSON file to write.
        name: name of the experiment, if the storage has several.

    Raises:
        UserError: there is no such experiment, or the file cannot be written.
    """
    chosen = schema.stored_name(storage, name)
    opened = open_storage(storage, create=False)
    refuse_overwrite(path, (make_url(storage).database,))
    store = Store(opened, chosen, None)
    with readable_errors():
        attributes = opened.get_study_user_attrs(opened.get_study_id_from_name(chosen))
    distributions: dict[str, int] = {}
    folder = files_folder(storage, (store.definition or {}).get("files"), chosen)
    beside = _files_beside(path)
    trials = []
    for trial in store.frozen():
        files = files_of(trial_folder(folder, trial.number))
        for file in files:
            copy = beside / str(trial.number) / file.name
            make_folder(copy.parent)
            copy_file(file.path, copy)
        entry = _trial_entry(trial, distributions)
        trials.append({**entry, "files": [file.name for file in files]} if files else entry)
    edits = {key: value for key, value in attributes.items() if key.startswith(EDITS)}
    content = {
        "format": _FORMAT,
        # One that reads no edits would take deleted trials for good ones.
        "version": _VERSION if edits else _WITHOUT_EDITS,
        "definition": store.definition,
        "objectives": dict(store.objectives),
        "earlier": store.earlier,
        **({"data": store.data} if store.data else {}),
        "attributes": {k: v for k, v in attributes.items() if not k.startswith("gossamer:")},
        **({"edits": edits} if edits else {}),
        "distributions": [json.loads(text) for text in distributions],
        "trials": trials,
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return len(trials)


def import_trials(
    path: str | os.PathLike[str],
    storage: str,
    name: str | None = None,
    files: str | os.PathLike[str] | None = None,
) -> tuple[str, int]:
    """Import an exported experiment into a storage, to continue its search there.

    Trials keep their numbers; those that were running wait to be run again with the same
    parameters. An import that was killed has no effect: the next one starts again.

    Args:
        path: a file of `export_trials`.
        storage: URL of the database, which is created if needed.
        name: name of the experiment in the storage; by default that in the file.
        files: folder for the trials' files, see `Experiment`.

    Returns:
        The experiment's name, and the number of its trials.

    Raises:
        UserError: the file is no export, the storage has an experiment of that name, or there are
            files of trials and no folder for them.
    """
    content = _read(Path(path))
    try:
        definition = dict(content["definition"])
        definition.pop("files", None)  # a folder of another machine
        if files is not None:
            definition["files"] = os.fspath(files)
        if name is not None:
            check_name(name, "experiment")
            definition["name"] = name
        arguments = from_mapping(definition)
        check_metrics(arguments["metrics"])
        optimized = {m.name: m.goal for m in arguments["metrics"] if m.optimized}
        objectives = dict(content.get("objectives", optimized))
        directions = directions_of(objectives)
        trials = _trials(
            content["trials"], content["distributions"], arguments["metrics"], len(directions)
        )
        attributes = dict(content["attributes"])
        edits = dict(content.get("edits", {}))
        if not all(key.startswith(EDITS) for key in edits):
            raise ValueError("unknown changes of trials")
        Edits.read(edits)
        earlier, data = content["earlier"], dict(content.get("data", {}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        fault = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {fault}; export the trials again") from None
    named = str(arguments["name"])
    copies = _copies(Path(path), content["trials"])
    folder = files_folder(storage, arguments.get("files"), named)
    if copies and folder is None:
        raise UserError(
            f"{path}: its trials have {len(copies):,} files, and storage '{storage}' no folder for "
            "them; give --files FOLDER (in Python files=), which all machines share"
        )
    opened = open_storage(storage)
    with quiet_optuna(), readable_errors():
        _check_free(opened, storage, named)
        study = opened.create_new_study(directions, named)
        opened.set_study_user_attr(study, _IMPORTING, True)
        opened.set_study_user_attr(study, OBJECTIVES, objectives)
        for source, number, file in copies:
            assert folder is not None
            make_folder((folder / str(number) / file).parent)
            copy_file(source, folder / str(number) / file)
        for trial in trials:
            opened.create_new_trial(study, trial)
        for key, value in {**attributes, **edits}.items():
            opened.set_study_user_attr(study, key, value)
    store = Store(opened, named, None)
    if earlier is not None:
        store.earlier = earlier
    if data:
        store.data = data
    store.definition = definition  # last: what has it is whole
    return named, len(trials)


def _files_beside(path: str | os.PathLike[str]) -> Path:
    """Return the folder for the files of an export."""
    return Path(path).with_suffix(".files")


def _copies(path: Path, entries: Sequence[Mapping[str, Any]]) -> list[tuple[Path, int, str]]:
    """Return source, trial number and name of each file of an export.

    Raises:
        UserError: a file is missing, or its name leads out of the folder.
    """
    copies = []
    for entry in entries:
        for name in entry.get("files", ()):
            source = _files_beside(path) / str(entry["number"]) / name
            inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            if not inside or not source.is_file():
                raise UserError(
                    f"{path}: trial {entry['number']}: file {source} is missing; copy the folder "
                    f"{_files_beside(path)} too"
                )
            copies.append((source, int(entry["number"]), name))
    return copies


def _check_free(opened: BaseStorage, storage: str, name: str) -> None:
    """Raise `UserError` if the storage has the experiment; delete it if its import was killed."""
    for study in opened.get_all_studies():
        if study.study_name != name:
            continue
        attributes = study.user_attrs
        if _IMPORTING not in attributes or DEFINITION in attributes:
            raise UserError(
                f"storage '{storage}' has an experiment '{name}' already; "
                "give this one another --name or another storage"
            )
        opened.delete_study(study._study_id)


def _trial_entry(trial: FrozenTrial, distributions: dict[str, int]) -> dict[str, Any]:
    """Return the entry of a trial in the file; add its distributions to `distributions`."""
    used = {
        name: distributions.setdefault(distribution_to_json(distribution), len(distributions))
        for name, distribution in trial.distributions.items()
    }
    entry = {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "parameters": trial.params,
        "distributions": used,
        "values": trial.values,
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "attributes": trial.user_attrs,
        "system": trial.system_attrs,
        "intermediate": {str(k): v for k, v in trial.intermediate_values.items()},
    }
    return {key: value for key, value in entry.items() if value not in (None, {})}


def _trials(
    entries: Sequence[Mapping[str, Any]],
    written: Sequence[Any],
    metrics: Sequence[Metric],
    objectives: int,
) -> list[FrozenTrial]:
    distributions = [json_to_distribution(json.dumps(entry)) for entry in written]
    trials = []
    for number, entry in enumerate(entries):
        if entry["number"] != number:
            raise ValueError(f"trial {number} is missing")
        state = TrialState[entry["state"].upper()]
        attributes = dict(entry.get("attributes", {}))
        if state is TrialState.RUNNING:  # nowhere any more
            state = TrialState.WAITING
            attributes.pop(OWNER, None)
        trial = optuna.trial.create_trial(
            state=state,
            values=entry.get("values"),
            params=dict(entry.get("parameters", {})),
            distributions={
                name: distributions[place] for name, place in entry.get("distributions", {}).items()
            },
            user_attrs=attributes,
            system_attrs=dict(entry.get("system", {})),
            intermediate_values={
                int(step): float(value) for step, value in entry.get("intermediate", {}).items()
            },
        )
        trial.datetime_start = _local(entry.get("started"))
        trial.datetime_complete = _local(entry.get("ended"))
        _check_values(trial, number, metrics, objectives)
        trials.append(trial)
    return trials


def _check_values(
    trial: FrozenTrial, number: int, metrics: Sequence[Metric], objectives: int
) -> None:
    """Raise `ValueError` unless a complete trial has a value of every metric."""
    if trial.state is TrialState.COMPLETE:
        known = record(trial).values
        missing = next((m.name for m in metrics if m.name not in known), None)
        if missing is not None or len(trial.values) != objectives:
            raise ValueError(f"trial {number} has not a value for every metric")


def _read(path: Path) -> dict[str, Any]:
    stored = read_bytes(path)
    try:
        content = json.loads(stored)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path} is no file of 'gossamer trials export'")
    if content.get("version") not in (_WITHOUT_EDITS, _VERSION):
        raise UserError(f"{path} was written by a newer gossamer; use that one here too")
    return content


def _utc(local: datetime | None) -> str | None:
    """Convert Optuna's time, which is local, to UTC as text."""
    return None if local is None else local.astimezone(UTC).isoformat()


def _local(utc: str | None) -> datetime | None:
    return None if utc is None else datetime.fromisoformat(utc).astimezone().replace(tzinfo=None)
