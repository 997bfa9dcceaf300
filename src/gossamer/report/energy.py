"""Energy ratios from the work that runs have counted in their ``metrics.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gossamer.energy import MEMORIES, EnergyModel, Work

__all__ = ["MEMORIES", "against_dense", "between"]

_FIELDS = {field.name for field in dataclasses.fields(Work)}
_NEEDED = _FIELDS - {"bits"}  # not in runs made before it was counted


def _works(run: Mapping[str, Any], side: str) -> list[Work]:
    """The counted work of a run, ``own`` or ``dense``; empty where it holds none."""
    counted = run.get("energy")
    listed = counted.get(side) if isinstance(counted, Mapping) else None
    if not isinstance(listed, list):
        return []
    works = [w for w in listed if isinstance(w, Mapping) and _NEEDED <= set(w) <= _FIELDS]
    return [Work(**work) for work in works] if len(works) == len(listed) else []


def _ratio(first: list[Work], second: list[Work], memory: str) -> tuple[float, float] | None:
    if not first or not second:
        return None
    found = EnergyModel().ratio(first, second, memory)
    return found.low, found.high


def against_dense(run: Mapping[str, Any], memory: str) -> tuple[float, float] | None:
    """How many times less energy than the same layers done densely; None without counts."""
    return _ratio(_works(run, "dense"), _works(run, "own"), memory)


def between(
    first: Mapping[str, Any], run: Mapping[str, Any], memory: str
) -> tuple[float, float] | None:
    """How many times less energy ``run`` needs than ``first``; None without counts of both."""
    return _ratio(_works(first, "own"), _works(run, "own"), memory)
