"""Inference of trained networks without torch; compiled code lives in ``kernels/``.

Imports neither torch nor any other room of gossamer.
"""

from gossamer.runtime.arrays import read_arrays, write_arrays
from gossamer.runtime.engine import Engine, LayerProfile
from gossamer.runtime.half_file import store_half
from gossamer.runtime.machine import machine
from gossamer.runtime.plan import Plan
from gossamer.runtime.roofline import Limits, NetworkProfile, measure_limits, network_profile
from gossamer.runtime.sparse_file import store_sparse

__all__ = [
    "Engine",
    "LayerProfile",
    "Limits",
    "NetworkProfile",
    "Plan",
    "machine",
    "measure_limits",
    "network_profile",
    "read_arrays",
    "store_half",
    "store_sparse",
    "write_arrays",
]
__dir__ = __all__.copy
