"""The sites of a dashboard: one experiment at the root, or an overview and several below it."""

from __future__ import annotations

import os
import threading
import urllib.parse
from http import HTTPStatus

from gossamer.dashboard.answer import Answer, Refused
from gossamer.dashboard.cache import Cache, Caches
from gossamer.dashboard.page import overview_page
from gossamer.dashboard.site import Site
from gossamer.report.overview import overview
from gossamer.search.schema import stored_names

# A prefix is needed, because browsers resolve "/../" and "/./" to other addresses.
_ONE = "/experiment:"


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
        self.write = write
        self._only: Site | None = None
        self._caches: Caches | None = None
        self._lock = threading.Lock()
        self._sites: dict[str, Site] = {}
        url = os.fspath(source)
        names = stored_names(url) if name is None and "://" in url else []
        if len(names) > 1:
            self._caches = Caches(url)
        else:
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
        name = urllib.parse.unquote(quoted)
        assert self._caches is not None
        cache = self._caches.of(name)
        with self._lock:
            site = self._sites.setdefault(name, Site(cache, self.write, overview=True))
        return site, slash + rest

    def overview(self) -> Answer:
        """Return the page of all experiments."""
        if self._caches is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this page shows one experiment")
        return overview_page(overview(self._caches.read()), address)

    def close(self) -> None:
        """Close the caches of all experiments."""
        if self._only is not None:
            self._only.cache.close()
        if self._caches is not None:
            self._caches.close()


def address(name: str) -> str:
    """Return the path of one of several experiments."""
    return f"{_ONE}{urllib.parse.quote(name, safe='')}/"
