"""gossamer finds, trains and runs sparse neural networks.

Public names are resolved when first used, so that importing ``gossamer.runtime``
needs neither torch nor any other part.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossamer.extras import needed

if TYPE_CHECKING:  # for completion and type checks; the same names as below
    from gossamer import data as data
    from gossamer import deploy as deploy
    from gossamer import energy as energy
    from gossamer import models as models
    from gossamer import nn as nn
    from gossamer import report as report
    from gossamer import runtime as runtime
    from gossamer import search as search
    from gossamer import sparsity as sparsity
    from gossamer import training as training
    from gossamer.data import Task as Task
    from gossamer.data import load as load
    from gossamer.deploy import compile as compile
    from gossamer.energy import EnergyMeter as EnergyMeter
    from gossamer.energy import EnergyModel as EnergyModel
    from gossamer.nn import AnnealActivations as AnnealActivations
    from gossamer.nn import KWinners as KWinners
    from gossamer.nn import KWinners2d as KWinners2d
    from gossamer.nn import Threshold as Threshold
    from gossamer.nn import calibrate as calibrate
    from gossamer.nn import decay_boost as decay_boost
    from gossamer.nn import export as export
    from gossamer.nn import quantize as quantize
    from gossamer.nn import sparsify_activations as sparsify_activations
    from gossamer.nn import to_deterministic as to_deterministic
    from gossamer.nn import to_variational as to_variational
    from gossamer.runtime import Engine as Engine
    from gossamer.search import AtLeast as AtLeast
    from gossamer.search import AtMost as AtMost
    from gossamer.search import Choice as Choice
    from gossamer.search import Command as Command
    from gossamer.search import Dominated as Dominated
    from gossamer.search import Experiment as Experiment
    from gossamer.search import Fidelity as Fidelity
    from gossamer.search import Float as Float
    from gossamer.search import Grid as Grid
    from gossamer.search import Halving as Halving
    from gossamer.search import Int as Int
    from gossamer.search import LinearConstraint as LinearConstraint
    from gossamer.search import Maximize as Maximize
    from gossamer.search import Minimize as Minimize
    from gossamer.search import OutOfReach as OutOfReach
    from gossamer.search import Prior as Prior
    from gossamer.search import TrialStopped as TrialStopped
    from gossamer.search import Violated as Violated
    from gossamer.search import WarmStart as WarmStart
    from gossamer.sparsity import ACDC as ACDC
    from gossamer.sparsity import ERK as ERK
    from gossamer.sparsity import NM as NM
    from gossamer.sparsity import SET as SET
    from gossamer.sparsity import Block as Block
    from gossamer.sparsity import Constant as Constant
    from gossamer.sparsity import Cubic as Cubic
    from gossamer.sparsity import FanIn as FanIn
    from gossamer.sparsity import Global as Global
    from gossamer.sparsity import GraNet as GraNet
    from gossamer.sparsity import Magnitude as Magnitude
    from gossamer.sparsity import PerLayer as PerLayer
    from gossamer.sparsity import Phases as Phases
    from gossamer.sparsity import RigL as RigL
    from gossamer.sparsity import Sparsifier as Sparsifier
    from gossamer.sparsity import Static as Static
    from gossamer.sparsity import TopK as TopK
    from gossamer.sparsity import Uniform as Uniform
    from gossamer.sparsity import Unstructured as Unstructured
    from gossamer.sparsity import accelerate_sparse as accelerate_sparse
    from gossamer.sparsity import mu_parametrize as mu_parametrize
    from gossamer.sparsity import prune as prune
    from gossamer.sparsity import rearrange as rearrange
    from gossamer.training import Recipe as Recipe
    from gossamer.training import TrainingConfig as TrainingConfig
    from gossamer.training import train as train
    from gossamer.training.evaluate import evaluate as evaluate
    from gossamer.training.fit import fit as fit

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


if not TYPE_CHECKING:  # so that a name that does not exist is an error there too

    def __getattr__(name: str) -> Any:
        with needed(f"gossamer.{name}"):
            if name in _PUBLIC:
                return getattr(importlib.import_module(_PUBLIC[name]), name)
            if name in _ROOMS:
                return importlib.import_module(f"gossamer.{name}")
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
