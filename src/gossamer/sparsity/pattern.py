"""Patterns: the allowed positions of a weight's non-zeros."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import UserError
from gossamer.numbers import whole
from gossamer.sparsity.topk import top_k

Shape = Sequence[int]


def _enough(count: int, shape: Shape, density: float) -> int:
    """Return a number of weights to keep; raise a UserError if an output unit would have none."""
    if count < shape[0]:
        inputs = math.prod(shape[1:])
        raise UserError(
            f"density {density:g} leaves its output units without any of their {inputs} "
            f"inputs; use at least {_ceil(1 / inputs):g}"
        )
    return count


def _ceil(density: float) -> float:
    """Round ``density`` up to two digits, so that the density in a message is high enough."""
    scale = 10.0 ** (1 - math.floor(math.log10(density)))
    return min(math.ceil(density * scale - 1e-9) / scale, 1.0)


class Pattern(ABC):
    """A choice of non-zero positions in a weight ``[outputs, inputs / groups, ...kernel]``.

    Every output unit keeps at least one input.
    """

    @property
    def granularity(self) -> int | None:
        """The step of possible counts; None if only the result of :meth:`keep` is possible."""
        return None

    @property
    def end(self) -> str | None:
        """``first`` or ``last``: the layer whose size depends on the data; None if it is neither.

        It stays dense if the pattern does not divide it.
        """
        return None

    def divides(self, shape: Shape, groups: int = 1) -> bool:
        """Return whether the pattern's groups of weights divide the layer."""
        return True

    def check(self, shape: Shape, density: float, groups: int = 1) -> None:
        """Check that the pattern fits a weight at its final density.

        Raises:
            UserError: it does not fit; the message names alternatives.
        """
        self.keep(shape, density)

    @abstractmethod
    def keep(self, shape: Shape, density: float) -> int:
        """Return the number of weights to keep: the nearest to ``density`` the pattern allows.

        Raises:
            UserError: the density leaves an output unit without inputs.
        """

    def least(self, shape: Shape) -> int:
        """Return the fewest weights with which every output unit has an input."""
        return shape[0]

    @abstractmethod
    def mask(self, scores: Tensor, keep: int) -> Tensor:
        """Keep the best-scored positions that the pattern allows.

        Args:
            scores: tensor of the weight's shape, without NaN. ``inf`` marks positions that must
                stay, if they are fewer than ``keep`` and follow the pattern.
            keep: number of weights to keep, as :meth:`keep` returns it; other numbers are rounded
                to the nearest that the pattern allows.

        Returns:
            Boolean tensor of the same shape and device with exactly so many true entries. Among
            equal scores the lowest index stays.
        """


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any positions; at least one in every output unit."""

    @property
    def granularity(self) -> int:
        return 1

    def keep(self, shape: Shape, density: float) -> int:
        return _enough(round(math.prod(shape) * density), shape, density)

    def mask(self, scores: Tensor, keep: int) -> Tensor:
        rows = scores.flatten(1)
        return _free(rows, max(keep, len(rows))).view(scores.shape)


def _free(rows: Tensor, keep: int) -> Tensor:
    """Mark the ``keep`` best of all entries, including the best of every row."""
    best = rows.argmax(dim=1, keepdim=True)
    secured = rows.scatter(1, best, torch.inf)
    return top_k(secured.view(1, -1), keep).view(rows.shape)


@dataclass(frozen=True)
class FanIn(Pattern):
    """The same number of inputs in every output unit: ``round(fan_in * density)``.

    As in Ahmad & Scheinkman 2019 (arXiv 1903.11257): a fixed number of inputs per unit.
    """

    def keep(self, shape: Shape, density: float) -> int:
        return _enough(shape[0] * round(math.prod(shape[1:]) * density), shape, density)

    def mask(self, scores: Tensor, keep: int) -> Tensor:
        rows = scores.flatten(1)
        return top_k(rows, max(round(keep / len(rows)), 1)).view(scores.shape)


@dataclass(frozen=True)
class Block(Pattern):
    """Blocks of ``size`` consecutive outputs, which share their inputs.

    In a convolution, ``size`` output channels share an (input channel, tap). The engine is fastest
    with this pattern, because it reads an input once for several weights. A block's score is the
    sum of its weights' scores.

    Args:
        size: outputs in a block; 4 suits convolutions with dense inputs, 8 and 16 suit layers that
            follow k-winners too.
    """

    size: int = 8

    def __post_init__(self) -> None:
        self.__dict__.update(size=whole(self.size, 1, "Block: size"))

    @property
    def granularity(self) -> int:
        return self.size

    @property
    def end(self) -> str:
        return "last"

    def divides(self, shape: Shape, groups: int = 1) -> bool:
        return shape[0] // groups % self.size == 0

    def check(self, shape: Shape, density: float, groups: int = 1) -> None:
        outputs = shape[0] // groups
        if density < 1.0 and not self.divides(shape, groups):
            sizes = [size for size in (32, 16, 8, 4, 2) if outputs % size == 0]
            fits = " or ".join(f"Block({size})" for size in sizes[:2])
            of = f"{outputs} outputs" + (f" in each of {groups} groups" if groups > 1 else "")
            raise UserError(
                f"its {of} do not divide into blocks of {self.size}; "
                + (f"use {fits}, " if fits else "")
                + "keep it dense (exclude it), or give it a multiple of "
                f"{self.size} outputs"
            )
        super().check(shape, density, groups)

    def keep(self, shape: Shape, density: float) -> int:
        weights = math.prod(shape)
        if density >= 1.0:
            return weights
        return _enough(round(weights * density / self.size) * self.size, shape, density)

    def mask(self, scores: Tensor, keep: int) -> Tensor:
        if keep >= scores.numel():
            return torch.ones_like(scores, dtype=torch.bool)
        rows = scores.flatten(1)
        blocks = rows.view(-1, self.size, rows.shape[1]).sum(dim=1)
        chosen = _free(blocks, max(round(keep / self.size), len(blocks)))
        return chosen.repeat_interleave(self.size, dim=0).view(scores.shape)

    def fitted(self, shape: Shape) -> Block:
        """Return the blocks of a layer of this shape."""
        return self


@dataclass(frozen=True)
class FittedBlock(Pattern):
    """In each layer the largest blocks that divide its outputs: the greatest common divisor.

    So a layer of 64 outputs has blocks of 16 beside one of 1,000 with blocks of 8, and one of an
    odd number of outputs has single weights.

    Args:
        most: size of the largest block.
    """

    most: int = 16

    def __post_init__(self) -> None:
        self.__dict__.update(most=whole(self.most, 1, "FittedBlock: most"))

    def fitted(self, shape: Shape) -> Block:
        """Return the blocks of a layer of this shape."""
        return Block(math.gcd(shape[0], self.most))

    def divides(self, shape: Shape, groups: int = 1) -> bool:
        return self.fitted(shape).divides(shape, groups)

    def check(self, shape: Shape, density: float, groups: int = 1) -> None:
        self.fitted(shape).check(shape, density, groups)

    def keep(self, shape: Shape, density: float) -> int:
        return self.fitted(shape).keep(shape, density)

    def mask(self, scores: Tensor, keep: int) -> Tensor:
        return self.fitted(scores.shape).mask(scores, keep)


@dataclass(frozen=True)
class NM(Pattern):
    """``n`` of every ``m`` consecutive inputs of an output unit; GPUs support 2 of 4.

    In a convolution, the ``m`` are input channels at one tap. A layer's final density is
    ``n / m``, or 1 if it stays dense; a schedule may begin with more of every ``m``.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        n, m = whole(self.n, 1, "NM: n"), whole(self.m, 1, "NM: m")
        if n > m:
            raise UserError(f"NM: n must be at most m, not {n} of {m}")
        self.__dict__.update(n=n, m=m)

    @property
    def end(self) -> str:
        return "first"

    def divides(self, shape: Shape, groups: int = 1) -> bool:
        return shape[1] % self.m == 0

    def check(self, shape: Shape, density: float, groups: int = 1) -> None:
        if density >= 1.0:
            return
        if not self.divides(shape, groups):
            sizes = [m for m in (16, 8, 4, 2) if shape[1] % m == 0]
            fits = f"use a group of {' or '.join(map(str, sizes))}, or " if sizes else ""
            raise UserError(
                f"its {shape[1]} inputs do not divide into groups of {self.m}; "
                f"{fits}keep it dense (exclude it)"
            )
        if not math.isclose(density, self.n / self.m, rel_tol=1e-6):
            raise UserError(
                f"density {density:g} is not that of {self.n}:{self.m}; give "
                f"{self.n / self.m:g}, or 1 to keep it dense, with a uniform allocation"
            )

    def keep(self, shape: Shape, density: float) -> int:
        weights = math.prod(shape)
        if density >= 1.0:
            return weights
        return weights // self.m * max(round(self.m * density), self.n)

    def least(self, shape: Shape) -> int:
        return math.prod(shape) // self.m

    def mask(self, scores: Tensor, keep: int) -> Tensor:
        if keep >= scores.numel():
            return torch.ones_like(scores, dtype=torch.bool)
        last = scores.movedim(1, -1)
        rows = last.reshape(-1, self.m)
        mask = top_k(rows, max(round(keep / len(rows)), 1))
        return mask.view(last.shape).movedim(-1, 1).contiguous()


#: Name -> pattern.
PATTERNS: dict[str, Callable[[], Pattern]] = {
    "unstructured": Unstructured,
    "fan_in": FanIn,
    "block4": lambda: Block(4),
    "block8": lambda: Block(8),
    "block16": lambda: Block(16),
    "fitted_block": FittedBlock,
    "2:4": lambda: NM(2, 4),
}
