"""gossamer finds, trains and runs sparse neural networks.

The names used most are here, all others in their rooms: ``gossamer.sparsity.FanIn``. Both are
loaded when first used, so that importing ``gossamer.runtime`` needs neither torch nor any other
room.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossamer.extras import needed

if TYPE_CHECKING:  # for completion and type checks; the same names as below
    from gossamer import compression as compression
    from gossamer import dashboard as dashboard
    from gossamer import data as data
    from gossamer import deploy as deploy
    from gossamer import energy as energy
    from gossamer import listen as listen
    from gossamer import models as models
    from gossamer import nn as nn
    from gossamer import report as report
    from gossamer import runtime as runtime
    from gossamer import search as search
    from gossamer import sparsity as sparsity
    from gossamer import training as training
    from gossamer.compression import compress as compress
    from gossamer.data import load as load
    from gossamer.deploy import compile as compile
    from gossamer.nn import KWinners as KWinners
    from gossamer.nn import KWinners2d as KWinners2d
    from gossamer.nn import export as export
    from gossamer.nn import quantize as quantize
    from gossamer.nn import sparsify_activations as sparsify_activations
    from gossamer.runtime import Engine as Engine
    from gossamer.search import Choice as Choice
    from gossamer.search import Experiment as Experiment
    from gossamer.search import Float as Float
    from gossamer.search import Int as Int
    from gossamer.search import Maximize as Maximize
    from gossamer.search import Minimize as Minimize
    from gossamer.sparsity import ERK as ERK
    from gossamer.sparsity import NM as NM
    from gossamer.sparsity import Block as Block
    from gossamer.sparsity import Cubic as Cubic
    from gossamer.sparsity import GraNet as GraNet
    from gossamer.sparsity import RigL as RigL
    from gossamer.sparsity import Sparsifier as Sparsifier
    from gossamer.sparsity import accelerate_sparse as accelerate_sparse
    from gossamer.sparsity import prune as prune
    from gossamer.training import train as train

__version__ = "0.1.0"

_ROOMS = {
    "sparsity": (
        "Sparsifier",
        "Block",
        "NM",
        "ERK",
        "Cubic",
        "RigL",
        "GraNet",
        "prune",
        "accelerate_sparse",
    ),
    "nn": ("KWinners", "KWinners2d", "export", "quantize", "sparsify_activations"),
    "models": (),
    "data": ("load",),
    "training": ("train",),
    "search": ("Experiment", "Maximize", "Minimize", "Float", "Int", "Choice"),
    "runtime": ("Engine",),
    "energy": (),
    "deploy": ("compile",),
    "compression": ("compress",),
    "report": (),
    "dashboard": (),
    "listen": (),
}
_HOMES = {name: f"gossamer.{room}" for room, names in _ROOMS.items() for name in names}

__all__ = [*_HOMES, *_ROOMS]
__dir__ = __all__.copy  # as in every room: completion offers the public names alone


if not TYPE_CHECKING:  # so that a name that does not exist is an error there too

    def __getattr__(name: str) -> Any:
        with needed(f"gossamer.{name}"):
            if name in _HOMES:
                return getattr(importlib.import_module(_HOMES[name]), name)
            if name in _ROOMS:
                return importlib.import_module(f"gossamer.{name}")
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
