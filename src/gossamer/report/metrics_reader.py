"""Readers of a run's metrics; they return None or an empty text or list for missing metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.deploy.metrics import Run, value
from gossamer.report import units


def machine(run: Run) -> str:
    """Return the machine that the run was measured on, in one line; empty if unknown."""
    entry = run.get("machine", "")
    if isinstance(entry, Mapping):
        return ", ".join(units.plain(part) for part in entry.values())
    return str(entry or "")


def share(part: tuple[str, ...], whole: tuple[str, ...]) -> Callable[[Run], float | None]:
    """Return a function that reads one number as a share of another."""

    def read_share(run: Run) -> float | None:
        some, total = value(run, *part), value(run, *whole)
        return None if some is None or not total else some / total

    return read_share


def disturbances(run: Run) -> list[Mapping[str, Any]]:
    """Return the robustness curves of a run; empty if it did not measure them."""
    listed = run.get("robustness") or ()
    keys = ("name", "unit", "levels", "correct", "of")
    return [c for c in listed if isinstance(c, Mapping) and all(key in c for key in keys)]


def disturbed_share(run: Run) -> float | None:
    """Return the mean accuracy over all kinds and levels of disturbance."""
    shares = [
        correct / curve["of"]
        for curve in disturbances(run)
        for correct in curve["correct"]
        if curve["of"]
    ]
    return math.fsum(shares) / len(shares) if shares else None


def training_seconds(run: Run) -> float | None:
    """Return the seconds of all epochs together."""
    history = run.get("history")
    if not isinstance(history, Sequence) or isinstance(history, str):
        return None
    spent = [value(epoch, "seconds") for epoch in history if isinstance(epoch, Mapping)]
    known = [seconds for seconds in spent if seconds is not None]
    return math.fsum(known) if known and len(known) == len(history) else None


def share_note(part: tuple[str, ...], whole: tuple[str, ...]) -> Callable[[Run], str]:
    """Return a function that writes a note such as "193,280 of 1,716,000"."""

    def note(run: Run) -> str:
        some, total = value(run, *part), value(run, *whole)
        if some is None or total is None:
            return ""
        return f"{units.whole(some)} of {units.whole(total)}"

    return note


def accuracy_note(run: Run) -> str:
    """Write a note such as "3,876 of 4,000, test"."""
    counted = share_note(("correct",), ("examples",))(run)
    return ", ".join(filter(None, (counted, str(run.get("split") or ""))))


def total_note(*keys: str) -> Callable[[Run], str]:
    """Return a function that writes a note such as "of 1,716,000"."""

    def note(run: Run) -> str:
        total = value(run, *keys)
        return "" if total is None else f"of {units.whole(total)}"

    return note


def disturbed_note(run: Run) -> str:
    """Write the numbers of kinds and levels in the mean of `disturbed_share`."""
    curves = disturbances(run)
    kinds = "kind" if len(curves) == 1 else "kinds"
    return f"mean over {len(curves)} {kinds}, {units.whole(curves[0]['of'])} examples each"


def epochs_note(run: Run) -> str:
    """Write the length of the training."""
    epochs = value(run, "epochs")
    return "" if epochs is None else f"{units.whole(epochs)} epoch{'' if epochs == 1 else 's'}"


def speedup_note(run: Run) -> str:
    """Write the network of the comparison and the spread of repeated measurements."""
    deployed = run.get("deployed")
    spread = value(run, "deployed", "spread", "speedup")
    if not isinstance(deployed, Mapping) or spread is None:
        return ""
    return f"over {deployed.get('reference', 'dense')}, ± {units.percent(spread)}"


def engine_note(run: Run) -> str:
    """Write the settings of the engine's measurement."""
    threads, engine = value(run, "engine", "threads"), run.get("engine")
    if threads is None or not isinstance(engine, Mapping):
        return ""
    parts, isa = machine(run), str(engine.get("isa", ""))
    return ", ".join(
        filter(None, (f"{units.whole(threads)} thread", isa if isa not in parts else "", parts))
    )
