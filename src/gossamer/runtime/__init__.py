"""Runs trained networks without torch; compiled code lives in ``kernels/``.

Imports neither torch nor any other room of gossamer.
"""

from gossamer.runtime._kernels import instruction_sets
from gossamer.runtime.engine import Engine, LayerProfile
from gossamer.runtime.machine import machine
from gossamer.runtime.planner import Plan

__all__ = ["Engine", "LayerProfile", "Plan", "instruction_sets", "machine"]
