"""Sparse weights: pattern, allocation, schedule and rule, bound to a model."""

from gossamer.sparsity.accelerate import Accelerator, accelerate_sparse
from gossamer.sparsity.allocation import ALLOCATIONS, ERK, Allocation, Global, PerLayer, Uniform
from gossamer.sparsity.autotune import LayerChoice
from gossamer.sparsity.layers import (
    DENSE_BY_DEFAULT,
    LAYER_RULES,
    Weight,
    choose_weights,
    sparsifiable_layers,
    sparsifiable_weights,
)
from gossamer.sparsity.pattern import (
    NM,
    PATTERNS,
    Block,
    FanIn,
    FittedBlock,
    Pattern,
    Unstructured,
)
from gossamer.sparsity.prune import prune, renew_statistics
from gossamer.sparsity.rearrange import rearrange
from gossamer.sparsity.rule import (
    ACDC,
    RULES,
    SET,
    GraNet,
    Layer,
    Magnitude,
    OneShot,
    RigL,
    Rule,
    Static,
    TopK,
)
from gossamer.sparsity.scaling import Scale, Scaling, mu_parametrize, scale
from gossamer.sparsity.schedule import SCHEDULES, Constant, Cubic, Phases, Schedule
from gossamer.sparsity.settings import SparsitySettings
from gossamer.sparsity.sparsifier import Sparsifier

__all__ = [
    "ACDC",
    "ALLOCATIONS",
    "DENSE_BY_DEFAULT",
    "ERK",
    "LAYER_RULES",
    "NM",
    "PATTERNS",
    "RULES",
    "SCHEDULES",
    "SET",
    "Accelerator",
    "Allocation",
    "Block",
    "Constant",
    "Cubic",
    "FanIn",
    "FittedBlock",
    "Global",
    "GraNet",
    "Layer",
    "LayerChoice",
    "Magnitude",
    "OneShot",
    "Pattern",
    "PerLayer",
    "Phases",
    "RigL",
    "Rule",
    "Scale",
    "Scaling",
    "Schedule",
    "Sparsifier",
    "SparsitySettings",
    "Static",
    "TopK",
    "Uniform",
    "Unstructured",
    "Weight",
    "accelerate_sparse",
    "choose_weights",
    "mu_parametrize",
    "prune",
    "rearrange",
    "renew_statistics",
    "scale",
    "sparsifiable_layers",
    "sparsifiable_weights",
]
__dir__ = __all__.copy
