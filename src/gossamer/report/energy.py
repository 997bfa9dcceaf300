"""Energy ratios from the work that runs have counted in their ``metrics.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gossamer.energy import EnergyModel, Work

_FIELDS = {field.name for field in dataclasses.fields(Work)}
_NEEDED = _FIELDS - {"bits"}  # not in runs made before it was counted


def _works(run: Mapping[str, Any], side: str) -> list[Work]:
    """Return the counted work of a run, ``own`` or ``dense``; empty if it has none."""
    counted = run.get("energy")
    listed = counted.get(side) if isinstance(counted, Mapping) else None
    if not isinstance(listed, list):
        return []
    return [Work(**work) for work in listed] if all(map(_is_work, listed)) else []


def _is_work(work: Any) -> bool:
    """Return whether a file's entry is valid counted work."""
    return (
        isinstance(work, Mapping)
        and _NEEDED <= set(work) <= _FIELDS
        and work.get("bits", 32) in (8, 32)
        and all(
            isinstance(work[name], int | float) and 0 <= work[name] < math.inf
            for name in _NEEDED - {"layer", "kind"}
        )
    )


def _ratio(first: list[Work], second: list[Work], memory: str) -> tuple[float, float] | None:
    if not first or not second:
        return None
    try:
        ratio = EnergyModel().ratio(first, second, memory)
    except ZeroDivisionError:  # a file that says so: no network does nothing
        return None
    return ratio.low, ratio.high


def against_dense(run: Mapping[str, Any], memory: str) -> tuple[float, float] | None:
    """Return the energy of the dense layers divided by the run's, a range; None without counts."""
    return _ratio(_works(run, "dense"), _works(run, "own"), memory)


def between(
    first: Mapping[str, Any], run: Mapping[str, Any], memory: str
) -> tuple[float, float] | None:
    """Return the energy of ``first`` divided by that of ``run``, a range; None without counts."""
    return _ratio(_works(first, "own"), _works(run, "own"), memory)
