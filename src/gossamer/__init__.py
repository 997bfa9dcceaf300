"""gossamer finds, trains and runs sparse neural networks.

Public names are resolved when first used, so that importing ``gossamer.runtime``
needs neither torch nor any other part.
"""

from __future__ import annotations

import importlib
from typing import Any

from gossamer.extras import needed

__version__ = "0.1.0"

# Module -> the public names it defines.
_DEFINED = {
    "sparsity": (
        "Sparsifier",
        "Unstructured",
        "FanIn",
        "Block",
        "NM",
        "Uniform",
        "ERK",
        "PerLayer",
        "Global",
        "Constant",
        "Cubic",
        "Phases",
        "Static",
        "SET",
        "RigL",
        "Magnitude",
        "GraNet",
        "ACDC",
        "TopK",
        "prune",
        "rearrange",
        "mu_parametrize",
        "accelerate_sparse",
    ),
    "nn": (
        "AnnealActivations",
        "KWinners",
        "KWinners2d",
        "Threshold",
        "calibrate",
        "decay_boost",
        "export",
        "to_deterministic",
        "quantize",
        "sparsify_activations",
        "to_variational",
    ),
    "data": ("Task", "load"),
    "training": ("Recipe", "TrainingConfig", "evaluate", "fit", "train"),
    "runtime": ("Engine",),
    "energy": ("EnergyMeter", "EnergyModel"),
    "deploy": ("compile",),
    "search": (
        "Experiment",
        "Maximize",
        "Minimize",
        "Float",
        "Int",
        "Grid",
        "Choice",
        "Prior",
        "AtLeast",
        "AtMost",
        "WarmStart",
        "LinearConstraint",
        "Command",
        "Fidelity",
        "OutOfReach",
        "Violated",
        "Dominated",
        "Halving",
        "TrialStopped",
    ),
}
_PUBLIC = {name: f"gossamer.{room}" for room, names in _DEFINED.items() for name in names}

_ROOMS = (
    "sparsity",
    "nn",
    "models",
    "data",
    "training",
    "search",
    "runtime",
    "energy",
    "deploy",
    "report",
)

__all__ = [*_PUBLIC, *_ROOMS]


def __getattr__(name: str) -> Any:
    with needed(f"gossamer.{name}"):
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        if name in _ROOMS:
            return importlib.import_module(f"gossamer.{name}")
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
