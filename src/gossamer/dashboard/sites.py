"""The experiments that a dashboard serves, and where: one at the root, or several side by side."""

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

# A name alone would not do: browsers take "/../" and "/./" for other addresses.
_ONE = "/experiment:"


class Sites:
    """The only experiment at ``/``; of several an overview there, and each at its `address`.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: of the one experiment, where a storage has several and it alone is to be shown.
        write: whether pages may store thresholds.

    Raises:
        UserError: when there is no such experiment.
        Unreadable: with the storage's reason.
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
        """Read all trials at once, and load plotly's modules; from then on only what is new."""
        if self._only is not None:
            self._only.view("")
        else:
            self.overview()

    def at(self, path: str) -> tuple[Site | None, str]:
        """The site that answers an address, and the address within it; None is the overview's."""
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
        """The page of all experiments."""
        if self._caches is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this page shows one experiment")
        return overview_page(overview(self._caches.read()), address)

    def close(self) -> None:
        """As `Cache.close`, of every experiment."""
        if self._only is not None:
            self._only.cache.close()
        if self._caches is not None:
            self._caches.close()


def address(name: str) -> str:
    """The path of an experiment among several."""
    return f"{_ONE}{urllib.parse.quote(name, safe='')}/"
