"""What the reference networks put after a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from gossamer.errors import UserError
from gossamer.nn import KWinners, KWinners2d


def units(count: int, density: float, **boosting: Any) -> nn.Module:
    """k-winners over ``[batch, ..., count]``, ReLU where the density is 1."""
    return KWinners(count, density, **boosting) if density != 1.0 else nn.ReLU()


def channels(count: int, density: float, *, local: bool = False, **boosting: Any) -> nn.Module:
    """k-winners over ``[batch, count, height, width]``, ReLU where the density is 1."""
    return KWinners2d(count, density, local=local, **boosting) if density != 1.0 else nn.ReLU()


def each(density: float | Sequence[float], count: int, what: str) -> list[float]:
    """``count`` densities: one for each, or one for all.

    Raises:
        UserError: another number of them.
    """
    found = list(density) if isinstance(density, Sequence) else [density] * count
    if len(found) != count:
        raise UserError(
            f"activation_density needs one value, or {count}, one for each of the {what}; "
            f"not {len(found)}"
        )
    return found
