"""Layers that are sparse themselves, and how they are exported."""

from gossamer.nn.kwinners import KWinners, KWinners2d, decay_boost, winner_mask
from gossamer.nn.onnx import export, k_winners_functions, to_onnx

__all__ = [
    "KWinners",
    "KWinners2d",
    "decay_boost",
    "export",
    "k_winners_functions",
    "to_onnx",
    "winner_mask",
]
