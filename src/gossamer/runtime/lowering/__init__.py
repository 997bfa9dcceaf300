"""From a node to the kernels that could compute it."""

from gossamer.runtime.graph import Candidate
from gossamer.runtime.lowering.layouts import Lowering

__all__ = ["Candidate", "Lowering"]
