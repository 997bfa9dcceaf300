"""The common part of layers with weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gossamer.runtime.graph import Operation


@dataclass(frozen=True)
class Layer(Operation):
    """Sums of inputs times constants ``weight``, plus ``bias``, then a clip to its limits.

    Where there is a constant ``step``, the weights are whole multiples of it, for each output.
    ``rounded`` is a ``Round`` at the end, of generated C only.
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
