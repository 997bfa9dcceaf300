"""The figures of one run and their gain over another: one table, read by terminal and page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gossamer.report import energy, units

Run = Mapping[str, Any]
Provenance = Literal["counted", "measured", "modelled"]

# What the three tags mean; printed under every table.
PROVENANCE: dict[Provenance, str] = {
    "counted": "exact, from the network and its operations",
    "measured": "by running the network on data or against a clock",
    "modelled": "an estimate from a model, not a measurement",
}


def value(run: Run, *keys: str) -> float | None:
    """The finite number under nested ``keys``; None where the run does not hold one."""
    found: Any = run
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        return None
    return float(found)


def machine(run: Run) -> str:
    """The machine the run was measured on, in one line; empty when the run does not say."""
    found = run.get("machine", "")
    if isinstance(found, Mapping):
        return ", ".join(units.plain(part) for part in found.values())
    return str(found or "")


@dataclass(frozen=True)
class Cell:
    """A figure as written: the text, a smaller note such as "of 1,716,000", and its value.

    The value is None where there is no figure, and lowest and highest where it is a range.
    """

    text: str
    note: str = ""
    value: float | tuple[float, float] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Gain:
    """What a run gained over the first one; ``good`` is None when nothing changed."""

    text: str
    good: bool | None


@dataclass(frozen=True)
class Row:
    """One figure: how to read it from a run, write it and compare it.

    ``words`` name a ratio when the figure falls and when it rises ("fewer", "more").
    Without words the figure is a share, and its gain is a difference in points.
    ``same`` lists the keys that must agree for two runs to be comparable, ``meaning`` says
    what the label leaves open.
    """

    label: str
    provenance: Provenance
    better: Literal["higher", "lower"]
    read: Callable[[Run], float | None]
    write: Callable[[float], str]
    words: tuple[str, str] | None = None
    note: Callable[[Run], str] = lambda run: ""
    meaning: str = ""
    same: tuple[str, ...] = ()

    def cell(self, run: Run) -> Cell | None:
        """The figure as written; None where the run does not hold it."""
        figure = self.read(run)
        return None if figure is None else Cell(self.write(figure), self.note(run), figure)

    def gain(self, first: Run, run: Run) -> Gain | None:
        """The gain of ``run`` over ``first``; None where the two cannot be compared."""
        before, after = self.read(first), self.read(run)
        if before is None or after is None:
            return None
        if any(first.get(key) != run.get(key) for key in self.same):
            return None
        good = None if after == before else (after > before) == (self.better == "higher")
        if self.words is None:
            points = 100 * (after - before)
            text = "same" if abs(points) < 0.005 else f"{points:+.2f} points".replace("-", "−")
            return Gain(text, None if text == "same" else good)
        if good is None:
            return Gain("same", None)
        if min(before, after) <= 0:
            return None  # no ratio to or from nothing
        ratio = max(before, after) / min(before, after)
        if ratio < 1.005:
            return Gain("same", None)
        return Gain(f"{units.times(ratio)} {self.words[after > before]}", good)


@dataclass(frozen=True)
class EnergyRow:
    """Energy as ratios: of a run to its own layers done densely, and to the first run."""

    memory: str
    label: str
    provenance: Provenance = "modelled"
    meaning: str = "times less than its layers done densely; see docs/energy.md"

    def cell(self, run: Run) -> Cell | None:
        """The range of the ratio to dense layers; None where the run holds no counts."""
        found = energy.against_dense(run, self.memory)
        return None if found is None else Cell(units.spread(*found), value=found)

    def gain(self, first: Run, run: Run) -> Gain | None:
        """The range of the ratio to the first run, doing the same task."""
        found = energy.between(first, run, self.memory)
        if found is None or first.get("task") != run.get("task"):
            return None
        low, high = found
        if low >= 1 / 1.005 and high <= 1.005:
            return Gain("same", None)
        if high <= 1:
            return Gain(f"{units.spread(1 / high, 1 / low)} more", False)
        return Gain(f"{units.spread(low, high)} less", True if low > 1 else None)


def _noise_share(run: Run) -> float | None:
    score, of = value(run, "noise", "score"), value(run, "noise", "of")
    return None if score is None or not of else score / of


def _disturbed_share(run: Run) -> float | None:
    shares = [
        correct / curve["of"]
        for curve in disturbances(run)
        for correct in curve["correct"]
        if curve["of"]
    ]
    return math.fsum(shares) / len(shares) if shares else None


def disturbances(run: Run) -> list[Mapping[str, Any]]:
    """The robustness curves of a run; empty when it did not measure them."""
    listed = run.get("robustness") or ()
    keys = ("name", "unit", "levels", "correct", "of")
    return [c for c in listed if isinstance(c, Mapping) and all(key in c for key in keys)]


def _disturbed(run: Run) -> str:
    curves = disturbances(run)
    return f"mean over {len(curves)} kinds, {units.whole(curves[0]['of'])} examples each"


def _part(*keys: str, whole: tuple[str, ...]) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        part, total = value(run, *keys), value(run, *whole)
        return None if part is None or not total else part / total

    return read


def _of(part: tuple[str, ...], whole: tuple[str, ...], what: str = "") -> Callable[[Run], str]:
    def note(run: Run) -> str:
        some, total = value(run, *part), value(run, *whole)
        if some is None or total is None:
            return ""
        return f"{units.whole(some)} of {units.whole(total)}{what}"

    return note


def _total(*keys: str) -> Callable[[Run], str]:
    def note(run: Run) -> str:
        total = value(run, *keys)
        return "" if total is None else f"of {units.whole(total)}"

    return note


def _training_seconds(run: Run) -> float | None:
    history = run.get("history")
    if not isinstance(history, Sequence) or isinstance(history, str):
        return None
    spent = [value(epoch, "seconds") for epoch in history if isinstance(epoch, Mapping)]
    known = [seconds for seconds in spent if seconds is not None]
    return math.fsum(known) if known and len(known) == len(history) else None


def _epochs(run: Run) -> str:
    epochs = value(run, "epochs")
    return "" if epochs is None else f"{units.whole(epochs)} epoch{'' if epochs == 1 else 's'}"


def _read(*keys: str) -> Callable[[Run], float | None]:
    return lambda run: value(run, *keys)


def _engine(run: Run) -> str:
    """What the engine was measured with."""
    threads, engine = value(run, "engine", "threads"), run.get("engine")
    if threads is None or not isinstance(engine, Mapping):
        return ""
    parts, isa = machine(run), str(engine.get("isa", ""))
    return ", ".join(
        filter(None, (f"{units.whole(threads)} thread", isa if isa not in parts else "", parts))
    )


_DATA = ("task", "split", "examples")

ACCURACY = Row(
    "Accuracy",
    "measured",
    "higher",
    _read("accuracy"),
    units.percent,
    note=_of(("correct",), ("examples",)),
    same=("task", "split"),
)
NONZERO = Row(
    "Non-zero weights",
    "counted",
    "lower",
    _read("weights", "nonzero"),
    units.whole,
    words=("fewer", "more"),
    note=_total("weights", "total"),
)
OPERATIONS = Row(
    "Multiply-adds, weights × activations",
    "counted",
    "lower",
    _read("macs", "both"),
    units.short,
    words=("fewer", "more"),
    meaning="both operands non-zero",
)

ROWS: tuple[Row | EnergyRow, ...] = (
    ACCURACY,
    Row(
        "Accuracy, same weights in 32 bits",
        "measured",
        "higher",
        _read("float_accuracy"),
        units.percent,
        meaning="of a network with 8-bit layers; all else is of 8 bits",
        same=("task", "split"),
    ),
    Row(
        "Loss",
        "measured",
        "lower",
        _read("loss"),
        lambda loss: f"{loss:.4f}",
        words=("lower", "higher"),
        same=("task", "split"),
    ),
    Row(
        "Noise score",
        "measured",
        "higher",
        _noise_share,
        units.percent,
        note=_of(("noise", "score"), ("noise", "of")),
        same=_DATA,
    ),
    Row(
        "Accuracy, corrupted or in background noise",
        "measured",
        "higher",
        _disturbed_share,
        units.percent,
        note=_disturbed,
        same=_DATA,
    ),
    NONZERO,
    Row(
        "Weight density, sparsifiable layers",
        "counted",
        "lower",
        _read("weights", "density"),
        units.percent,
        words=("lower", "higher"),
    ),
    Row(
        "Weight density, all parameters",
        "counted",
        "lower",
        _part("weights", "parameters_nonzero", whole=("weights", "parameters")),
        units.percent,
        words=("lower", "higher"),
        note=_of(("weights", "parameters_nonzero"), ("weights", "parameters")),
    ),
    Row(
        "Activation density",
        "measured",
        "lower",
        _read("activations", "density"),
        units.percent,
        words=("lower", "higher"),
        same=("task",),
    ),
    Row(
        "Multiply-adds, dense",
        "counted",
        "lower",
        _read("macs", "dense"),
        units.short,
        words=("fewer", "more"),
        meaning="every weight, zero or not",
    ),
    Row(
        "Multiply-adds, weights only",
        "counted",
        "lower",
        _read("macs", "weights"),
        units.short,
        words=("fewer", "more"),
        meaning="non-zero weights",
    ),
    OPERATIONS,
    Row(
        "Parameters' bytes",
        "counted",
        "lower",
        _read("weights", "bytes"),
        units.storage,
        words=("smaller", "larger"),
        meaning="zeros of sparse layers as one bit each",
    ),
    Row(
        "Size of model.onnx",
        "counted",
        "lower",
        _read("file_bytes"),
        units.storage,
        words=("smaller", "larger"),
        meaning="the whole file; sparse weights stored sparse",
    ),
    Row(
        "Time per inference, engine, batch 1",
        "measured",
        "lower",
        _read("engine", "seconds", "batch1"),
        units.duration,
        words=("faster", "slower"),
        note=_engine,
        meaning="gossamer's own runtime on model.onnx",
        same=("machine",),
    ),
    Row(
        "Time per inference, engine, batch 64",
        "measured",
        "lower",
        _read("engine", "seconds", "batch64"),
        units.duration,
        words=("faster", "slower"),
        note=_engine,
        meaning="a batch's time over 64",
        same=("machine",),
    ),
    Row(
        "Time per inference, torch, batch 1",
        "measured",
        "lower",
        _read("seconds", "batch1"),
        units.duration,
        words=("faster", "slower"),
        note=machine,
        same=("machine",),
    ),
    *(EnergyRow(memory, f"Energy, weights in {memory}") for memory in energy.MEMORIES),
    Row(
        "Training time",
        "measured",
        "lower",
        _training_seconds,
        units.duration,
        words=("shorter", "longer"),
        note=_epochs,
        same=("machine",),
    ),
)

# Metrics of an experiment whose names say where they come from.
_METRICS: dict[str, Provenance] = {
    "accuracy": "measured",
    "loss": "measured",
    "noise_score": "measured",
    "activation_density": "measured",
    "seconds": "measured",
    "density": "counted",
    "weight_density": "counted",
    "nonzero": "counted",
    "macs": "counted",
    "bytes": "counted",
    "energy": "modelled",
}


def metric_provenance(name: str) -> Provenance:
    """How a metric of that name is known; "measured" for what a user's own training returns."""
    return _METRICS.get(name, "measured")


@dataclass(frozen=True)
class Line:
    """A row filled in: one cell per run, one gain per run after the first.

    ``note`` is what the notes of all runs agree on; it stands beside the label, said once.
    """

    label: str
    meaning: str
    note: str
    provenance: Provenance
    cells: tuple[Cell, ...]
    gains: tuple[Gain | None, ...]


def compare(runs: Mapping[str, Run]) -> list[Line]:
    """The side-by-side figures of ``runs``; rows that no run holds are left out."""
    listed = list(runs.values())
    lines = []
    for row in ROWS:
        found = [row.cell(run) for run in listed]
        if all(cell is None for cell in found):
            continue
        cells = tuple(cell or Cell(units.NOTHING) for cell in found)
        notes = {cell.note for cell in cells}
        shared = notes.pop() if len(cells) > 1 and len(notes) == 1 else ""
        if shared:
            cells = tuple(Cell(cell.text, value=cell.value) for cell in cells)
        gains = tuple(row.gain(listed[0], run) for run in listed[1:])
        lines.append(Line(row.label, row.meaning, shared, row.provenance, cells, gains))
    return lines


@dataclass(frozen=True)
class Layer:
    """One sparsifiable layer of a run; multiply-adds are per inference."""

    name: str
    kind: str
    weights: float | None
    nonzero: float | None
    density: float | None
    input_density: float | None
    dense: float | None
    weights_only: float | None
    both: float | None


def layers(run: Run) -> list[Layer]:
    """The layers of a run, in the network's order; empty when the run lists none."""
    listed = run.get("layers") or ()
    return [
        Layer(
            str(layer.get("name", "")),
            str(layer.get("kind", "")),
            value(layer, "weights"),
            value(layer, "nonzero"),
            value(layer, "density"),
            value(layer, "input_density"),
            value(layer, "macs_dense"),
            value(layer, "macs_weights"),
            value(layer, "macs_both"),
        )
        for layer in listed
        if isinstance(layer, Mapping)
    ]


# Columns of the per-layer tables: heading, how known, how to write a layer's cell.
LAYER_COLUMNS: tuple[tuple[str, Provenance, Callable[[Layer], str]], ...] = (
    ("Weights", "counted", lambda layer: _written(layer.weights, units.whole)),
    ("Non-zero", "counted", lambda layer: _written(layer.nonzero, units.whole)),
    ("Density", "counted", lambda layer: _written(layer.density, units.percent)),
    ("Input density", "measured", lambda layer: _written(layer.input_density, units.percent)),
    ("Multiply-adds, dense", "counted", lambda layer: _written(layer.dense, units.short)),
    ("weights only", "counted", lambda layer: _written(layer.weights_only, units.short)),
    ("weights × activations", "counted", lambda layer: _written(layer.both, units.short)),
)


def _written(figure: float | None, write: Callable[[float], str]) -> str:
    return units.NOTHING if figure is None else write(figure)


def sentences(runs: Mapping[str, Run]) -> list[str]:
    """The gains in words, one sentence per run after the first; of the only run when alone."""
    if not runs:
        return []
    (first_name, first), *others = runs.items()
    if not others:
        accuracy, nonzero = ACCURACY.read(first), NONZERO.read(first)
        parts = [] if accuracy is None else [f"reaches {units.percent(accuracy)} accuracy"]
        if nonzero is not None:
            note = NONZERO.note(first)
            parts.append(f"{units.whole(nonzero)} {f'{note} ' if note else ''}weights non-zero")
            parts = [" with ".join(parts) if accuracy is not None else f"has {parts[0]}"]
        return [f"The {first_name} network {parts[0]}."] if parts else []
    written = []
    for name, run in others:
        reached, before = ACCURACY.read(run), ACCURACY.read(first)
        parts = []
        for row, what in ((NONZERO, "non-zero weights"), (OPERATIONS, "non-zero multiply-adds")):
            gain = row.gain(first, run)
            if gain is not None:
                parts.append(f"as many {what}" if gain.good is None else f"{gain.text} {what}")
        start = "comes"
        if reached is not None:
            beside = "" if before is None else f" ({first_name}: {units.percent(before)})"
            start = f"reaches {units.percent(reached)} accuracy{beside}"
        if parts:
            written.append(f"The {name} network {start} with {' and '.join(parts)}.")
        elif reached is not None:
            written.append(f"The {name} network {start}.")
    return written


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """What a reader must know before comparing: synthetic data, differing tasks or machines."""
    said = []
    synthetic = sorted({str(run.get("task")) for run in runs.values() if run.get("synthetic")})
    if synthetic:
        said.append(
            f"Synthetic data: the examples of {', '.join(synthetic)} are computer-made. "
            "The figures show the method at work, not what it reaches on real data."
        )
    for name, run in runs.items():
        engine = run.get("engine")
        if isinstance(engine, Mapping) and engine.get("refused"):
            said.append(f"The engine cannot run the {name} network: {engine['refused']}.")
    tasks = {(str(run.get("task")), str(run.get("split"))) for run in runs.values()}
    if len(tasks) > 1:
        listed = ", ".join(sorted(f"{task} ({split})" for task, split in tasks))
        said.append(f"The runs were tested on different data, not compared: {listed}.")
    if len({machine(run) for run in runs.values()}) > 1:
        said.append("The runs were timed on different machines, so times are not compared.")
    return said
