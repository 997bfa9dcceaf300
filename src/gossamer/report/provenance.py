"""Provenance of a figure: counted, measured, or modeled."""

from __future__ import annotations

from typing import Literal

from gossamer.deploy.metrics import METRICS

Provenance = Literal["counted", "measured", "modeled"]

# The meaning of the three tags, printed under every table.
PROVENANCE: dict[Provenance, str] = {
    "counted": "exact, from the network and its operations",
    "measured": "by running the network on data or against a clock",
    "modeled": "an estimate from a model, not a measurement",
}


def metric_provenance(name: str) -> Provenance:
    """Return the provenance of a metric; "measured" for those of a user's function."""
    return METRICS[name].provenance if name in METRICS else "measured"


def is_count(name: str) -> bool:
    """Return whether a metric is a number of things, such as multiply-adds."""
    return name in METRICS and METRICS[name].count
