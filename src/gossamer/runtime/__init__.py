"""Runs trained networks without torch; compiled code lives in ``kernels/``.

Imports neither torch nor any other part of gossamer.
"""

from gossamer.runtime._kernels import instruction_sets
from gossamer.runtime.machine import machine

__all__ = ["instruction_sets", "machine"]
