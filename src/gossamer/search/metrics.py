"""Metrics: the goal of each, and the worst value that is still acceptable."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gossamer.errors import UserError
from gossamer.numbers import Goal, item
from gossamer.search.validation import check_list, check_name, is_number, make_plain

# Differences and margins of larger numbers are not finite: nothing could be compared or drawn.
_LARGEST = 1e300
# On a logarithmic scale 0 counts as this.
_SMALLEST = 1e-9
_LARGEST_LOG = math.log(sys.float_info.max)
# What gossamer's own training measures on data, so that it matters on which.
_OF_DATA = ("accuracy", "error_rate", "loss", "activation_density")


@dataclass(frozen=True)
class Metric:
    """A number that `train` returns. Made as `Maximize`, `Minimize`, `AtLeast` or `AtMost`.

    Args:
        name: the key under which `train` returns it.
        threshold: the worst value that is still acceptable; None if any value is.
        log: compare ratios of values, not differences: from 2 % to 1 % of the weights is then as
            far as from 20 % to 10 %. Values and threshold are plain ones; values are not negative,
            and below 1e-9 they count as 1e-9.

    Raises:
        UserError: for an empty name, a threshold that is no number from -1e300 to 1e300 or, with
            ``log``, not above 0, or a ``log`` that is neither true nor false.
    """

    goal: ClassVar[Goal]
    optimized: ClassVar[bool] = True

    name: str
    threshold: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "metric")
        if not isinstance(self.log, bool):
            raise UserError(f"metric '{self.name}': log must be true or false, not {self.log!r}")
        if self.threshold is None:
            return
        if not is_number(self.threshold):
            raise UserError(
                f"metric '{self.name}': threshold must be a finite number or left out, "
                f"not {self.threshold!r}"
            )
        if abs(self.threshold) > _LARGEST:
            raise UserError(
                f"metric '{self.name}': threshold {self.threshold:g} is too large to compare with; "
                f"use one from {-_LARGEST:g} to {_LARGEST:g}, or leave it out"
            )
        if self.log and self.threshold <= 0:
            raise UserError(
                f"metric '{self.name}': on a logarithmic scale the threshold must be above 0, "
                f"not {self.threshold:g}"
            )
        object.__setattr__(self, "threshold", float(self.threshold))

    def loss(self, value: float) -> float:
        """Return `value` on the metric's scale, negated if more is better."""
        return -self.goal.sign * (math.log(max(value, _SMALLEST)) if self.log else value)

    def value(self, loss: float) -> float:
        """Return the value of a loss."""
        place = -self.goal.sign * loss
        return math.exp(min(place, _LARGEST_LOG)) if self.log else place

    def violation(self, value: float) -> float:
        """Return how far `value` is beyond the threshold; at most 0 if acceptable."""
        if self.threshold is None:
            return -math.inf
        beyond = self.loss(value) - self.loss(self.threshold)
        return max(-sys.float_info.max, min(beyond, sys.float_info.max))

    def without_threshold(self) -> Metric:
        """Return the metric without its threshold; a constraint then has no effect."""
        free = copy.copy(self)  # not made anew: a constraint of the user's needs a threshold
        object.__setattr__(free, "threshold", None)
        return free


@dataclass(frozen=True)
class Maximize(Metric):
    """A metric of which more is better."""

    goal = Goal.MAXIMIZE


@dataclass(frozen=True)
class Minimize(Metric):
    """A metric of which less is better."""

    goal = Goal.MINIMIZE


@dataclass(frozen=True)
class _Constraint(Metric):
    """A metric that must meet its threshold but is not optimized."""

    optimized = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None:
            raise UserError(
                f"metric '{self.name}': a metric that is not optimized needs a threshold"
            )


@dataclass(frozen=True)
class AtLeast(_Constraint):
    """A metric that must not be below its threshold, but is not maximized."""

    goal = Goal.MAXIMIZE


@dataclass(frozen=True)
class AtMost(_Constraint):
    """A metric that must not be above its threshold, but is not minimized."""

    goal = Goal.MINIMIZE


def label(metric: Metric, split: str | None) -> str:
    """Return a metric's name, preceded by its split if that is known and relevant.

    Args:
        metric: to name.
        split: the data that trials are evaluated on, such as "validation".
    """
    return f"{split} {metric.name}" if split and metric.name in _OF_DATA else metric.name


def scaled(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Return values on their metrics' scales: float64 [trials, metrics], as the values."""
    log = np.array([m.log for m in metrics])
    return np.where(log, np.log(np.maximum(values, _SMALLEST)), values)


def all_losses(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Return each metric's losses: float64 [trials, metrics], as the values."""
    turned: np.ndarray = scaled(metrics, values) * [-m.goal.sign for m in metrics]
    return turned


def losses(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Return the optimized metrics' losses.

    Metrics that are only constrained are left out, since they do not rank trials.

    Args:
        values: float64 [trials, metrics].

    Returns:
        float64 [trials, optimized metrics].
    """
    ranking: np.ndarray = all_losses(metrics, values)[:, [m.optimized for m in metrics]]
    return ranking


def scaled_noise(metrics: Sequence[Metric], values: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return standard deviations on the metrics' scales.

    Args:
        values, noise: of the values and their standard deviations, float64 [trials, metrics].
    """
    log = np.array([m.log for m in metrics])
    return np.where(log, noise / np.maximum(values, _SMALLEST), noise)


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Raise `UserError` unless these can be an experiment's metrics."""
    check_list("metrics", metrics, Metric, 'Maximize("accuracy")')
    if not metrics:
        raise UserError("an experiment needs at least one metric")
    names = [m.name for m in metrics]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"metric '{name}' is given twice; rename or remove one")


Numbers = dict[str, float | tuple[float, float] | str | None]


def as_numbers(values: Mapping[str, Any]) -> Numbers:
    """Return `values` as `as_number` reads them; others as text, cut to 60 characters.

    A tuple or list of two, a value and its standard deviation, becomes a tuple. None stays None.
    """
    numbers: Numbers = {}
    for name, value in values.items():
        number = as_number(value)
        if number is None and value is not None:
            numbers[str(name)] = _as_pair(value) or str(value)[:60]
        else:
            numbers[str(name)] = number
    return numbers


def _as_pair(value: Any) -> tuple[float, float] | None:
    """A value and its standard deviation; None where `value` is no two numbers."""
    # An array of two is more probably a mistake.
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    number, deviation = map(as_number, value)
    return None if number is None or deviation is None else (number, deviation)


def as_number(value: Any) -> float | None:
    """Return `value` as a float if it is one number (also NumPy's and torch's), else None."""
    if hasattr(value, "item"):
        try:
            value = item(value)
        except (TypeError, ValueError, RuntimeError):
            return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None
