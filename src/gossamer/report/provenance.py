"""Provenance of a figure: counted, measured, or modeled."""

from __future__ import annotations

from typing import Literal

from gossamer.deploy.metrics import METRICS

Provenance = Literal["counted", "measured", "modeled"]

# What the three tags mean; printed under every table.
PROVENANCE: dict[Provenance, str] = {
    "counted": "exact, from the network and its operations",
    "measured": "by running the network on data or against a clock",
    "modeled": "an estimate from a model, not a measurement",
}


def metric_provenance(name: str) -> Provenance:
    """Provenance of a metric by name; "measured" for what a user's own training returns."""
    return METRICS[name].provenance if name in METRICS else "measured"
