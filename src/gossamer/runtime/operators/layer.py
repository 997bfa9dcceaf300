"""What layers with weights have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from gossamer.runtime.graph import AnyNode, Operation
from gossamer.runtime.operators.context import Context


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


def layer_before(context: Context, value: str, *ops: str) -> AnyNode | None:
    """The layer that made a value, if nobody else reads it and it is a bare one."""
    before = context.alone(value, *ops)
    return before if before is not None and before.operation.bare else None


def clip(node: AnyNode, low: float, high: float) -> None:
    """Lets a layer clip what it leaves."""
    node.operation = replace(node.operation, low=low, high=high)
