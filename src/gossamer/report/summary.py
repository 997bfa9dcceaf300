"""A summary of runs in sentences: gains, and warnings before a comparison."""

from __future__ import annotations

from collections.abc import Mapping

from gossamer.deploy.metrics import Run
from gossamer.report import units
from gossamer.report.figures import ACCURACY, NONZERO, OPERATIONS
from gossamer.report.metrics_reader import machine


def sentences(runs: Mapping[str, Run]) -> list[str]:
    """Return a sentence of gains for each run after the first; of a single run, its figures."""
    if not runs:
        return []
    (first_name, first), *others = runs.items()
    if not others:
        accuracy, nonzero = ACCURACY.read(first), NONZERO.read(first)
        parts = (
            [] if accuracy is None else [f"reaches {units.percent(accuracy)} {_accuracy(first)}"]
        )
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
            start = f"reaches {units.percent(reached)} {_accuracy(run)}{beside}"
        if parts:
            written.append(f"The {name} network {start} with {' and '.join(parts)}.")
        elif reached is not None:
            written.append(f"The {name} network {start}.")
    return written


def _accuracy(run: Run) -> str:
    """Write the name of the accuracy, such as "test accuracy"."""
    return f"{run['split']} accuracy" if run.get("split") else "accuracy"


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """Return warnings before a comparison: synthetic data, differing tasks or machines."""
    notes = []
    synthetic = sorted({str(run.get("task")) for run in runs.values() if run.get("synthetic")})
    if synthetic:
        notes.append(
            f"Synthetic data: the examples of {', '.join(synthetic)} are computer-made. "
            "The figures show the method at work, not what it reaches on real data."
        )
    for name, run in runs.items():
        engine = run.get("engine")
        if isinstance(engine, Mapping) and engine.get("refused"):
            notes.append(f"The engine cannot run the {name} network: {engine['refused']}.")
    tasks = {(str(run.get("task")), str(run.get("split"))) for run in runs.values()}
    if len(tasks) > 1:
        listed = ", ".join(sorted(f"{task} ({split})" for task, split in tasks))
        notes.append(f"The runs were tested on different data, not compared: {listed}.")
    if len({machine(run) for run in runs.values()}) > 1:
        notes.append("The runs were timed on different machines, so times are not compared.")
    return notes
