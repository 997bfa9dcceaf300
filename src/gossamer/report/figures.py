"""The table of a run's figures and their gains over another run, for terminal and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gossamer.deploy.metrics import METRICS, Run, read
from gossamer.energy import MEMORIES
from gossamer.report import metrics_reader as reader
from gossamer.report import units
from gossamer.report.figure_row import Cell, EnergyRow, Gain, Row
from gossamer.report.provenance import Provenance

_DATA = ("task", "split", "examples")
_NOISE = ("noise", "score"), ("noise", "of")
_PARAMETERS = ("weights", "parameters_nonzero"), ("weights", "parameters")

_accuracy = partial(
    Row, provenance="measured", better="higher", write=units.percent, same=("task", "split")
)
_fewer = partial(Row, provenance="counted", better="lower", words=("fewer", "more"))
_density = partial(Row, better="lower", write=units.percent, words=("lower", "higher"))
_smaller = partial(
    Row, provenance="counted", better="lower", write=units.storage, words=("smaller", "larger")
)
_timed = partial(
    Row,
    provenance="measured",
    better="lower",
    write=units.duration,
    words=("faster", "slower"),
    same=("machine",),
)

ACCURACY = _accuracy("Accuracy", read=read("accuracy"), note=reader.accuracy_note)
NONZERO = _fewer(
    "Non-zero weights",
    read=read("weights", "nonzero"),
    write=units.whole,
    note=reader.total_note("weights", "total"),
)
OPERATIONS = _fewer(
    "Multiply-adds, weights × activations",
    read=read("macs", "both"),
    write=units.short,
    meaning="both operands non-zero",
)

ROWS: tuple[Row | EnergyRow, ...] = (
    ACCURACY,
    _accuracy(
        "Accuracy, same weights in 32 bits",
        read=read("float_accuracy"),
        meaning="of a network with 8-bit layers; all else is of 8 bits",
    ),
    Row(
        "Loss",
        "measured",
        "lower",
        read("loss"),
        lambda loss: f"{loss:.4f}",
        words=("lower", "higher"),
        same=("task", "split"),
    ),
    _accuracy(
        "Noise score", read=reader.share(*_NOISE), note=reader.share_note(*_NOISE), same=_DATA
    ),
    _accuracy(
        "Accuracy, corrupted or in background noise",
        read=reader.disturbed_share,
        note=reader.disturbed_note,
        same=_DATA,
    ),
    NONZERO,
    _density(
        "Weight density, sparsifiable layers",
        provenance="counted",
        read=read("weights", "density"),
    ),
    _density(
        "Weight density, all parameters",
        provenance="counted",
        read=reader.share(*_PARAMETERS),
        note=reader.share_note(*_PARAMETERS),
    ),
    _density(
        "Activation density",
        provenance="measured",
        read=read("activations", "density"),
        same=("task",),
    ),
    _fewer(
        "Dead units",
        provenance="measured",
        read=read("activations", "dead"),
        write=units.whole,
        note=reader.total_note("activations", "units"),
        meaning="never active on the data",
        same=("task",),
    ),
    _accuracy(
        "Duty-cycle entropy",
        read=read("activations", "entropy"),
        meaning="of the most possible: every unit of a layer active equally often",
        same=("task",),
    ),
    _fewer(
        "Multiply-adds, dense",
        read=read("macs", "dense"),
        write=units.short,
        meaning="every weight, zero or not",
    ),
    _fewer(
        "Multiply-adds, weights only",
        read=read("macs", "weights"),
        write=units.short,
        meaning="non-zero weights",
    ),
    OPERATIONS,
    _smaller(
        "Parameters' bytes",
        read=read("weights", "bytes"),
        meaning="zeros of sparse layers as one bit each",
    ),
    _smaller(
        "Size of model.onnx",
        read=read("file_bytes"),
        meaning="the whole file; sparse weights stored sparse",
    ),
    Row(
        "Speedup, engine, batch 1",
        "measured",
        "higher",
        METRICS["speedup"].read,
        units.times,
        words=("lower", "higher"),
        note=reader.speedup_note,
        meaning="time of the dense network over its own, in turns in one process",
        same=("machine",),
    ),
    _timed(
        "Time, engine, batch 1",
        read=read("engine", "seconds", "batch1"),
        note=reader.engine_note,
        meaning="per inference, gossamer's own runtime on model.onnx",
    ),
    _timed(
        "Time, engine, batch 64",
        read=read("engine", "seconds", "batch64"),
        note=reader.engine_note,
        meaning="a batch's time over 64",
    ),
    _timed(
        "Time, torch, batch 1",
        read=read("seconds", "batch1"),
        note=reader.machine,
        meaning="per inference",
    ),
    *(EnergyRow(memory, f"Energy, weights in {memory}") for memory in MEMORIES),
    _timed(
        "Training time",
        read=reader.training_seconds,
        words=("shorter", "longer"),
        note=reader.epochs_note,
    ),
)

TIME = "Time, engine, batch 1"

# Rows of a brief table.
MAIN = frozenset(
    {
        "Accuracy",
        "Non-zero weights",
        "Activation density",
        "Multiply-adds, weights × activations",
        "Size of model.onnx",
        "Speedup, engine, batch 1",
        TIME,
        "Time, engine, batch 64",
        "Energy, weights in DRAM",
        "Training time",
    }
)


@dataclass(frozen=True)
class Line:
    """A row of a table: one cell per run, and one gain per run after the first.

    ``note`` is the note that all runs have in common; it is shown once, next to the label.
    """

    label: str
    meaning: str
    note: str
    provenance: Provenance
    cells: tuple[Cell, ...]
    gains: tuple[Gain | None, ...]


def main_lines(lines: Sequence[Line]) -> list[Line]:
    """Return the lines of :data:`MAIN`, without notes."""
    return [
        replace(line, note="", cells=tuple(replace(cell, note="") for cell in line.cells))
        for line in lines
        if line.label in MAIN
    ]


def compare(runs: Mapping[str, Run]) -> list[Line]:
    """Return the side-by-side figures of ``runs``, without rows that no run has."""
    listed = list(runs.values())
    lines = []
    for row in ROWS:
        filled = [row.cell(run) for run in listed]
        if all(cell is None for cell in filled):
            continue
        cells = tuple(cell or Cell(units.NOTHING) for cell in filled)
        notes = {cell.note for cell in cells}
        shared = notes.pop() if len(cells) > 1 and len(notes) == 1 else ""
        if shared:
            cells = tuple(Cell(cell.text, value=cell.value) for cell in cells)
        gains = tuple(row.gain(listed[0], run) for run in listed[1:])
        lines.append(Line(row.label, row.meaning, shared, row.provenance, cells, gains))
    return lines
