"""Import of an Optuna study from a database or a journal file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from gossamer.errors import UserError, one_line
from gossamer.files import is_sqlite
from gossamer.search.importers.importer import OtherTrial, choose
from gossamer.search.trials.databases import has_table, open_storage, readable_errors
from gossamer.search.trials.edits import Edits
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.records import STATES, record

_METRIC_NAMES = "study:metric_names"


class OptunaStudy:
    """A study of Optuna. Values have the study's names of metrics, or "value", or "values_0" and
    so on. Numbers among a trial's user attributes are stored as well."""

    def recognizes(self, source: str) -> bool:
        if "://" in source:
            return not source.startswith(("http://", "https://")) and has_tables(source, "studies")
        path = Path(source)
        return path.suffix in (".log", ".journal") or has_tables(source, "studies")

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        with quiet_optuna(), readable_errors():
            storage = _open(source)
            studies = {s.study_name: s for s in storage.get_all_studies()}
            name = choose("Optuna study", source, list(studies), study)
            chosen = studies[name]
            trials = storage.get_all_trials(chosen._study_id, deepcopy=False)
        names, edits = _metric_names(chosen), Edits.read(chosen.user_attrs)
        return [
            _trial(trial, f"{source}: trial {trial.number}", name, names, edits)
            for trial in trials
            if trial.number not in edits.deleted
        ]


def has_tables(source: str, table: str) -> bool:
    """Return whether `source` is an SQLite file, or the address of one, with a table `table`.

    For addresses of other databases this returns true, because they would have to be opened.
    """
    if "://" in source and not source.startswith("sqlite:///"):
        return True
    path = Path(source.removeprefix("sqlite:///").partition("?")[0])
    try:
        return is_sqlite(path) and has_table(path, table)
    except (OSError, sqlite3.Error):
        return False


def _open(source: str) -> BaseStorage:
    if "://" in source:
        return open_storage(source, create=False)
    path = Path(source)
    if has_tables(source, "studies"):
        return open_storage(f"sqlite:///{quote(str(path))}", create=False)
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the name")
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # of many kinds, from its own parser
        text = one_line(error)
        raise UserError(
            f"{path} is no Optuna database or journal ({text}); check the name"
        ) from None


def _metric_names(study: FrozenStudy) -> list[str]:
    stored = study.system_attrs.get(_METRIC_NAMES)
    if stored:
        return list(stored)
    count = len(study.directions)
    return ["value"] if count == 1 else [f"values_{i}" for i in range(count)]


def _trial(
    trial: FrozenTrial, where: str, study: str, names: list[str], edits: Edits
) -> OtherTrial:
    own = edits.apply(record(trial))
    values: dict[str, Any] = {
        key: value
        for key, value in trial.user_attrs.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if not key.startswith("gossamer:")
    }
    if own.values:  # of a study that gossamer made, which has the metrics by their own names
        values |= {k: (v, own.noise[k]) if k in own.noise else v for k, v in own.values.items()}
    elif trial.values is not None:
        values |= dict(zip(names, trial.values, strict=True))
    state = STATES[trial.state]
    last = max(trial.intermediate_values, default=None)
    pruned = f"pruned at step {last}" if last is not None else None
    return OtherTrial(
        where,
        f"optuna:{study}:{trial.number}",
        state,
        trial.params,
        values,
        own.reason or trial.user_attrs.get("reason") or (pruned if state == "stopped" else None),
        trial.duration.total_seconds() if trial.duration is not None else None,
        own.fidelity,
    )
