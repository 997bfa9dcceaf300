"""Lowering: the candidate kernels of each node, and the steps that run them."""

from gossamer.runtime.graph import Candidate
from gossamer.runtime.lowering.layouts import Lowering

__all__ = ["Candidate", "Lowering"]
