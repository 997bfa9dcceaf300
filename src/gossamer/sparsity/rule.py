"""When and by what score masks are made and changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Rule(ABC):
    """Scores the positions of a weight: the pattern keeps the best."""

    @abstractmethod
    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Scores for the first mask.

        Args:
            weight: ``[outputs, ...inputs]``, as initialised or trained so far.
            generator: a CPU generator; equal seeds give equal masks on every device.

        Returns:
            Scores of the weight's shape, on the CPU.
        """

    @abstractmethod
    def due(self, step: int) -> bool:
        """Whether the masks change after this optimiser step (counted from 1)."""

    @abstractmethod
    def scores(self, weight: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Scores for the next mask, asked for when :meth:`due`; shapes as the weight's."""


@dataclass(frozen=True)
class Static(Rule):
    """A random mask that never changes."""

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(weight.shape, generator=generator)

    def due(self, step: int) -> bool:
        return False

    def scores(self, weight: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        return mask.to(torch.float32)
