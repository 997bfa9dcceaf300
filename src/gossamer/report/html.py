"""The report as one self-contained HTML page, which loads nothing from the network."""

from __future__ import annotations

import base64
import dataclasses
import json
import mimetypes
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

import gossamer
from gossamer.errors import UserError
from gossamer.files import named_storage, refuse_overwrite, write_text
from gossamer.report import experiment as words
from gossamer.report import figures, units
from gossamer.report.choice import choice, compared
from gossamer.report.layers import LAYER_COLUMNS, layers_of
from gossamer.report.metrics_reader import machine
from gossamer.report.overview import metrics_of, overview
from gossamer.report.pages import asset, plotly_js, templates_of
from gossamer.report.panels import PANELS, SECTIONS, Panel
from gossamer.report.plots import runs as plots
from gossamer.report.plots.base import DARK, Plot, script_json
from gossamer.report.provenance import PROVENANCE, metric_provenance
from gossamer.report.sources import named_runs
from gossamer.report.summary import sentences, warnings

if TYPE_CHECKING:
    from gossamer.search import Experiment, Snapshot
    from gossamer.search.trials.attachments import TrialFile

_TEMPLATES = templates_of("gossamer.report")


def _breakable(name: str) -> Markup:
    """Allow line breaks in a name only after its dots and underscores."""
    return Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(name))))


_TEMPLATES.filters["breakable"] = _breakable
# Failed trials listed one by one; beyond it they are only counted, by reason.
_LISTED_FAILURES = 50
# Bytes of an image of a trial that is shown in the page, and of all images together.
_LARGEST_IMAGE, _LARGEST_IMAGES = 512 * 1024, 8 * 1024 * 1024


def flat(settings: Mapping[str, Any], under: str = "") -> list[tuple[str, str]]:
    """Return nested settings as pairs of a dotted name and a text, in order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{under}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        else:
            rows.append((name, units.plain(value)))
    return rows


def _settings_table(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return settings by name with one value per run; a dash if a run does not set it."""
    about = ("task", "source", "model", "split", "examples", "seed", "epochs")
    columns = []
    for run in runs.values():
        entries = {key: run[key] for key in about if run.get(key) is not None}
        if machine(run):
            entries["machine"] = machine(run)
        settings = run.get("settings")
        columns.append(
            dict(flat(entries) + flat(settings if isinstance(settings, Mapping) else {}))
        )
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, units.NOTHING) for column in columns]) for name in names]


def write_page(path: Path, text: str) -> None:
    """Write ``text`` to ``path``; create its folder if needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"folder {path.parent} cannot be made ({error.strerror}): choose another -o"
        ) from None
    write_text(path, text)


def _embedded(file: TrialFile, room: int) -> str:
    """Return a small image as a data URL; empty for other, larger and missing files."""
    if file.kind != "image" or file.bytes > min(room, _LARGEST_IMAGE):
        return ""
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    try:
        content = Path(file.path).read_bytes()
    except OSError:
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class _Shown:
    """An experiment on the page.

    Attributes:
        key: prefix of the names of its parts in the page; empty for the first experiment.
        snapshot: the experiment.
        first: the plots at the top.
        sections: heading -> the plots under it.
    """

    key: str
    snapshot: Snapshot
    first: list[Plot]
    sections: Mapping[str, list[Plot]]

    @classmethod
    def of(cls, index: int, snapshot: Snapshot) -> _Shown:
        key = f"e{index}-" if index else ""

        def draw(panel: Panel) -> list[Plot]:
            plots = panel.draw(snapshot)
            return [dataclasses.replace(plot, key=f"{key}{plot.key}") for plot in plots]

        sections = {
            title: [plot for panel in panels for plot in draw(panel)]
            for title, panels in SECTIONS.items()
        }
        return cls(key, snapshot, draw(PANELS[0]), sections)

    @property
    def plots(self) -> list[Plot]:
        return [*self.first, *(plot for listed in self.sections.values() for plot in listed)]

    @property
    def failures(self) -> list[tuple[str, list[int]]]:
        return words.failures(self.snapshot)

    @property
    def files(self) -> dict[int, list[tuple[TrialFile, str]]]:
        """Return the listed trials' files with their addresses, data URLs for small images."""
        shown: dict[int, list[tuple[TrialFile, str]]] = {}
        room = _LARGEST_IMAGES
        for trial in words.listed(self.snapshot):
            for file in trial.files:
                address = _embedded(file, room)
                room -= file.bytes if address else 0
                shown.setdefault(trial.number, []).append((file, address))
        return shown

    @property
    def settings(self) -> list[tuple[str, str]]:
        return flat(self.snapshot.settings)

    @property
    def script(self) -> Markup:
        """Return the frontier's data for the page's script, as JSON in a script element."""
        trials = words.listed(self.snapshot)
        content = {"choice": choice(self.snapshot), **compared(self.snapshot, trials)}
        return Markup(script_json(content))


def page(
    path: str | os.PathLike[str],
    runs: Mapping[str, Mapping[str, Any]],
    experiment: Experiment | Snapshot | Sequence[Experiment | Snapshot] | None = None,
    title: str | None = None,
) -> Path:
    """Write the report of ``runs`` and of experiments as one HTML page.

    The page includes its styles, data and plotly.js (about 5 MB) and loads nothing else; its
    content security policy forbids that.

    Args:
        path: the file to write; its folder is created if needed.
        runs: name -> the contents of a run's ``metrics.json``; the others are compared with the
            first. May be empty.
        experiment: the search to show, or several: an overview, then each.
        title: title of the page.

    Returns:
        The path of the file.

    Raises:
        UserError: there is nothing to show, or the file cannot be written.
    """
    if experiment is None:
        listed = []
    else:
        listed = list(experiment) if isinstance(experiment, Sequence) else [experiment]
    if not runs and not listed:
        raise UserError("a report needs at least one run or an experiment: name a run directory")
    target = Path(path)
    shown = [
        _Shown.of(index, words.snapshot_of(one, importances=True))
        for index, one in enumerate(listed)
    ]
    snapshots = {one.snapshot.name: one.snapshot for one in shown}
    side_by_side = overview(snapshots) if len(shown) > 1 else []
    closer = plots.of_runs(runs)
    drawn = [*closer, *(plot for one in shown for plot in one.plots)]
    if title is None:
        *others, last = list(snapshots) or list(runs)
        title = f"{', '.join(others)} and {last}" if others else last
    text = _TEMPLATES.get_template("page.html.j2").render(
        title=title,
        sentences=sentences(runs),
        warnings=warnings(runs),
        runs=runs,
        lines=figures.compare(runs),
        closer=closer,
        noise_curves=plots.noise_curves(runs),
        layer_tables={name: layers_of(run) for name, run in runs.items()},
        layer_columns=LAYER_COLUMNS,
        settings=_settings_table(runs),
        experiments=shown,
        overview=side_by_side,
        overview_metrics=metrics_of(side_by_side),
        anchors={one.snapshot.name: f"#{one.key}experiment" for one in shown},
        listed_failures=_LISTED_FAILURES,
        words=words,
        units=units,
        provenance=PROVENANCE,
        metric_provenance=metric_provenance,
        dark=json.dumps(DARK),
        # The plots' JSON and plotly.js hold no "</script": the first by escaping, see Plot.json.
        plots=[(plot.key, Markup(plot.json)) for plot in drawn],
        plotly=Markup(plotly_js().replace("</script", "<\\/script")) if drawn else "",
        script=Markup(asset("theme.js", "plots.js", "choice.js").decode()),
        version=gossamer.__version__,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    write_page(target, text)
    return target


def _opened(source: object) -> list[Experiment | Snapshot] | None:
    """Return the experiments of ``source``; None if it is a run directory."""
    if isinstance(source, (str, os.PathLike)):
        address = named_storage(source)
        if address is None and Path(source).suffix.lower() != ".toml":
            return None
        from gossamer.search import Experiment
        from gossamer.search.schema import stored_names

        if address is None:
            return [Experiment.from_toml(source)]
        # Without any, opening says why.
        names: list[str | None] = [*stored_names(address)]
        return [Experiment.from_storage(address, one) for one in names or [None]]
    from gossamer.search import Experiment, Snapshot

    if isinstance(source, (Experiment, Snapshot)):
        return [source]
    raise UserError(
        f"a report is made of run directories and experiments, not of {type(source).__name__}"
    )


def report(
    *sources: str | os.PathLike[str] | Experiment | Snapshot,
    output: str | os.PathLike[str] = "report.html",
    title: str | None = None,
) -> Path:
    """Write the report of run directories and of experiments.

    Args:
        sources: run directories, which are named by their folders and compared with the first;
            and experiments: objects, TOML files, or addresses of storages
            (``sqlite:///speech.db``), of which all experiments are shown.
        output: the HTML file to write.
        title: title of the page.

    Returns:
        The path of the file.

    Raises:
        UserError: a source is missing or damaged, two experiments have the same name, there is no
            source, the suffix is not ``.html``, or the page cannot be written. Then an older page
            does not change.
    """
    if Path(output).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {output}: a page's name must end in .html")
    folders: list[str | os.PathLike[str]] = []
    experiments: list[Experiment | Snapshot] = []
    for source in sources:
        opened = _opened(source)
        if opened is not None:
            experiments += opened
        elif isinstance(source, (str, os.PathLike)):
            folders.append(source)
        if isinstance(source, (str, os.PathLike)):
            refuse_overwrite(output, (source, Path(source) / "metrics.json"))
    names = [experiment.name for experiment in experiments]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two experiments are called '{twice}': write one page for each")
    return page(output, named_runs(folders), experiments, title)
