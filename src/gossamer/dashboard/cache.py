"""The experiment as several requests at once read it, and importances in the background."""

from __future__ import annotations

import math
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
from gossamer.search import Experiment, Snapshot
from gossamer.search.definition import read_toml
from gossamer.search.schema import stored_names
from gossamer.search.trials.databases import open_storage
from gossamer.search.trials.storage import MADE

# However many pages are open, the storage is read at most so often.
_FRESH_SECONDS = 0.5
# New experiments, whose list is read from the whole storage, may show so much later.
_LISTED_SECONDS = 5.0


_AGAIN = "put it back, or start the dashboard again"


class Unreadable(Exception):
    """The storage does not answer now."""


@dataclass(frozen=True)
class _Content:
    """Content of an SQLite file, and the identity of the file."""

    file: tuple[int, int]  # device, inode
    study: int
    made: str | None  # the study's own mark; older ones have none
    trials: int


_CONTENT = (
    "SELECT study_id, (SELECT value_json FROM study_user_attributes AS mark "
    "WHERE mark.study_id = studies.study_id AND mark.key = ?), "
    "(SELECT COUNT(*) FROM trials WHERE trials.study_id = studies.study_id) "
    "FROM studies WHERE study_name = ?"
)


class DatabaseFile:
    """Check that an SQLite file is still the one that was opened.

    An open connection goes on reading, and writing, a file that was renamed or deleted.
    """

    def __init__(self, url: str, experiment: str) -> None:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite" and parsed.database
        self._path = Path(parsed.database).absolute() if sqlite and parsed.database else None
        self._experiment = experiment
        self._seen = self._content()

    def check(self) -> None:
        """Raise `Unreadable` if the file is gone, another one, or holds fewer trials."""
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
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as database:
                row = database.execute(_CONTENT, (MADE, self._experiment)).fetchone()
        except FileNotFoundError:
            return None
        except (OSError, sqlite3.Error) as error:
            raise Unreadable(f"{self._path} cannot be read: {error}") from None
        return None if row is None else _Content((status.st_dev, status.st_ino), *row)


def open_stored(source: str | os.PathLike[str], name: str | None = None) -> Experiment:
    """The experiment as its storage has it: a file's thresholds are not taken over.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: of the experiment, where a storage has several.

    Raises:
        UserError: when there is no such experiment, or it is in memory only.
    """
    url, named = _where(source)
    if named is None:
        return Experiment.from_storage(url, name)
    try:
        return Experiment.from_storage(url, name or named)
    except UserError as error:
        raise UserError(f"{error}; start it with gossamer search {source}") from None


def stored_at(source: str | os.PathLike[str]) -> BaseStorage:
    """The Optuna storage of what `open_stored` has opened."""
    return open_storage(_where(source)[0], create=False)


def _where(source: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The storage's address, and the experiment's name where ``source`` is its file."""
    text = os.fspath(source)
    if "://" in text:
        return text, None
    described = read_toml(text)
    storage = described.get("storage")
    if storage is None:
        raise UserError(
            f"{text}: without a storage the trials are in the searching process only; "
            'give it one, such as storage = "sqlite:///search.db"'
        )
    return storage, described["name"]


class Caches:
    """The experiments of a storage, each opened when it is first asked for.

    Args:
        url: of the storage.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._opened: dict[str, Cache] = {}
        self._names: list[str] = []
        self._listed_at = -math.inf

    def _list(self) -> list[str]:
        """The experiments' names as they were some seconds ago."""
        with self._lock:
            if time.monotonic() - self._listed_at > _LISTED_SECONDS:
                self._names = stored_names(self._url)
                self._listed_at = time.monotonic()
            return self._names

    def of(self, name: str) -> Cache:
        """The experiment of that name.

        Raises:
            UserError: there is none, or its definition cannot be read.
            Unreadable: with the storage's reason.
        """
        with self._lock:
            if name not in self._opened:
                self._opened[name] = Cache(self._url, name)
            return self._opened[name]

    def read(self) -> dict[str, Snapshot | str]:
        """Every experiment by name, or why it cannot be read.

        Raises:
            Unreadable: the storage does not answer.
        """
        try:
            names = self._list()
        except UserError as error:
            raise Unreadable(str(error)) from None
        read: dict[str, Snapshot | str] = {}
        for name in names:
            try:
                read[name] = self.of(name).read()
            except (UserError, Unreadable) as error:
                read[name] = str(error)
        return read

    def close(self) -> None:
        """As `Cache.close`, of every experiment that was opened."""
        with self._lock:
            opened = list(self._opened.values())
        for cache in opened:
            cache.close()


class Cache:
    """The experiment as it was read last; `source` and `name` as `open_stored` takes them."""

    def __init__(self, source: str | os.PathLike[str], name: str | None = None) -> None:
        self.experiment = open_stored(source, name)
        self._file = DatabaseFile(_where(source)[0], self.experiment.name)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._read_at = 0.0
        self._shares: Mapping[str, Mapping[str, float]] = {}
        self._shares_of = 0  # complete trials that they were computed from
        self._computing: threading.Thread | None = None

    def read(self) -> Snapshot:
        """The experiment as it is now, or was half a second ago.

        Raises:
            Unreadable: with the storage's reason.
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
        """Store all of the thresholds, or none of them.

        Raises:
            UserError: for an unknown metric, or a threshold that it cannot have.
            Unreadable: with the storage's reason.
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
        """Shares by metric, the number of trials they are of, and whether newer ones come.

        They take seconds, so they are computed in the background, again only when the
        complete trials have become 5 % more.
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
        """Wait for the importances still being computed, which change the process's warnings."""
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
