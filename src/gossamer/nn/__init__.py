"""Layers that are sparse themselves, and how they are exported."""

from gossamer.nn.kwinners import KWinners, KWinners2d, decay_boost, winner_mask
from gossamer.nn.onnx import export, k_winners_functions, to_onnx
from gossamer.nn.variational import (
    VariationalConv2d,
    VariationalLinear,
    harden,
    penalties,
    variational,
)

__all__ = [
    "KWinners",
    "KWinners2d",
    "VariationalConv2d",
    "VariationalLinear",
    "decay_boost",
    "export",
    "harden",
    "k_winners_functions",
    "penalties",
    "to_onnx",
    "variational",
    "winner_mask",
]
