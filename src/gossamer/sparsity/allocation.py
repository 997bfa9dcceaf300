"""Allocations, which divide a network's density among its layers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gossamer.errors import UserError, nearest
from gossamer.numbers import positive_share


def check_density(density: Any, where: str) -> float:
    """Return ``density`` as a float; raise a :class:`UserError` unless 0 < density <= 1."""
    meaning = "; it is the share of weights that stay non-zero (density = 1 - sparsity)"
    return positive_share(density, f"{where}: density", meaning)


class Allocation(ABC):
    """Division of a network's density among its layers."""

    #: Whether the densities follow the weights and are computed again when masks change.
    follows_weights: ClassVar[bool] = False

    @abstractmethod
    def densities(self, weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
        """Density of each layer.

        Args:
            weights: the sparsifiable weights ``[outputs, ...inputs]``, by layer name.
            density: of the whole network, above 0 and at most 1.

        Raises:
            UserError: a layer's density is out of range or its name is unknown.
        """


@dataclass(frozen=True)
class Uniform(Allocation):
    """The same density in every layer."""

    def densities(self, weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
        return dict.fromkeys(weights, density)


def _share_out(
    wanted: Mapping[str, float], sizes: Mapping[str, int], total: float
) -> dict[str, float]:
    """Return densities in proportion to ``wanted``, at most 1, that sum to ``total`` weights.

    The excess of a full layer is divided among the others.
    """
    full: set[str] = set()
    while True:
        rest = total - sum(sizes[name] for name in full)
        weighted = sum(wanted[name] * sizes[name] for name in wanted if name not in full)
        factor = rest / weighted if weighted else 0.0
        over = {name for name in wanted if name not in full and wanted[name] * factor >= 1.0}
        if not over:
            break
        full |= over
    return {name: 1.0 if name in full else wanted[name] * factor for name in wanted}


@dataclass(frozen=True)
class ERK(Allocation):
    """Erdős-Rényi-Kernel: small layers denser, large ones sparser.

    A layer's density is in proportion to the sum of its dimensions over their product
    (Mocanu et al. 2018; for kernels Evci et al. 2020, arXiv 1911.11134), none above 1.
    """

    def densities(self, weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
        sizes = {name: weight.numel() for name, weight in weights.items()}
        wanted = {name: sum(weight.shape) / max(sizes[name], 1) for name, weight in weights.items()}
        return _share_out(wanted, sizes, density * sum(sizes.values()))


@dataclass(frozen=True)
class Global(Allocation):
    """One budget for the whole network: the largest magnitudes stay, in whichever layer.

    Use it for a trained network, or with a rule that starts dense: initial weights carry no
    information. Every layer keeps at least one weight for each output unit.
    """

    follows_weights: ClassVar[bool] = True

    def densities(self, weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
        sizes = {name: weight.numel() for name, weight in weights.items()}
        total = round(density * sum(sizes.values()))
        if total >= sum(sizes.values()):
            return dict.fromkeys(weights, 1.0)
        least = {name: min(len(weight), sizes[name]) for name, weight in weights.items()}
        spare = total - sum(least.values())
        if spare < 0:
            raise UserError(
                f"density {density:g} leaves fewer weights than there are output units; "
                f"use at least {sum(least.values()) / sum(sizes.values()):.2g}"
            )
        # The best of each output unit are secured, so the rest compete without them.
        contest = []
        for weight in weights.values():
            rows = weight.detach().abs().to(torch.float32).cpu().flatten(1)
            best = rows.argmax(dim=1, keepdim=True)
            contest.append(rows.scatter(1, best, -1.0).flatten())
        chosen = torch.cat(contest).topk(spare).indices if spare else torch.empty(0)
        ends = torch.tensor([len(part) for part in contest]).cumsum(0)
        extras = torch.bincount(
            torch.bucketize(chosen, ends, right=True), minlength=len(ends)
        ).tolist()
        return {
            name: (least[name] + extra) / sizes[name]
            for name, extra in zip(weights, extras, strict=True)
        }


class PerLayer(Allocation):
    """Densities by layer name.

    Args:
        by_layer: density of each named layer, above 0 and at most 1.
        rest: allocation of the network's density to the other layers. If it is :class:`Global`,
            named layers have their density from the start, regardless of the schedule.
    """

    def __init__(self, by_layer: Mapping[str, float], rest: Allocation | None = None) -> None:
        if not isinstance(by_layer, Mapping):
            raise UserError(f"PerLayer: by_layer maps layer names to densities, not {by_layer!r}")
        self.by_layer = {
            name: check_density(density, f"layer '{name}'") for name, density in by_layer.items()
        }
        self.rest = rest or Uniform()

    @property
    def follows_weights(self) -> bool:  # type: ignore[override]
        return self.rest.follows_weights

    def densities(self, weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
        for name in self.by_layer:
            if name not in weights:
                raise UserError(f"no sparsifiable layer '{name}': {nearest(name, weights)}")
        others = {name: weight for name, weight in weights.items() if name not in self.by_layer}
        shared = self.rest.densities(others, density) if others else {}
        return {name: self.by_layer.get(name, shared.get(name, density)) for name in weights}

    def __repr__(self) -> str:
        rest = "" if isinstance(self.rest, Uniform) else f", rest={self.rest!r}"
        return f"PerLayer({self.by_layer!r}{rest})"


def exact_counts(
    nominal: Mapping[str, int],
    ideal: Mapping[str, float],
    limits: Mapping[str, tuple[int, int]],
    step: int,
) -> dict[str, int]:
    """Return counts that sum to the sum of ``ideal``, to the nearest multiple of ``step``.

    Rounding each layer alone may miss the network's total by half a step for each layer. So the
    layers with the largest rounding errors are rounded the other way, within their ``limits``
    (fewest and most weights).
    """
    counts = dict(nominal)
    missing = round((sum(ideal.values()) - sum(counts.values())) / step)
    sign = int(math.copysign(1, missing))
    order = sorted(counts, key=lambda name: sign * (counts[name] - ideal[name]))
    for name in order:
        low, high = limits[name]
        if missing and low <= counts[name] + sign * step <= high:
            counts[name] += sign * step
            missing -= sign
    return counts


#: Name -> allocation.
ALLOCATIONS: dict[str, Callable[[], Allocation]] = {
    "uniform": Uniform,
    "erk": ERK,
    "global": Global,
}
