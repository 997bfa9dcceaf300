"""The report as one self-contained HTML page that asks nothing of the network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

import gossamer
from gossamer.errors import UserError
from gossamer.files import refuse_overwrite, write_text
from gossamer.report import figures, plots, units
from gossamer.report.layers import LAYER_COLUMNS, layers_of
from gossamer.report.pages import plotly_js, templates_of
from gossamer.report.provenance import PROVENANCE
from gossamer.report.readings import machine
from gossamer.report.sources import ExperimentLike, is_experiment, named_runs
from gossamer.report.study import Study, importances, study
from gossamer.report.words import sentences, warnings

_TEMPLATES = templates_of("gossamer.report")


def _breakable(name: str) -> Markup:
    """A dotted or underscored name that may break after its signs, and nowhere else."""
    return Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(name))))


_TEMPLATES.filters["breakable"] = _breakable
# Failed trials listed one by one; beyond it they are only counted, by reason.
_LISTED_FAILURES = 50


@dataclass(frozen=True)
class _ExperimentPart:
    """What the page shows of an experiment."""

    study: Study
    scatters: list[plots.Plot]
    history: list[plots.Plot]
    parallel: plots.Plot | None
    importances: list[plots.Plot]
    settings: list[tuple[str, str]]
    failures: list[tuple[str, list[int]]]

    @property
    def counts(self) -> str:
        """How many trials there are, of how many, and what became of them."""
        read = self.study
        parts = [f"{len(read.trials):,} complete"]
        if read.thresholds:
            parts.append(f"{read.inside:,} inside the thresholds")
        if read.cheaper:
            parts.append(f"{read.cheaper:,} of a cheaper task")
        parts.append(f"{len(read.failures):,} failed")
        if read.stopped:
            parts.append(f"{len(read.stopped):,} stopped early")
        if read.waiting:
            parts.append(f"{read.waiting:,} not ended")
        ended = len(read.trials) + read.cheaper + len(read.failures) + len(read.stopped)
        total = ended + read.waiting
        of = "" if read.budget is None else f" of {read.budget:,}"
        return f"{total:,}{of} trials: {', '.join(parts)}"


def _experiment_part(experiment: ExperimentLike) -> _ExperimentPart:
    read = study(experiment)
    reasons: dict[str, list[int]] = {}
    for failure in read.failures:
        reasons.setdefault(failure.reason, []).append(failure.number)
    return _ExperimentPart(
        study=read,
        scatters=plots.scatters(read),
        history=plots.history(read),
        parallel=plots.parallel(read),
        importances=plots.importances(importances(experiment, read)),
        settings=flat(read.settings),
        failures=sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])),
    )


def flat(settings: Mapping[str, Any], under: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and written values, in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{under}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        else:
            rows.append((name, units.plain(value)))
    return rows


def _settings_table(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Settings by name with one value per run; a dash where a run does not set one."""
    about = ("task", "source", "model", "split", "examples", "seed", "epochs")
    columns = []
    for run in runs.values():
        said = {key: run[key] for key in about if run.get(key) is not None}
        if machine(run):
            said["machine"] = machine(run)
        settings = run.get("settings")
        columns.append(dict(flat(said) + flat(settings if isinstance(settings, Mapping) else {})))
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, units.NOTHING) for column in columns]) for name in names]


def _parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"folder {path.parent} cannot be made ({error.strerror}): choose another -o"
        ) from None


def write_page(path: Path, text: str) -> None:
    """Write ``text``, in a new folder where it is missing."""
    _parents(path)
    write_text(path, text)


def page(
    path: str | os.PathLike[str],
    runs: Mapping[str, Mapping[str, Any]],
    experiment: ExperimentLike | None = None,
    title: str | None = None,
) -> Path:
    """Write the report of ``runs`` and of an experiment as one HTML page.

    The page holds its styles, its data and plotly.js (about 5 MB) and loads nothing from
    anywhere; a content security policy in it forbids the browser to.

    Args:
        path: the file to write; its folder is made when missing.
        runs: name -> the contents of a run's ``metrics.json``. The first run is the one the
            others are compared with. May be empty.
        experiment: the search to show; any object that answers `ExperimentLike`.
        title: of the page.

    Returns:
        The file written.

    Raises:
        UserError: there is nothing to show, or the file cannot be written.
    """
    if not runs and experiment is None:
        raise UserError("a report needs at least one run or an experiment: name a run directory")
    target = Path(path)
    part = None if experiment is None else _experiment_part(experiment)
    curve = plots.noise(runs)
    disturbed = plots.disturbed(runs)
    bars = plots.layers(runs)
    drawn: list[plots.Plot] = [*([curve] if curve else []), *disturbed, *bars]
    if part is not None:
        drawn += [*part.scatters, *part.history, *part.importances]
        drawn += [part.parallel] if part.parallel else []
    if title is None:
        *others, last = runs or ("",)
        named = f"{', '.join(others)} and {last}" if others else last
        title = part.study.name if part is not None else named
    text = _TEMPLATES.get_template("page.html.j2").render(
        title=title,
        sentences=sentences(runs),
        warnings=warnings(runs),
        runs=runs,
        lines=figures.compare(runs),
        noise=curve,
        disturbed=disturbed,
        noise_curves={name: plots.noise_curve(run) for name, run in runs.items()},
        layer_plots=bars,
        layer_tables={name: layers_of(run) for name, run in runs.items()},
        layer_columns=LAYER_COLUMNS,
        settings=_settings_table(runs),
        part=part,
        listed_failures=_LISTED_FAILURES,
        units=units,
        provenance=PROVENANCE,
        # The plots' JSON and plotly.js hold no "</script": the first by escaping, see Plot.json.
        plots=[(plot.key, Markup(plot.json)) for plot in drawn],
        plotly=Markup(plotly_js().replace("</script", "<\\/script")) if drawn else "",
        version=gossamer.__version__,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    write_page(target, text)
    return target


def _opened(source: object) -> ExperimentLike | None:
    """The experiment that ``source`` is or names; None when it names a run directory."""
    if is_experiment(source):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise UserError(
            f"a report is made of run directories and experiments, not of {type(source).__name__}"
        )
    name = os.fspath(source)
    address = "://" in str(name)
    if not address and Path(str(name)).suffix.lower() != ".toml":
        return None
    from gossamer.search import Experiment  # only here: optuna is slow to import

    opened: ExperimentLike = (
        Experiment.from_storage(name) if address else Experiment.from_toml(name)
    )
    return opened


def report(
    *sources: str | os.PathLike[str] | ExperimentLike,
    output: str | os.PathLike[str] = "report.html",
    title: str | None = None,
) -> Path:
    """Write the report of run directories and of at most one experiment.

    Args:
        sources: run directories (holding ``metrics.json``; named by their folders, the first
            one is what the others are compared with) and an experiment: the object, its TOML
            file, or the address of its storage (``sqlite:///speech.db``).
        output: the HTML file to write.
        title: of the page.

    Returns:
        The file written.

    Raises:
        UserError: a source is missing or damaged, there are two experiments or no source at
            all, another suffix than ``.html``, or the page cannot be written. An older page stays
            as it is then.
    """
    if Path(output).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {output}: a page's name must end in .html")
    folders: list[str | os.PathLike[str]] = []
    experiments: list[ExperimentLike] = []
    for source in sources:
        experiment = _opened(source)
        if experiment is not None:
            experiments.append(experiment)
        elif isinstance(source, (str, os.PathLike)):
            folders.append(source)
        if isinstance(source, (str, os.PathLike)):
            refuse_overwrite(output, (source, Path(source) / "metrics.json"))
    if len(experiments) > 1:
        raise UserError("a report shows one experiment, two were given: write one page for each")
    return page(output, named_runs(folders), experiments[0] if experiments else None, title)
