"""Where non-zeros may stand within one weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import UserError


class Pattern(ABC):
    """Chooses, for one weight, which positions are kept."""

    @abstractmethod
    def mask(self, scores: Tensor, density: float) -> Tensor:
        """Keep the best-scored positions that the pattern allows.

        Args:
            scores: finite, the shape of the weight ``[outputs, ...inputs]``.
            density: share of positions to keep, above 0 and at most 1.

        Returns:
            Boolean tensor of the same shape. The count of true entries depends on the
            shape and the density alone; among equal scores the lowest index is kept.

        Raises:
            UserError: the density leaves an output unit without inputs.
        """


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any positions, equally many in every output unit: ``round(fan_in * density)``.

    As in Ahmad & Scheinkman 2019 (arXiv 1903.11257): a fixed number of inputs per unit.
    """

    def mask(self, scores: Tensor, density: float) -> Tensor:
        rows = scores.flatten(1)
        fan_in = rows.shape[1]
        keep = round(fan_in * density)
        if keep == 0:
            raise UserError(
                f"density {density:g} leaves its output units without any of their {fan_in} "
                f"inputs; use at least {1 / fan_in:.2g}"
            )
        order = rows.argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(rows, dtype=torch.bool)
        return mask.scatter_(1, order[:, :keep], True).view(scores.shape)
