"""The report in the terminal: rich tables that say how every figure is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gossamer.report import figures, units
from gossamer.report.sources import ExperimentLike, FrontierLike
from gossamer.report.study import Metric, Study, Trial, study

# The frontier's tables are to fit the usual terminal, and a pipe, which rich takes for one.
_COLUMNS = 80


def plain_table(title: str, caption: str = "") -> Table:
    """An empty table in the style of all of them."""
    # No lines between columns: the figures are to fit into 80 columns.
    return Table(
        title=Text(title, "bold") if title else None,
        caption=Text(caption) if caption else None,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _heading(text: str, below: str = "") -> Text:
    # Text objects, not markup: names come from the user and may hold brackets.
    return Text.assemble(text, ("\n" + below, "dim") if below else "")


def _cell(cell: figures.Cell) -> Text:
    return _heading(cell.text, cell.note)


def _gain(gain: figures.Gain | None) -> Text:
    if gain is None:
        return Text(units.NOTHING, "dim")
    return Text(gain.text, {True: "green", False: "yellow", None: "dim"}[gain.good])


def table(runs: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """The figures of ``runs`` side by side, and what each run gained over the first.

    Args:
        runs: name -> the contents of a run's ``metrics.json``; the first run is the
            one that the others are compared with.
        title: written above the table.
    """
    names = list(runs)
    lines = figures.compare(runs)
    caption = " ".join(figures.warnings(runs))
    shown = plain_table(title, caption)
    shown.add_column("Figure")
    shown.add_column("How known", style="dim")
    for name in names:
        shown.add_column(_heading(name), justify="right")
    for name in names[1:]:
        shown.add_column(_heading("Gain" if len(names) == 2 else f"Gain, {name}"))
    for line in lines:
        shown.add_row(
            _heading(line.label, line.note),
            line.provenance,
            *(_cell(cell) for cell in line.cells),
            *(_gain(gain) for gain in line.gains),
        )
    return shown


def layer_table(run: Mapping[str, Any], title: str = "") -> Table:
    """The layers of one run: weights, densities and multiply-adds per inference.

    Args:
        run: the contents of a run's ``metrics.json``.
        title: written above the table.
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
    for layer in figures.layers(run):
        written = (write(layer) for _, _, write in figures.LAYER_COLUMNS)
        shown.add_row(Text(layer.name), Text(layer.kind), *written)
    return shown


def _value(metric: Metric, trial: Trial) -> Text:
    value = trial.values[metric.name]
    return Text(units.plain(value), "" if metric.inside(value) else "red")


def _side_by_side(read: Study, trials: Sequence[Trial]) -> Table:
    shown = plain_table("")
    shown.add_column("Trial", overflow="fold")
    for trial in trials:
        shown.add_column(str(trial.number), justify="right", overflow="fold")
    for metric in read.metrics:
        below = ", ".join(filter(None, (metric.goal, metric.limit, metric.provenance)))
        shown.add_row(
            _heading(metric.name, below),
            *(_value(metric, trial) for trial in trials),
            end_section=metric is read.metrics[-1],
        )
    for parameter in read.parameters:
        written = (Text(trial.written(parameter.name)) for trial in trials)
        shown.add_row(Text(parameter.name), *written)
    return shown


def _blocks(read: Study) -> Iterator[Table]:
    """The frontier in tables of as many trials as fit unbroken, but at least one."""
    # Measured where there is room for everything: a narrow console would cap the widths.
    room = Console(width=10_000)
    block: list[Trial] = []
    for trial in read.frontier:
        wider = _side_by_side(read, [*block, trial])
        if block and Measurement.get(room, room.options, wider).maximum > _COLUMNS:
            yield _side_by_side(read, block)
            block = []
        block.append(trial)
    if block:
        yield _side_by_side(read, block)


def frontier_table(frontier: FrontierLike, experiment: ExperimentLike) -> Group:
    """The frontier's trials with their parameters, a column each, best first.

    Names stand in rows, since experiments have many parameters with long names and frontiers
    few trials; trials that do not fit 80 columns beside the others follow in further tables.
    When no trial is inside the thresholds these are the nearest ones: the title says so, and
    the values that miss their threshold are red.
    """
    read = study(experiment, frontier)
    return Group(Text(f"{read.name}: {read.verdict}", "bold"), *_blocks(read))
