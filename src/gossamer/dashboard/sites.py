"""The sites of a dashboard: one experiment at the root, or an overview and several below it."""

from __future__ import annotations

import math
import os
import threading
import time
import urllib.parse
from http import HTTPStatus

from gossamer.dashboard.answer import Answer, Refused
from gossamer.dashboard.cache import Cache, Unreadable
from gossamer.dashboard.page import overview_page
from gossamer.dashboard.site import Site
from gossamer.errors import UserError
from gossamer.files import named_storage
from gossamer.report.overview import overview
from gossamer.search import Snapshot
from gossamer.search.schema import stored_names

# A prefix is needed, because browsers resolve "/../" and "/./" to other addresses.
_ONE = "/experiment:"
# Seconds between two reads of the list of experiments, which needs the whole storage.
_LISTED_SECONDS = 5.0


class Sites:
    """A single experiment at ``/``, or an overview there and each experiment at its `address`.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: show only this experiment, if the storage has several.
        write: whether pages may store thresholds.

    Raises:
        UserError: no such experiment.
        Unreadable: the storage cannot be read; the message has its reason.
    """

    def __init__(self, source: str | os.PathLike[str], name: str | None, write: bool) -> None:
        self._url, self._write = named_storage(source) or os.fspath(source), write
        self._lock = threading.Lock()
        self._opened: dict[str, Site] = {}  # by name, of several, each from its first request on
        self._names: list[str] = []
        self._listed_at = -math.inf
        self._only: Site | None = None
        names = stored_names(self._url) if name is None and "://" in self._url else []
        if len(names) < 2:
            self._only = Site(Cache(source, name or next(iter(names), None)), write)

    def warm_up(self) -> None:
        """Read all trials and load plotly's modules, so that later requests read only new ones."""
        if self._only is not None:
            self._only.view("")
        else:
            self.overview()

    def at(self, path: str) -> tuple[Site | None, str]:
        """Return the site of a path (None: the overview), and the path within it."""
        if self._only is not None:
            return self._only, path
        if not path.startswith(_ONE):
            return None, path
        quoted, slash, rest = path.removeprefix(_ONE).partition("/")
        return self._site(urllib.parse.unquote(quoted)), slash + rest

    def overview(self) -> Answer:
        """Return the page of all experiments."""
        if self._only is not None:
            raise Refused(HTTPStatus.NOT_FOUND, "this page shows one experiment")
        return overview_page(overview(self._read()), address)

    def close(self) -> None:
        """Close the caches of all experiments that were opened."""
        with self._lock:
            opened = [*self._opened.values(), *([] if self._only is None else [self._only])]
        for site in opened:
            site.cache.close()

    def _site(self, name: str) -> Site:
        """Return the site of one of several experiments.

        Raises:
            UserError: no such experiment, or its definition cannot be read.
            Unreadable: the storage cannot be read; the message has its reason.
        """
        with self._lock:
            if name not in self._opened:
                self._opened[name] = Site(Cache(self._url, name), self._write, overview=True)
            return self._opened[name]

    def _list(self) -> list[str]:
        """Return the experiments' names, cached for some seconds."""
        with self._lock:
            if time.monotonic() - self._listed_at > _LISTED_SECONDS:
                self._names = stored_names(self._url)
                self._listed_at = time.monotonic()
            return self._names

    def _read(self) -> dict[str, Snapshot | str]:
        """Return each experiment by name, or the reason why it cannot be read.

        Raises:
            Unreadable: the storage cannot be read.
        """
        try:
            names = self._list()
        except UserError as error:
            raise Unreadable(str(error)) from None
        read: dict[str, Snapshot | str] = {}
        for name in names:
            try:
                read[name] = self._site(name).cache.read()
            except (UserError, Unreadable) as error:
                read[name] = str(error)
        return read


def address(name: str) -> str:
    """Return the path of one of several experiments."""
    return f"{_ONE}{urllib.parse.quote(name, safe='')}/"
