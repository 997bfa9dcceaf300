"""Activations of the reference networks: k-winners, or ReLU where the density is 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import nn

from gossamer.errors import UserError
from gossamer.models.arguments import ImageWinners, Winners
from gossamer.nn import KWinners, KWinners2d


def units(
    count: int, density: float, *, local: bool = False, **winners: Unpack[Winners]
) -> nn.Module:
    """Return k-winners over ``[batch, ..., count]``, or ReLU if the density is 1.

    ``local`` has no effect, because there is one position.
    """
    return KWinners(count, density, **winners) if density != 1.0 else nn.ReLU()


def channels(count: int, density: float, **winners: Unpack[ImageWinners]) -> nn.Module:
    """Return k-winners over ``[batch, count, height, width]``, or ReLU if the density is 1."""
    return KWinners2d(count, density, **winners) if density != 1.0 else nn.ReLU()


def each(density: float | Sequence[float], count: int, what: str) -> list[float]:
    """Return ``count`` densities from one for all or one for each.

    Raises:
        UserError: neither one nor ``count`` densities.
    """
    densities = list(density) if isinstance(density, Sequence) else [density] * count
    if len(densities) != count:
        raise UserError(
            f"activation_density needs one value, or {count}, one for each of the {what}; "
            f"not {len(densities)}"
        )
    return densities
