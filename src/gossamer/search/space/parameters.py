"""Parameters: numbers between two bounds or from a list, choices; and priors over them.

Every parameter maps the unit interval onto its values (``decode``) and back (``encode``), so
that random draws, start-up designs and moves toward a constraint's border are done in one
cube, whatever the scales.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.special import ndtr, ndtri

from gossamer.errors import UserError
from gossamer.search.validation import Value, check_name, check_when, is_number, make_plain

# Spreads on the unit interval beyond which nothing changes any more but the rounding.
_NARROWEST, _WIDEST = 1e-6, 1e6


@dataclass(frozen=True)
class Prior:
    """A prior over a parameter's best value: a normal distribution truncated to the bounds.

    The first points are drawn from it; later ones are near it unless trials contradict it.

    Args:
        center: the most likely value.
        spread: standard deviation: two thirds of the probability is within center ± spread or, on
            a logarithmic scale, within center / spread and center * spread (then above 1). Two
            numbers, below and above the center, make a two-piece normal distribution.

    Raises:
        UserError: a number is not finite, or the spread is not positive.
    """

    center: float
    spread: float | Sequence[float]

    def __post_init__(self) -> None:
        make_plain(self)
        if not is_number(self.center):
            raise UserError(f"prior: center must be a finite number, not {self.center!r}")
        if isinstance(self.spread, list):
            object.__setattr__(self, "spread", tuple(self.spread))
        if len(self.spreads) != 2 or not all(map(is_number, self.spreads)):
            raise UserError(
                "prior: spread must be a finite number, or two of them, below and above the "
                f"center, not {self.spread!r}"
            )
        if min(self.spreads) <= 0:
            raise UserError(f"prior: spread must be above 0, not {self.spread}")

    @property
    def spreads(self) -> tuple[float, ...]:
        """Below and above the center."""
        if isinstance(self.spread, tuple):
            return self.spread
        return self.spread, self.spread  # type: ignore[return-value]


@dataclass(frozen=True)
class _Range(ABC):
    """Base of `Float` and `Int`: numbers between two bounds, and a prior over them."""

    name: str
    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    step: float | None = field(default=None, kw_only=True)
    prior: Prior | None = field(default=None, kw_only=True)
    default: float | None = field(default=None, kw_only=True)
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "parameter")
        where = f"parameter '{self.name}'"
        _check_bounds(where, self.low, self.high, self.log)
        self._convert(where)
        object.__setattr__(self, "when", check_when(where, self.when))
        self._check_prior(where)
        if self.step is None:
            return
        if self.step <= 0:
            raise UserError(f"{where}: step must be above 0, not {self.step}")
        if self.log and self.step != type(self).step:
            raise UserError(f"{where}: log and step exclude each other; leave one out")
        if (self.high - self.low) / self.step > 2 * _EXACT:
            raise UserError(
                f"{where}: {self.step} is too small a step from {self.low} to {self.high}; "
                "use a larger one, or none"
            )
        low, high, step = (Decimal(str(v)) for v in (self.low, self.high, self.step))
        if (high - low) % step:
            reached = type(self.low)(low + (high - low) // step * step)
            raise UserError(
                f"{where}: steps of {self.step} from {self.low} do not reach high {self.high}; "
                f"use high = {reached}"
            )

    @abstractmethod
    def _convert(self, where: str) -> None:
        """Check and convert the bounds and the step to the type of the values."""

    @abstractmethod
    def encode(self, value: float) -> float:
        """Position of `value` in [0, 1]."""

    @cached_property
    def _count(self) -> int:
        """Count of the values from step to step."""
        assert self.step is not None
        return round((self.high - self.low) / self.step) + 1

    def _check_prior(self, where: str) -> None:
        prior = self.prior
        if prior is None:
            return
        if not isinstance(prior, Prior):
            raise UserError(f"{where}: prior must be a Prior, not {prior!r}")
        if not self.low <= prior.center <= self.high:
            raise UserError(
                f"{where}: the prior's center {prior.center} is not within "
                f"{self.low} and {self.high}"
            )
        if self.log and min(prior.spreads) <= 1:
            raise UserError(
                f"{where}: on a logarithmic scale the prior's spread is a factor above 1, "
                f"not {prior.spread}"
            )

    def _normal(self) -> tuple[float, float, float]:
        """Center, and standard deviations below and above it, on the unit interval."""
        assert self.prior is not None
        width = math.log(self.high / self.low) if self.log else self.high - self.low
        below, above = (
            min(max((math.log(spread) if self.log else spread) / width, _NARROWEST), _WIDEST)
            if width
            else 1.0
            for spread in self.prior.spreads
        )
        return self.encode(self.prior.center), below, above

    def believed(self, unit: float) -> float:
        """Map evenly drawn units in [0, 1] to the prior."""
        if self.prior is None:
            return unit
        center, below, above = self._normal()
        # The belief in what is left of the center, and right of it, up to a factor.
        left = below * (0.5 - ndtr(-center / below))
        right = above * (ndtr((1.0 - center) / above) - 0.5)
        place = unit * (left + right) - left
        spread = below if place < 0.0 else above
        return float(np.clip(center + spread * ndtri(0.5 + place / spread), 0.0, 1.0))

    def log_belief(self, units: np.ndarray) -> np.ndarray:
        """Logarithm of the prior's density, up to a constant; 0 without a prior."""
        if self.prior is None:
            return np.zeros(len(units))
        center, below, above = self._normal()
        spread = np.where(units < center, below, above)
        density: np.ndarray = -0.5 * ((units - center) / spread) ** 2
        return density


@dataclass(frozen=True)
class _Listed(ABC):
    """Base of `Choice` and `Grid`: a list of values, each with a cell of the unit interval."""

    name: str
    prior: Sequence[float] | None = field(default=None, kw_only=True)
    default: Any = field(default=None, kw_only=True)
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict, kw_only=True)

    _LISTED: ClassVar[str]  # the field with the values

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "parameter")
        where = f"parameter '{self.name}'"
        if isinstance(self.listed, str) or not isinstance(self.listed, Sequence):
            kind = " of numbers" if isinstance(self, Grid) else ""
            raise UserError(f"{where}: {self._LISTED} must be a list{kind}, not {self.listed!r}")
        if not self.listed:
            raise UserError(f"{where}: {self._LISTED} is empty; give at least one")
        self._check_values(where)
        object.__setattr__(self, self._LISTED, tuple(self.listed))
        self._check_prior(where)
        object.__setattr__(self, "when", check_when(where, self.when))

    @property
    def listed(self) -> Sequence[Any]:
        """The listed values, in order."""
        values: Sequence[Any] = getattr(self, self._LISTED)
        return values

    @abstractmethod
    def _check_values(self, where: str) -> None:
        """Refuse values of another type, or in another order, than the parameter has."""

    def distribution(self) -> BaseDistribution:
        """The parameter as Optuna knows it."""
        return CategoricalDistribution(tuple(self.listed))

    def decode(self, unit: float) -> Any:
        """The value at `unit` in [0, 1]."""
        return self.listed[min(int(unit * len(self.listed)), len(self.listed) - 1)]

    def encode(self, value: Any) -> float:
        """Position of the value in [0, 1]: the middle of its cell."""
        return (list(self.listed).index(value) + 0.5) / len(self.listed)

    def _check_prior(self, where: str) -> None:
        if self.prior is None:
            return
        weights = list(self.prior) if isinstance(self.prior, Sequence) else []
        if len(weights) != len(self.listed) or not all(is_number(w) and w > 0 for w in weights):
            raise UserError(
                f"{where}: prior must be {len(self.listed)} numbers above 0, a weight for each "
                f"value, not {self.prior!r}"
            )
        object.__setattr__(self, "prior", tuple(weights))

    def believed(self, unit: float) -> float:
        """Map evenly drawn units in [0, 1] to the prior's weights."""
        if self.prior is None:
            return unit
        ends = np.cumsum(self.prior) / np.sum(self.prior)
        index = min(int(np.searchsorted(ends, unit, side="right")), len(ends) - 1)
        begin = ends[index - 1] if index else 0.0
        within = (unit - begin) / (ends[index] - begin)
        return float(min(index + within, len(ends)) / len(ends))

    def log_belief(self, units: np.ndarray) -> np.ndarray:
        """Logarithm of the prior's weights, up to a constant; 0 without a prior."""
        if self.prior is None:
            return np.zeros(len(units))
        index = np.minimum(np.nan_to_num(units) * len(self.prior), len(self.prior) - 1).astype(int)
        return np.where(np.isnan(units), np.nan, np.log(self.prior)[index])


@dataclass(frozen=True)
class Choice(_Listed):
    """One of several options: texts, numbers, True/False or None. A single one is a fixed value.

    Args:
        name: key in the trial's parameters.
        options: in any order.
        ordered: whether neighbors are similar, as in ("low", "medium", "high").
        prior: for each option, a weight: how likely it is the best.
        default: option of trials that were run before the parameter was added.
        when: other parameter -> its values for which this one exists.

    Raises:
        UserError: there are no options, or one is repeated or of another type.
    """

    options: Sequence[Value]
    ordered: bool = field(default=False, kw_only=True)

    _LISTED = "options"

    def _check_values(self, where: str) -> None:
        seen: list[Value] = []
        for option in self.options:
            if not (option is None or isinstance(option, (str, bool)) or is_number(option)):
                raise UserError(
                    f"{where}: option {option!r} must be a text, a finite number, "
                    "true/false or None"
                )
            # Compared as Optuna compares them: 1, 1.0 and True are one and the same option.
            if option in seen:
                raise UserError(f"{where}: option {option!r} is given twice")
            seen.append(option)
        if not isinstance(self.ordered, bool):
            raise UserError(f"{where}: ordered must be true or false, not {self.ordered!r}")


@dataclass(frozen=True)
class Grid(_Listed):
    """One of several numbers, which need not be evenly spaced.

    Neighbors are searched as equally distant, so that 1, 10, 100 are a logarithmic grid. Ordered
    texts are a `Choice`.

    Args:
        name: key in the trial's parameters.
        values: ascending.
        prior: for each value, a weight: how likely it is the best.
        default: value of trials that were run before the parameter was added.
        when: other parameter -> its values for which this one exists.

    Raises:
        UserError: there are no values, or they are not finite or not ascending.
    """

    values: Sequence[float]

    _LISTED = "values"

    def _check_values(self, where: str) -> None:
        for value in self.values:
            if not is_number(value):
                hint = "; texts in an order are a choice with ordered = true"
                raise UserError(
                    f"{where}: value {value!r} must be a finite number"
                    + (hint if isinstance(value, str) else "")
                )
        if any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise UserError(f"{where}: values must ascend; write {sorted(set(self.values))}")

    @property
    def low(self) -> float:
        """The least value."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The greatest value."""
        return self.values[-1]


# Whole numbers up to here are exact as doubles, as which databases keep them.
_EXACT = 2**53


def _check_bounds(where: str, low: object, high: object, log: object) -> None:
    for label, bound in (("low", low), ("high", high)):
        if not is_number(bound):
            raise UserError(f"{where}: {label} must be a finite number, not {bound!r}")
    assert isinstance(low, (int, float))
    assert isinstance(high, (int, float))
    if low > high:
        raise UserError(f"{where}: low {low} is above high {high}; swap them")
    if not isinstance(log, bool):
        raise UserError(f"{where}: log must be true or false, not {log!r}")
    if log and low <= 0:
        raise UserError(f"{where}: log = true needs low > 0, not {low}")
    if math.isinf(float(high) - float(low)) or (log and math.isinf(float(high) / float(low))):
        raise UserError(
            f"{where}: low {low} and high {high} are further apart than a double can hold; "
            "bring them closer together"
        )


@dataclass(frozen=True)
class Float(_Range):
    """A real number in [low, high].

    Args:
        name: key in the trial's parameters.
        low, high: the bounds, both included.
        log: search on a logarithmic scale (low must be positive).
        step: only low, low + step, low + 2 step ... high; excludes `log`.
        prior: over its best value.
        default: value of trials that were run before the parameter was added.
        when: other parameter -> its values for which this one exists.

    Raises:
        UserError: bounds, scale or step are invalid.
    """

    def _convert(self, where: str) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.step is not None:
            if not is_number(self.step):
                raise UserError(f"{where}: step must be a finite number, not {self.step!r}")
            object.__setattr__(self, "step", float(self.step))

    def distribution(self) -> BaseDistribution:
        """The parameter as Optuna knows it."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def decode(self, unit: float) -> float:
        """The value at `unit` in [0, 1]."""
        if self.step is not None:
            index = min(int(unit * self._count), self._count - 1)
            # Decimal steps: 0.1 + 2 * 0.1 must be 0.3, not 0.30000000000000004.
            return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + unit * (high - low))
        else:
            value = self.low + unit * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def encode(self, value: float) -> float:
        """Position of `value` in [0, 1]; the middle of its cell for a stepped parameter."""
        if self.step is not None:
            return (round((value - self.low) / self.step) + 0.5) / self._count
        if self.low == self.high:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Int(_Range):
    """A whole number in [low, high].

    Args:
        name: key in the trial's parameters.
        low, high: the bounds, both included.
        log: search on a logarithmic scale (low must be at least 1, `step` 1).
        step: only low, low + step, low + 2 step ... high.
        prior: over its best value.
        default: value of trials that were run before the parameter was added.
        when: other parameter -> its values for which this one exists.

    Raises:
        UserError: bounds, scale or step are invalid.
    """

    low: int
    high: int
    step: int = field(default=1, kw_only=True)

    def _convert(self, where: str) -> None:
        for label in ("low", "high", "step"):
            value = getattr(self, label)
            if not is_number(value) or value != int(value):
                raise UserError(f"{where}: {label} must be a whole number, not {value!r}")
            if abs(value) > _EXACT:
                raise UserError(f"{where}: {label} {value} is beyond 2**53, so not exact")
            object.__setattr__(self, label, int(value))

    def distribution(self) -> BaseDistribution:
        """The parameter as Optuna knows it."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    @cached_property
    def _log_edges(self) -> tuple[float, float]:
        # Half a unit beyond the bounds: the ends get as wide a cell as their neighbors.
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def decode(self, unit: float) -> int:
        """The value at `unit` in [0, 1]."""
        if self.log:
            low, high = self._log_edges
            return min(max(round(math.exp(low + unit * (high - low))), self.low), self.high)
        return self.low + min(int(unit * self._count), self._count - 1) * self.step

    def encode(self, value: float) -> float:
        """Position of `value` in [0, 1]: the middle of its cell."""
        if self.log:
            low, high = self._log_edges
            return (math.log(value) - low) / (high - low)
        return ((value - self.low) / self.step + 0.5) / self._count


Parameter = Float | Int | Grid | Choice
