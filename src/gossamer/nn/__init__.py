"""Sparse and quantized layers, and their export to ONNX."""

from gossamer.nn.activations import SparseActivation, sparsify_activations
from gossamer.nn.annealing import AnnealActivations
from gossamer.nn.dropout import (
    VariationalConv2d,
    VariationalLinear,
    penalties,
    to_deterministic,
    to_variational,
)
from gossamer.nn.kwinners import KWinners, KWinners2d, decay_boost, winner_mask
from gossamer.nn.onnx import export, to_onnx
from gossamer.nn.quantized import Quantized, quantize, quantized_layers, unrounded
from gossamer.nn.threshold import Threshold, calibrate
from gossamer.runtime.onnx_functions import k_winners_functions

__all__ = [
    "AnnealActivations",
    "KWinners",
    "KWinners2d",
    "Quantized",
    "SparseActivation",
    "Threshold",
    "VariationalConv2d",
    "VariationalLinear",
    "calibrate",
    "decay_boost",
    "export",
    "k_winners_functions",
    "penalties",
    "quantize",
    "quantized_layers",
    "sparsify_activations",
    "to_deterministic",
    "to_onnx",
    "to_variational",
    "unrounded",
    "winner_mask",
]
__dir__ = __all__.copy
