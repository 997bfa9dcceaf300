"""How density changes while a network trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


class Schedule(ABC):
    """Density over training."""

    @abstractmethod
    def density(self, final: float, step: int) -> float:
        """Density at ``step`` (0 before the first optimiser step) for the ``final`` density."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The final density from the first step to the last."""

    def density(self, final: float, step: int) -> float:
        return final
