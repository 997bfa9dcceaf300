"""Base of the operations with weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gossamer.runtime.graph import Operation


@dataclass(frozen=True)
class Layer(Operation):
    """Sums of inputs times the constant ``weight``, plus ``bias``, clipped to its limits.

    If there is a constant ``step`` [outputs], each output's weights are whole multiples of its
    step. ``rounded`` is a final ``Round``, in generated C only.
    """

    low: float = -math.inf
    high: float = math.inf
    rounded: Any = None

    @property
    def unlimited(self) -> bool:
        """Whether no clip follows."""
        return (self.low, self.high) == (-math.inf, math.inf)

    @property
    def bare(self) -> bool:
        """Whether neither clip nor max-pool follows."""
        return self.unlimited
