"""How the density of a network is shared out among its layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gossamer.errors import UserError, nearest


def check_density(density: float, where: str) -> float:
    """``density`` as a float, if it is above 0 and at most 1; else a :class:`UserError`."""
    number = isinstance(density, int | float) and not isinstance(density, bool)
    if not number or not 0.0 < density <= 1.0:
        raise UserError(
            f"{where}: density must be above 0 and at most 1, not {density!r}; "
            "it is the share of weights that stay non-zero (density = 1 - sparsity)"
        )
    return float(density)


class Allocation(ABC):
    """Gives every layer its density."""

    @abstractmethod
    def densities(self, shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
        """Density of each layer.

        Args:
            shapes: shape of each sparsifiable weight ``[outputs, ...inputs]``, by layer name.
            density: of the whole network, above 0 and at most 1.

        Raises:
            UserError: a layer's density is out of range or its name is unknown.
        """


@dataclass(frozen=True)
class Uniform(Allocation):
    """The same density in every layer."""

    def densities(self, shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
        return dict.fromkeys(shapes, density)


class PerLayer(Allocation):
    """Densities by layer name; layers not named get the network's density.

    Args:
        by_layer: density of each named layer, above 0 and at most 1.
    """

    def __init__(self, by_layer: Mapping[str, float]) -> None:
        self.by_layer = {
            name: check_density(density, f"layer '{name}'") for name, density in by_layer.items()
        }

    def densities(self, shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
        for name in self.by_layer:
            if name not in shapes:
                raise UserError(f"no sparsifiable layer '{name}': {nearest(name, shapes)}")
        return {name: self.by_layer.get(name, density) for name in shapes}

    def __repr__(self) -> str:
        return f"PerLayer({self.by_layer!r})"
