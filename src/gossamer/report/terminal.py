"""The report in the terminal: rich tables with the provenance of every figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gossamer.report import experiment as words
from gossamer.report import figures, units
from gossamer.report.figure_row import EnergyRow, Gain
from gossamer.report.layers import LAYER_COLUMNS, layers_of
from gossamer.report.provenance import metric_provenance
from gossamer.report.summary import warnings

if TYPE_CHECKING:
    from gossamer.search import Experiment, Snapshot, TrialRecord
    from gossamer.search.metrics import Metric

# The frontier's tables must fit a usual terminal, and a pipe, which rich treats as one.
_COLUMNS = 80
_LABEL = 22  # columns that labels of figures keep, folded
_RUN = 14  # columns of a run beside one other: a longer name is folded

_Item = TypeVar("_Item")


def plain_table(title: str, caption: str = "") -> Table:
    """Return an empty table in the common style."""
    # No lines between columns, so that the figures fit in 80 columns.
    return Table(
        title=Text(title, "bold") if title else None,
        caption=Text(caption) if caption else None,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _heading(text: str, below: str = "") -> Text:
    # Text objects, not markup: names come from the user and may hold brackets.
    return Text.assemble(text, ("\n" + below, "dim") if below else "")


def _gain(gain: Gain | None) -> Text:
    if gain is None:
        return Text(units.NOTHING, "dim")
    return Text(gain.text, {True: "green", False: "yellow", None: "dim"}[gain.good])


def table(runs: Mapping[str, Mapping[str, Any]], title: str = "", *, brief: bool = False) -> Group:
    """Return the figures of ``runs`` side by side, and each run's gain over the first.

    How a figure is known stands below its label, so that two runs and their gain fit in 80 columns;
    gains of more runs stand below their figures. Runs that do not fit beside the first are in
    further tables.

    Args:
        runs: name -> the contents of a run's ``metrics.json``; the others are compared with the
            first.
        title: title above the table.
        brief: show only the main figures, a line each, and the engine's settings below.
    """
    lines, names = figures.compare(runs), list(runs)
    timed = next((line.note for line in lines if line.label == figures.TIME), "")
    if brief:
        lines = figures.main_lines(lines)
    if len(names) <= 2:
        caption = _caption(runs, lines, f"Times: {timed}." if brief and timed else "")
        return Group(_pair(lines, names, title, caption, brief=brief))
    # The first run is in every table, the others in one each.
    beside = partial(_beside_first, lines, names)
    shown = [
        beside(columns, title if columns[0] == 1 else "")
        for columns in _fitting(range(1, len(names)), beside, _COLUMNS + _labels(lines))
    ]
    shown[-1].caption = Text(_caption(runs, lines))
    return Group(*shown)


def _caption(
    runs: Mapping[str, Mapping[str, Any]], lines: Sequence[figures.Line], first: str = ""
) -> str:
    notes = [*([first] if first else []), *warnings(runs)]
    if any(line.meaning == EnergyRow.meaning for line in lines):
        notes.append(f"Energy: {EnergyRow.meaning}.")
    return " ".join(notes)


def _pair(
    lines: Sequence[figures.Line],
    names: Sequence[str],
    title: str,
    caption: str,
    *,
    brief: bool,
) -> Table:
    """Return the table of one or two runs; a ``brief`` one has no second lines, but a column."""
    shown = plain_table(title, caption)
    shown.add_column("Figure")
    if brief:
        shown.add_column("How known", style="dim")
    for column, name in enumerate(names):
        widest = max((len(line.cells[column].text) for line in lines), default=0)
        shown.add_column(
            _heading(name), justify="right", overflow="fold", max_width=max(widest, _RUN)
        )
    if len(names) == 2:
        shown.add_column("Gain")
    for line in lines:
        below = "" if brief else ", ".join(filter(None, (line.provenance, line.note)))
        shown.add_row(
            _heading(line.label, below),
            *([line.provenance] if brief else []),
            *(_heading(cell.text, cell.note) for cell in line.cells),
            *(_gain(gain) for gain in line.gains),
        )
    return shown


def _beside_first(
    lines: Sequence[figures.Line], names: Sequence[str], others: Sequence[int], title: str = ""
) -> Table:
    columns = [0, *others]
    shown = plain_table(title)
    shown.add_column("Figure", min_width=_LABEL)
    for column in columns:
        shown.add_column(_heading(names[column]), justify="right", overflow="fold")
    for line in lines:
        gains = (None, *line.gains)
        cells = []
        for column in columns:
            below = [Text("\n"), _gain(gains[column])] if gains[column] else []
            cells.append(Text.assemble(line.cells[column].text, *below))
        shown.add_row(_heading(line.label, line.provenance), *cells)
    return shown


def _fitting(
    items: Iterable[_Item], shown: Callable[[list[_Item]], Table], most: int
) -> Iterator[list[_Item]]:
    """Yield groups of items whose tables have at most ``most`` columns, at least one item each."""
    block: list[_Item] = []
    for item in items:
        if block and _width(shown([*block, item])) > most:
            yield block
            block = []
        block.append(item)
    if block:
        yield block


def _labels(lines: Sequence[figures.Line]) -> int:
    """Return the number of columns saved by folding the labels."""
    return max((len(line.label) for line in lines), default=_LABEL) - _LABEL


def _width(shown: Table) -> int:
    # Measured where there is room for everything: a narrow console would cap the widths.
    room = Console(width=10_000)
    return Measurement.get(room, room.options, shown).maximum


def layer_table(run: Mapping[str, Any], title: str = "") -> Table:
    """Return the layers of one run: weights, densities and multiply-adds per inference.

    Args:
        run: the contents of a run's ``metrics.json``.
        title: title above the table.
    """
    caption = (
        "Input: density of the layer's input, measured. Dense, weights, both: multiply-adds per "
        "inference of all weights, of the non-zero ones, of those that meet a non-zero input. "
        "All but the input's density are counted."
    )
    shown = plain_table(title, caption)
    shown.add_column("Layer", overflow="fold")
    shown.add_column("Kind")
    for heading in ("Weights", "Non-zero", "Density", "Input", "Dense", "Weights", "Both"):
        shown.add_column(heading, justify="right", overflow="fold")
    for layer in layers_of(run):
        written = (column.text(layer) for column in LAYER_COLUMNS)
        shown.add_row(Text(layer.name), Text(layer.kind), *written)
    return shown


def _value(snapshot: Snapshot, metric: Metric, trial: TrialRecord) -> Text:
    style = "red" if words.missed(metric, trial) else ""
    return Text(words.value(snapshot, metric, trial), style)


def _side_by_side(snapshot: Snapshot, trials: Sequence[TrialRecord]) -> Table:
    shown = plain_table("")
    shown.add_column("Trial", overflow="fold")
    for trial in trials:
        shown.add_column(units.whole(trial.number), justify="right", overflow="fold")
    for metric in snapshot.metrics:
        known = f"{metric_provenance(metric.name)} {words.split(snapshot, metric)}".strip()
        below = ", ".join(filter(None, (words.role(metric), words.limit(metric), known)))
        shown.add_row(
            _heading(metric.name, below),
            *(_value(snapshot, metric, trial) for trial in trials),
            end_section=metric is snapshot.metrics[-1],
        )
    for parameter in snapshot.parameters:
        written = (Text(words.parameter(trial, parameter.name)) for trial in trials)
        shown.add_row(Text(parameter.name), *written)
    if any(trial.continued for trial in trials):
        shown.add_row("times as long", *(str(2**trial.continued) for trial in trials))
    return shown


def frontier_table(experiment: Experiment | Snapshot, *, most: int | None = None) -> Group:
    """Return the frontier's trials with their parameters, a column each, best first.

    Parameters are rows, because experiments have many with long names, and frontiers have few
    trials; trials that do not fit in 80 columns are in further tables. If no trial is inside the
    thresholds, the nearest ones are shown: the title says so, and values that miss their threshold
    are red. If no metric is optimized, those inside that differ most are shown.

    Args:
        experiment: the experiment to show.
        most: the number of trials to show, the best ones; the title counts all.
    """
    snapshot = words.snapshot_of(experiment)
    shown = partial(_side_by_side, snapshot)
    tables = map(shown, _fitting(words.listed(snapshot)[:most], shown, _COLUMNS))
    return Group(Text(f"{snapshot.name}: {words.verdict(snapshot)}", "bold"), *tables)


def trials_table(experiment: Experiment | Snapshot) -> Group:
    """Return all trials by number: state, values, time, and why they failed or were stopped.

    Values that miss their threshold are red. A stopped trial has its expected final values.
    """
    snapshot = words.snapshot_of(experiment)
    shown = plain_table("")
    shown.add_column("Trial", justify="right")
    shown.add_column("State")
    for metric in snapshot.metrics:
        below = " ".join(filter(None, (words.limit(metric), words.split(snapshot, metric))))
        shown.add_column(_heading(metric.name, below), justify="right")
    shown.add_column("Time", justify="right")
    shown.add_column("Note")
    for trial in snapshot.trials:
        known = trial.expected if trial.state == "stopped" else trial.values
        values = (
            _value(snapshot, metric, trial)
            if trial.comparable
            else Text(units.plain(known[metric.name]) if metric.name in known else units.NOTHING)
            for metric in snapshot.metrics
        )
        time = units.NOTHING if trial.seconds is None else units.duration(trial.seconds)
        longer = (
            f"trial {trial.origin}, {2**trial.continued} times as long" if trial.continued else ""
        )
        fidelity = f"fidelity {trial.fidelity}" if trial.fidelity else ""
        note = "; ".join(filter(None, (fidelity, longer, trial.reason, trial.note)))
        shown.add_row(units.whole(trial.number), trial.state, *values, time, Text(note))
    return Group(Text(f"{snapshot.name}: {words.counts(snapshot)}", "bold"), shown)
