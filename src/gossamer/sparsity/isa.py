"""The instruction set of the training kernels."""

from __future__ import annotations

from gossamer.runtime._training import training_kernels
from gossamer.runtime.table import chosen_isa


def training_isa() -> str:
    """The instruction set to use: as the engine's, see ``GOSSAMER_ISA``."""
    isa = chosen_isa()
    offered = [isa for _, _, isa, _ in training_kernels()]
    return isa if isa in offered else offered[-1]
