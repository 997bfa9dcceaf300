"""Prior beliefs in where a parameter's best value lies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from gossamer.errors import UserError
from gossamer.search.values import is_number, make_plain

# Spreads on the unit interval beyond which nothing changes any more but the rounding.
_NARROWEST, _WIDEST = 1e-6, 1e6


@dataclass(frozen=True)
class Prior:
    """A belief in where a parameter's best value lies: normal, cut off at the bounds.

    Points are drawn from it at first, and near it as long as the trials do not speak against it.

    Args:
        centre: the likeliest value.
        spread: two thirds of the belief are within centre - spread and centre + spread; on a
            logarithmic scale within centre / spread and centre * spread (so above 1).

    Raises:
        UserError: for numbers that are not finite, or a spread that is none.
    """

    centre: float
    spread: float

    def __post_init__(self) -> None:
        make_plain(self)
        for label in ("centre", "spread"):
            if not is_number(getattr(self, label)):
                value = getattr(self, label)
                raise UserError(f"prior: {label} must be a finite number, not {value!r}")
        if self.spread <= 0:
            raise UserError(f"prior: spread must be above 0, not {self.spread}")


class Believed(ABC):
    """What `Float` and `Int` share: a prior on the unit interval."""

    name: str
    low: float
    high: float
    log: bool
    prior: Prior | None

    @abstractmethod
    def encode(self, value: float) -> float:
        """Where in [0, 1] `value` lies."""

    def check_prior(self) -> None:
        prior = self.prior
        if prior is None:
            return
        if not isinstance(prior, Prior):
            raise UserError(f"parameter '{self.name}': prior must be a Prior, not {prior!r}")
        if not self.low <= prior.centre <= self.high:
            raise UserError(
                f"parameter '{self.name}': the prior's centre {prior.centre} is not within "
                f"{self.low} and {self.high}"
            )
        if self.log and prior.spread <= 1:
            raise UserError(
                f"parameter '{self.name}': on a logarithmic scale the prior's spread is a "
                f"factor above 1, not {prior.spread}"
            )

    def _normal(self) -> tuple[float, float]:
        """Centre and standard deviation on the unit interval."""
        assert self.prior is not None
        width = math.log(self.high / self.low) if self.log else self.high - self.low
        spread = math.log(self.prior.spread) if self.log else self.prior.spread
        share = min(max(spread / width, _NARROWEST), _WIDEST) if width else 1.0
        return self.encode(self.prior.centre), share

    def believed(self, unit: float) -> float:
        """Where evenly drawn units in [0, 1] go for the prior to hold."""
        if self.prior is None:
            return unit
        centre, spread = self._normal()
        below, above = ndtr(-centre / spread), ndtr((1.0 - centre) / spread)
        return float(np.clip(centre + spread * ndtri(below + unit * (above - below)), 0.0, 1.0))

    def log_belief(self, units: np.ndarray) -> np.ndarray:
        """Logarithm of the prior's density, up to a constant; 0 without a prior."""
        if self.prior is None:
            return np.zeros(len(units))
        centre, spread = self._normal()
        density: np.ndarray = -0.5 * ((units - centre) / spread) ** 2
        return density
