"""The experiment as several requests at once read it, and importances beside them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from optuna.storages import BaseStorage

from gossamer.dashboard.snapshot import Snapshot
from gossamer.errors import UserError
from gossamer.search import Experiment
from gossamer.search.databases import open_storage
from gossamer.search.definition import read_toml

# However many pages are open, the storage is read at most so often.
_FRESH_SECONDS = 0.5


class Unreadable(Exception):
    """The storage does not answer now."""


def open_stored(source: str | os.PathLike[str], name: str | None = None) -> Experiment:
    """The experiment as its storage has it: a file's thresholds are not taken over.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: of the experiment, where a storage has several.

    Raises:
        UserError: when there is no such experiment, or it is kept in memory only.
    """
    url, named = _where(source)
    if named is None:
        return Experiment.from_storage(url, name)
    try:
        return Experiment.from_storage(url, name or named)
    except UserError as error:
        raise UserError(f"{error}; begin it with gossamer search {source}") from None


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


class Watch:
    """Reads the experiment for the page."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
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
                try:
                    self._snapshot = Snapshot.of(self.experiment)
                except UserError as error:
                    raise Unreadable(str(error)) from None
                self._read_at = time.monotonic()
            return self._snapshot

    def set_thresholds(self, thresholds: Mapping[str, float | None]) -> None:
        """Stores them all, or none of them.

        Raises:
            UserError: for an unknown metric, or a threshold that it cannot have.
            Unreadable: with the storage's reason.
        """
        self.read().judged_by(thresholds)
        with self._lock:
            self._snapshot = None
            try:
                for name, threshold in thresholds.items():
                    self.experiment.set_threshold(name, threshold)
            except UserError as error:
                raise Unreadable(str(error)) from None

    def importances(self) -> tuple[Mapping[str, Mapping[str, float]], int, bool]:
        """Shares by metric, the number of trials they are of, and whether newer ones come.

        They take seconds, so they are computed beside the requests, and anew only when the
        complete trials have become 5 % more.
        """
        complete = self.read().states["complete"]
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
        """Waits for what is still being computed beside: it changes the process's warnings."""
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
