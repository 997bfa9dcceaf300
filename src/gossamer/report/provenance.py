"""How a figure is known: counted, measured, or modeled."""

from __future__ import annotations

from typing import Literal

Provenance = Literal["counted", "measured", "modeled"]

# What the three tags mean; printed under every table.
PROVENANCE: dict[Provenance, str] = {
    "counted": "exact, from the network and its operations",
    "measured": "by running the network on data or against a clock",
    "modeled": "an estimate from a model, not a measurement",
}

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
    "energy": "modeled",
}


def metric_provenance(name: str) -> Provenance:
    """How a metric of that name is known; "measured" for what a user's own training returns."""
    return _METRICS.get(name, "measured")
