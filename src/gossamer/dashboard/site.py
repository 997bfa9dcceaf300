"""The addresses of one experiment's dashboard, and their answers."""

from __future__ import annotations

import dataclasses
import mimetypes
import urllib.parse
from http import HTTPStatus
from pathlib import Path

from gossamer.dashboard import view
from gossamer.dashboard.answer import JSON, Answer, Refused, etag_of
from gossamer.dashboard.cache import Cache
from gossamer.dashboard.page import page
from gossamer.dashboard.thresholds import thresholds_asked
from gossamer.search import Snapshot


class Site:
    """The answers to GET requests; queries may set thresholds, see `thresholds_asked`.

    Args:
        cache: the experiment's cache.
        write: whether the page may store thresholds.
        overview: whether there is a page of several experiments.
    """

    def __init__(self, cache: Cache, write: bool, overview: bool = False) -> None:
        self.cache = cache
        self.write = write
        self._overview = overview

    def page(self) -> Answer:
        return page(self.cache.experiment.name, self.write, self._overview)

    def view(self, query: str) -> Answer:
        stored, judged = self._snapshots(query)
        body = view.as_json(view.view(judged, stored))
        return Answer(body, JSON, etag_of(stored.version, stored.running, query))

    def listed(self, path: str, query: str) -> Answer:
        stored, judged = self._snapshots(query)
        etag = etag_of(stored.version, path, query)
        if path == "/api/plots":
            return Answer(view.as_json(view.panels(judged, "later")), JSON, etag)
        if path == "/api/trials":
            return Answer(view.as_json(view.trials(judged)), JSON, etag)
        safe = _plain(stored.name)
        if path == "/export.csv":
            return Answer(
                view.export_csv(judged), "text/csv; charset=utf-8", etag, filename=f"{safe}.csv"
            )
        return Answer(view.export_json(judged), JSON, etag, filename=f"{safe}.json")

    def file(self, address: str) -> Answer:
        """Return a trial's file at ``NUMBER/NAME``; only files listed by trials are read."""
        number, _, quoted = address.partition("/")
        name = urllib.parse.unquote(quoted)
        trials = [trial for trial in self.cache.read().trials if str(trial.number) == number]
        file = next((f for trial in trials for f in trial.files if f.name == name), None)
        try:
            body = None if file is None else Path(file.path).read_bytes()
        except OSError:
            body = None
        if file is None or body is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no file '{name}' of trial {number}")
        guessed = mimetypes.guess_type(file.name)[0]
        if file.kind == "image" and guessed is not None:
            return Answer(body, guessed, etag_of(body), foreign=True)
        if file.kind == "text":
            return Answer(body, "text/plain; charset=utf-8", etag_of(body), foreign=True)
        kind = "application/octet-stream"
        return Answer(body, kind, etag_of(body), filename=_plain(name, "."), foreign=True)

    def slow(self) -> Answer:
        """Return the panels of parameter importances that are computed so far."""
        shares, of, coming = self.cache.importances()
        snapshot = dataclasses.replace(self.cache.read(), importances=shares)
        content = {"plots": view.panels(snapshot, "slow"), "of": of, "coming": coming}
        return Answer(view.as_json(content), JSON, etag_of(of, coming))

    def _snapshots(self, query: str) -> tuple[Snapshot, Snapshot]:
        stored = self.cache.read()
        return stored, stored.judged_by(thresholds_asked(query))


def _plain(name: str, also: str = "") -> str:
    """Return a name for a file, with only ASCII letters, digits and the characters in `also`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in also) else "-" for c in name)
