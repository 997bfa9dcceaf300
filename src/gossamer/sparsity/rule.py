"""Rules: the scores by which masks are chosen, and the steps at which they change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gossamer.errors import UserError
from gossamer.numbers import real, share, whole
from gossamer.sparsity.pattern import Pattern
from gossamer.sparsity.schedule import Constant, Cubic, Phases, Schedule


@dataclass(frozen=True)
class Layer:
    """The state of one layer before its mask changes, for a rule.

    Attributes:
        weight: ``[outputs, ...inputs]`` after the optimizer step.
        mask: the current mask, of the same shape.
        gradient: gradient of the loss at *all* positions, also masked ones; None if the rule
            does not need it.
        generator: a CPU generator; equal seeds give equal masks on every device.
    """

    weight: Tensor
    mask: Tensor
    gradient: Tensor | None
    generator: torch.Generator

    def random(self) -> Tensor:
        """Return uniform numbers in [0, 1) of the weight's shape, on its device."""
        numbers = torch.rand(self.weight.shape, generator=self.generator)
        return numbers.to(self.weight.device)


def magnitude(weight: Tensor) -> Tensor:
    """Return absolute values as float32; NaN of a diverged training counts as 0."""
    return weight.detach().abs().to(torch.float32).nan_to_num(nan=0.0, posinf=3e38)


# Without an interval of its own: the optimizer steps between two changes at most, and the changes
# in a training at least. With a few large changes the last weights go when little time is left to
# make up for them.
_LONGEST_INTERVAL, _CHANGES = 100, 32


@dataclass(frozen=True)
class Rule:
    """Drop the least important weights, then grow others in their place.

    :meth:`update` does both through the pattern, so that every rule works with every pattern.
    A new rule overrides :meth:`importance`, :meth:`growth` or :meth:`drop`.

    Args:
        interval: optimizer steps between two changes; by default a 32nd of the training, and at
            most 100: in a short training a falling density would otherwise take nearly all weights
            in one or two changes.
        until: share of training after which positions no longer change, except by a falling
            density.
    """

    #: Whether :meth:`growth` reads ``layer.gradient``.
    needs_gradient: ClassVar[bool] = False
    #: Whether masked weights keep what the optimizer step has added to them until the masks are
    #: chosen; otherwise they are zero again by then.
    sees_masked: ClassVar[bool] = False

    interval: int | None = None
    until: float = 0.75

    def __post_init__(self) -> None:
        name, interval = type(self).__name__, self.interval
        if interval is not None:
            interval = whole(interval, 1, f"{name}: interval (in steps)")
        self.__dict__.update(interval=interval, until=share(self.until, f"{name}: until"))

    def interval_in(self, total: int) -> int:
        """Return the optimizer steps between two changes in a training of ``total`` steps."""
        if self.interval is not None:
            return self.interval
        return max(min(total // _CHANGES, _LONGEST_INTERVAL), 1)

    def schedule(self) -> Schedule:
        """Return the rule's default schedule."""
        return Constant()

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Return scores for the first mask; random by default.

        Args:
            weight: ``[outputs, ...inputs]``, as initialized or trained so far.
            generator: a CPU generator.
        """
        return torch.rand(weight.shape, generator=generator).to(weight.device)

    def due(self, step: int, total: int) -> bool:
        """Return whether positions change after this optimizer step (from 1 to ``total``)."""
        return step % self.interval_in(total) == 0 and step <= self.until * total

    def drop(self, share: float) -> float:
        """Return the share of weights to replace by grown ones after a ``share`` of training."""
        return 0.0

    def importance(self, layer: Layer) -> Tensor:
        """Return scores (at least 0) by which weights are kept."""
        return magnitude(layer.weight)

    def growth(self, layer: Layer) -> Tensor:
        """Return scores (at least 0) by which masked positions are grown."""
        return layer.random()

    def update(self, layer: Layer, pattern: Pattern, keep: int, share: float) -> Tensor:
        """Return the next mask with exactly ``keep`` weights."""
        scores = self.importance(layer)
        if not self.sees_masked:
            scores = scores.masked_fill(~layer.mask, -1.0)
        drop = self.drop(share)
        stay = max(round(keep * (1.0 - drop)), pattern.least(layer.weight.shape))
        survivors = pattern.mask(scores, min(stay, keep))
        if drop == 0.0 or stay >= keep:
            return survivors
        return pattern.mask(self.growth(layer).masked_fill(survivors, torch.inf), keep)


@dataclass(frozen=True)
class Static(Rule):
    """Fixed masks, chosen once.

    If the density falls, the remaining weights are chosen in the same way.

    Args:
        by: ``random``, or ``magnitude`` (the largest weights) for a trained network.
    """

    by: Literal["random", "magnitude"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("random", "magnitude"):
            raise UserError(f"Static: by must be 'random' or 'magnitude', not {self.by!r}")

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        if self.by == "magnitude":
            return magnitude(weight)
        return super().initial_scores(weight, generator)

    def due(self, step: int, total: int) -> bool:
        return False

    def importance(self, layer: Layer) -> Tensor:
        return magnitude(layer.weight) if self.by == "magnitude" else layer.random()


@dataclass(frozen=True)
class OneShot(Static):
    """Masks of the largest weights of a trained network, chosen once (see :func:`prune`)."""

    by: Literal["random", "magnitude"] = "magnitude"


@dataclass(frozen=True)
class SET(Rule):
    """Drop the smallest weights and grow others at random (Mocanu et al. 2018).

    Args:
        fraction: share of the remaining weights that is replaced at the first change; it falls to
            0 along a cosine until ``until``.
    """

    fraction: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction = real(self.fraction)
        if not 0.0 <= fraction < 1.0:
            raise UserError(
                f"{type(self).__name__}: fraction must be from 0 to below 1, not {self.fraction!r}"
            )
        self.__dict__.update(fraction=fraction)

    def drop(self, share: float) -> float:
        if share >= self.until:
            return 0.0
        return self.fraction * (1.0 + math.cos(math.pi * share / self.until)) / 2.0


@dataclass(frozen=True)
class RigL(SET):
    """Drop the smallest weights and grow those with the largest gradients.

    Evci et al. 2020 (arXiv 1911.11134). The gradient is that of the training step, so growth needs
    no extra pass. Grown weights start at zero.
    """

    needs_gradient: ClassVar[bool] = True

    def growth(self, layer: Layer) -> Tensor:
        assert layer.gradient is not None
        return magnitude(layer.gradient)


@dataclass(frozen=True)
class GraNet(RigL):
    """Gradual pruning with regeneration (Liu et al. 2021, arXiv 2106.10404).

    The density falls from 1 along a cubic. At each change, a share of the remaining weights is
    also dropped, and as many are regrown where the gradient is largest.
    """

    fraction: float = 0.5

    def schedule(self) -> Schedule:
        return Cubic(until=0.5)

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return magnitude(weight)


@dataclass(frozen=True)
class Magnitude(Rule):
    """Gradual magnitude pruning (Zhu & Gupta 2017): dropped weights are never regrown."""

    def schedule(self) -> Schedule:
        return Cubic(until=self.until) if self.until > 0.0 else Constant()

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return magnitude(weight)

    def due(self, step: int, total: int) -> bool:
        return False  # only where the density falls


@dataclass(frozen=True)
class ACDC(Magnitude):
    """Alternating dense and sparse phases (Peste et al. 2021, arXiv 2106.12379).

    Each sparse phase keeps the largest weights of the dense one before. The default schedule is
    :class:`Phases`.
    """

    interval: int | None = 1

    def schedule(self) -> Schedule:
        return Phases(until=self.until) if self.until > 0.1 else Constant()


@dataclass(frozen=True)
class TopK(Rule):
    """The largest magnitudes after every optimizer step, also of masked positions.

    A masked weight starts each step at zero; it is unmasked if the step makes it larger than the
    smallest remaining one. With a cubic schedule from dense, this is the method of weight-sparse
    transformers (Gao et al. 2025, arXiv 2511.13653).
    """

    sees_masked: ClassVar[bool] = True

    interval: int | None = 1
    until: float = 1.0

    def schedule(self) -> Schedule:
        return Cubic(until=0.5)

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return magnitude(weight)


#: Name -> rule.
RULES: dict[str, Callable[..., Rule]] = {
    "static": Static,
    "one_shot": OneShot,
    "set": SET,
    "rigl": RigL,
    "magnitude": Magnitude,
    "granet": GraNet,
    "acdc": ACDC,
    "top_k": TopK,
}
