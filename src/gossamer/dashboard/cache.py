"""Cached experiments for concurrent requests, and importances computed in the background."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from optuna.storages import BaseStorage
from sqlalchemy import make_url

from gossamer.errors import UserError
from gossamer.files import named_storage
from gossamer.search import Experiment, Snapshot
from gossamer.search.definition import read_toml
from gossamer.search.trials.databases import connect_to_read, open_storage
from gossamer.search.trials.storage import MADE

# Seconds between two reads of the storage, for any number of open pages.
_FRESH_SECONDS = 0.5


_AGAIN = "put it back, or start the dashboard again"


class Unreadable(Exception):
    """The storage cannot be read at the moment."""


@dataclass(frozen=True)
class _Content:
    """The identity of an SQLite file and of its content."""

    file: tuple[int, int]  # device, inode
    study: int
    made: str | None  # the study's mark; older studies have none
    trials: int


_CONTENT = (
    "SELECT study_id, (SELECT value_json FROM study_user_attributes AS mark "
    "WHERE mark.study_id = studies.study_id AND mark.key = ?), "
    "(SELECT COUNT(*) FROM trials WHERE trials.study_id = studies.study_id) "
    "FROM studies WHERE study_name = ?"
)


class DatabaseFile:
    """Check of whether an SQLite file is still the one that was opened.

    An open connection continues to read and write a file that was renamed or deleted.
    """

    def __init__(self, url: str, experiment: str) -> None:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite" and parsed.database
        self._path = Path(parsed.database).absolute() if sqlite and parsed.database else None
        self._experiment = experiment
        self._seen = self._content()

    def check(self) -> None:
        """Raise `Unreadable` if the file is missing, another one, or has fewer trials."""
        seen, now = self._seen, self._content()
        if seen and (now is None or (now.file, now.study) != (seen.file, seen.study)):
            raise Unreadable(f"{self._path} was renamed, deleted or replaced; {_AGAIN}")
        if seen and now and seen.made not in (None, now.made):
            raise Unreadable(f"{self._path} was overwritten with another experiment; {_AGAIN}")
        if seen and now and now.trials < seen.trials:
            raise Unreadable(f"{self._path} has lost trials; {_AGAIN}")
        self._seen = now

    def _content(self) -> _Content | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
            with closing(connect_to_read(self._path)) as database:
                row = database.execute(_CONTENT, (MADE, self._experiment)).fetchone()
        except FileNotFoundError:
            return None
        except (OSError, sqlite3.Error) as error:
            raise Unreadable(f"{self._path} cannot be read: {error}") from None
        return None if row is None else _Content((status.st_dev, status.st_ino), *row)


def open_stored(source: str | os.PathLike[str], name: str | None) -> Experiment:
    """Open a stored experiment; its thresholds are those of the storage, not of a TOML file.

    Args:
        source: an experiment's TOML file, or its storage: an address or an SQLite file.
        name: name of the experiment, if the storage has several.

    Raises:
        UserError: no such experiment, or one in memory only.
    """
    url, named = _where(source)
    if named is None:
        return Experiment.from_storage(url, name)
    try:
        return Experiment.from_storage(url, name or named)
    except UserError as error:
        raise UserError(f"{error}; start it with gossamer search {source}") from None


def stored_at(source: str | os.PathLike[str]) -> BaseStorage:
    """Return the Optuna storage of an experiment that `open_stored` opened."""
    return open_storage(_where(source)[0], create=False)


def _where(source: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Return the storage's address, and the experiment's name if ``source`` is its TOML file."""
    text = os.fspath(source)
    if address := named_storage(text):
        return address, None
    described = read_toml(text)
    storage = described.get("storage")
    if storage is None:
        raise UserError(
            f"{text}: without a storage the trials are in the searching process only; "
            'give it one, such as storage = "sqlite:///search.db"'
        )
    return storage, described["name"]


class Cache:
    """A cached experiment; for `source` and `name` see `open_stored`."""

    def __init__(self, source: str | os.PathLike[str], name: str | None) -> None:
        self.experiment = open_stored(source, name)
        self._file = DatabaseFile(_where(source)[0], self.experiment.name)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._read_at = 0.0
        self._shares: Mapping[str, Mapping[str, float]] = {}
        self._shares_of = 0  # complete trials that they were computed from
        self._computing: threading.Thread | None = None

    def read(self) -> Snapshot:
        """Return the experiment, at most half a second old.

        Raises:
            Unreadable: the storage cannot be read; the message has its reason.
        """
        with self._lock:
            if self._snapshot is None or time.monotonic() - self._read_at > _FRESH_SECONDS:
                self._file.check()
                try:
                    self._snapshot = Snapshot.of(self.experiment)
                except UserError as error:
                    raise Unreadable(str(error)) from None
                except KeyError:  # Optuna's, of a study that is not there
                    name = self.experiment.name
                    raise Unreadable(f"experiment '{name}' was deleted; {_AGAIN}") from None
                self._read_at = time.monotonic()
            return self._snapshot

    def set_thresholds(self, thresholds: Mapping[str, float | None]) -> None:
        """Store all of the thresholds, or none if one is refused.

        Raises:
            UserError: an unknown metric, or a threshold that the metric cannot have.
            Unreadable: the storage cannot be read; the message has its reason.
        """
        self.read().judged_by(thresholds)
        with self._lock:
            self._snapshot = None
            self._file.check()
            try:
                for name, threshold in thresholds.items():
                    self.experiment.set_threshold(name, threshold)
            except UserError as error:
                raise Unreadable(str(error)) from None

    def importances(self) -> tuple[Mapping[str, Mapping[str, float]], int, bool]:
        """Return importances by metric, their number of trials, and whether newer ones follow.

        They take seconds, so they are computed in the background, and again only after 5 % more
        complete trials.
        """
        complete = len(self.read().complete)
        with self._lock:
            busy = self._computing is not None and self._computing.is_alive()
            if not busy and complete > 1.05 * self._shares_of:
                self._computing = threading.Thread(
                    target=self._compute, args=(complete,), name="gossamer-importances", daemon=True
                )
                self._computing.start()
                busy = True
            return self._shares, self._shares_of, busy

    def close(self) -> None:
        """Wait for the computation of importances, which changes the process's warning filters."""
        with self._lock:
            computing = self._computing
        if computing is not None:
            computing.join()

    def _compute(self, complete: int) -> None:
        try:
            shares = self.experiment.importances()
        except UserError:
            return  # the storage does not answer: the page asks again
        with self._lock:
            self._shares, self._shares_of = shares, complete
