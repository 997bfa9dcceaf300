"""Which weights are zero: pattern, allocation, schedule and rule, bound to a model."""

from gossamer.sparsity.allocation import Allocation, PerLayer, Uniform
from gossamer.sparsity.layers import SPARSIFIABLE, sparsifiable_layers
from gossamer.sparsity.pattern import Pattern, Unstructured
from gossamer.sparsity.rule import Rule, Static
from gossamer.sparsity.scaling import Scale, Scaling, scale, supar
from gossamer.sparsity.schedule import Constant, Schedule
from gossamer.sparsity.sparsifier import Sparsifier

__all__ = [
    "SPARSIFIABLE",
    "Allocation",
    "Constant",
    "Pattern",
    "PerLayer",
    "Rule",
    "Scale",
    "Scaling",
    "Schedule",
    "Sparsifier",
    "Static",
    "Uniform",
    "Unstructured",
    "scale",
    "sparsifiable_layers",
    "supar",
]
