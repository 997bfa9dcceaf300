"""Axes that fit values of any magnitude."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.report import units

# Beyond these a pixel's worth of a linear axis, or the axis's length, is no float any more.
_TINY, _HUGE = 1e-300, 8e307
_LEAST = math.log10(5e-324)
_LOG_SPREAD = math.log10(30)
_MOST_TICKS = 9


@dataclass(frozen=True)
class Scale:
    """A range from ``low`` to ``high``, linear or logarithmic."""

    log: bool
    low: float
    high: float

    @property
    def digits(self) -> int:
        """The number of significant digits that distinguish values in the range."""
        return units.digits_between(self.low, self.high)

    def position(self, value: float) -> float:
        """Return the position of ``value`` between the ends, from 0 to 1."""
        if self.log:
            low, high, at = (math.log10(v) for v in (self.low, self.high, value))
        else:
            low, high, at = self.low / 2, self.high / 2, value / 2
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def clip(self, values: Iterable[float]) -> list[float]:
        """Limit values to those that plotly can draw."""
        return [min(max(value, -_HUGE), _HUGE) for value in values]

    def ticks(self) -> list[float]:
        """Return round numbers in the range, at most ten."""
        if self.log:
            return _log_ticks(self.low, self.high)
        span = self.high / 2 - self.low / 2
        rough = 10.0 ** math.floor(math.log10(span / 2.5))
        step = next(s * rough for s in (1, 2, 5, 10) if span / (s * rough) <= 2.5)
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [float(f"{number * step:.15g}") for number in numbers]

    def layout(self, title: str) -> dict[str, Any]:
        """Return the axis in plotly's format."""
        named: dict[str, Any] = {"title": {"text": title}}
        if not self.log:
            largest = max(abs(self.low), abs(self.high))
            plain = {"exponentformat": "none", "separatethousands": True}
            style = plain if 1e-3 <= largest < 1e7 else {"exponentformat": "e"}
            return {**named, "range": [self.low, self.high], **style}
        ends = [math.log10(self.low), math.log10(self.high)]
        ticks = self.ticks()
        # Plotly's own run into each other.
        shown = {"tickvals": ticks, "ticktext": [self.text(tick) for tick in ticks]}
        return {**named, "type": "log", "range": ends, **(shown if len(ticks) > 1 else {})}

    def text(self, value: float) -> str:
        """Write a tick's label."""
        many = 1e6 <= value < 1e15 and self.digits == 4
        return units.short(value) if many else units.plain(value, self.digits)


def scale_of(values: Sequence[float], room: float = 0.06, log: bool = False) -> Scale:
    """Return a scale for finite values.

    It is logarithmic if all are above 0 and ``log`` is true or the largest is over 30 times the
    smallest.

    ``room`` is the margin at both ends, as a share. Values that differ by less than a ten-billionth
    are drawn as equal, and those below 1e-300 as 0 unless all are positive.
    """
    low, high = min(values), max(values)
    wide = low > 0 and math.log10(high) - math.log10(low) > _LOG_SPREAD
    if low > 0 and (log or wide or high < _TINY):
        first, last = math.log10(low), math.log10(high)
        margin = room * (last - first) or 0.5
        return Scale(True, 10.0 ** max(first - margin, _LEAST), 10.0 ** min(last + margin, 308))
    largest = max(abs(low), abs(high))
    if largest < _TINY:
        return Scale(False, -0.5, 0.5)
    half = high / 2 - low / 2
    least = 1e-10 * largest if half else 0.05 * largest
    margin = 2 * room * half if half > least else least
    return Scale(False, max(low - margin, -_HUGE), min(high + margin, _HUGE))


def _log_ticks(low: float, high: float) -> list[float]:
    """Return ticks 1, 2, 5 of each decade if they are few, or else powers of ten."""
    decades = math.log10(high) - math.log10(low)
    steps = (1, 2, 5) if decades < 3 else (1,)
    every = max(1, math.ceil(decades / _MOST_TICKS))
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [power for power in range(first, last + 1) if power % every == 0]
    # 10.0 ** 309 is an error, 1e309 is infinite.
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]
