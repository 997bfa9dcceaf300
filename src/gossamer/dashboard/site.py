"""What the dashboard answers at its addresses, of one experiment."""

from __future__ import annotations

from gossamer.dashboard import view
from gossamer.dashboard.answer import JSON, Answer, etag_of
from gossamer.dashboard.page import page
from gossamer.dashboard.snapshot import Snapshot
from gossamer.dashboard.thresholds import thresholds_asked
from gossamer.dashboard.watch import Watch
from gossamer.report.study import study


class Site:
    """The answers to what is read; queries give thresholds to judge by, see `thresholds_asked`.

    Args:
        watch: on the experiment.
        write: whether the page may store thresholds.
    """

    def __init__(self, watch: Watch, write: bool) -> None:
        self.watch = watch
        self.write = write

    def page(self) -> Answer:
        return page(self.watch.experiment.name, self.write)

    def view(self, query: str) -> Answer:
        stored, judged = self._snapshots(query)
        body = view.as_json(view.view(judged, stored))
        return Answer(body, JSON, etag_of(stored.version, query))

    def listed(self, path: str, query: str) -> Answer:
        stored, judged = self._snapshots(query)
        etag = etag_of(stored.version, path, query)
        if path == "/api/plots":
            return Answer(view.as_json(view.below(judged)), JSON, etag)
        if path == "/api/trials":
            return Answer(view.as_json(view.trials(judged)), JSON, etag)
        safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in stored.name)
        if path == "/export.csv":
            return Answer(
                view.export_csv(judged), "text/csv; charset=utf-8", etag, filename=f"{safe}.csv"
            )
        return Answer(view.export_json(judged), JSON, etag, filename=f"{safe}.json")

    def importances(self) -> Answer:
        shares, of, coming = self.watch.importances()
        drawn = view.importances(study(self.watch.read()), shares)
        body = view.as_json({"plots": drawn, "of": of, "coming": coming})
        return Answer(body, JSON, etag_of(of, coming))

    def _snapshots(self, query: str) -> tuple[Snapshot, Snapshot]:
        stored = self.watch.read()
        return stored, stored.judged_by(thresholds_asked(query))
