"""Numbers of Python, NumPy and torch: their checks, their texts, and which of two is better."""

from __future__ import annotations

import math
from enum import StrEnum
from numbers import Integral, Real
from typing import Any

import numpy as np

from gossamer.errors import UserError

_NARROW = {"float16": np.float16, "float32": np.float32}


class Goal(StrEnum):
    """The direction in which a metric is better; equal to its text in files."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is."""
        return 1 if self is Goal.MAXIMIZE else -1

    def outside(self, low: float, threshold: float, high: float) -> tuple[float, float]:
        """Return the part of the range ``low`` to ``high`` on the wrong side of a threshold."""
        return (low, threshold) if self.sign > 0 else (threshold, high)


def item(value: Any) -> Any:
    """Return the single element of an array, tensor or NumPy number as one of Python's own.

    A float of 16 or 32 bits is read by its own digits: an accuracy of 0.7 in float32 is 0.7 and
    meets a threshold of 0.7, although its bits are those of 0.699999988.
    """
    element = value.item()
    kind = _NARROW.get(str(getattr(value, "dtype", "")).removeprefix("torch."))
    return element if kind is None else float(str(kind(element)))


def scalar(value: Any) -> Real | None:
    """Return a number, or that in a zero-dimensional array or tensor; None for other values."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = None if str(getattr(value, "device", "")) == "meta" else item(value)
    return value if isinstance(value, Real) and not isinstance(value, bool) else None


def real(value: Any) -> float:
    """Return ``value`` as a float; NaN if it is no number."""
    number = scalar(value)
    try:
        return math.nan if number is None else float(number)
    except OverflowError:
        return math.inf


def integral(value: Any) -> int | None:
    """Return ``value`` as an int if it is whole, such as 20.0; None otherwise."""
    number = scalar(value)
    if number is None or not math.isfinite(real(number)):
        return None
    rounded = int(math.trunc(number))  # noqa: RUF046 (as mypy sees it, it is none)
    return rounded if rounded == number else None


def whole(value: Any, least: int, where: str, most: int = 2**63 - 1) -> int:
    """Return ``value`` as an int.

    Raises:
        UserError: no whole number, or one below ``least`` or above ``most``; ``where`` names it.
    """
    number = scalar(value)
    if not isinstance(number, Integral) or int(number) < least:
        raise UserError(f"{where} must be a whole number of at least {least}, not {value!r}")
    if int(number) > most:
        raise UserError(f"{where} must be at most {most:,}, not {value!r}")
    return int(number)


def finite(value: Any, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return ``value`` as a finite float.

    Raises:
        UserError: no number, NaN or infinite, or outside the bounds; ``where`` names it.
    """
    number = real(value)
    if math.isfinite(number) and least <= number <= most:
        return number
    bounds = [f"at least {least:,g}"] * (least > -math.inf)
    bounds += [f"at most {most:,g}"] * (most < math.inf)
    of = f" of {' and '.join(bounds)}" if bounds else ""
    raise UserError(f"{where} must be a finite number{of}, not {value!r}")


def share(value: Any, where: str) -> float:
    """Return ``value`` as a float from 0 to 1, or raise a :class:`UserError`."""
    number = real(value)
    if not 0.0 <= number <= 1.0:
        raise UserError(f"{where} must be between 0 and 1, not {value!r}")
    return number


def positive_share(value: Any, where: str, meaning: str = "") -> float:
    """Return ``value`` as a float above 0 and at most 1, or raise a :class:`UserError`."""
    number = real(value)
    if not 0.0 < number <= 1.0:
        raise UserError(f"{where} must be above 0 and at most 1, not {value!r}{meaning}")
    return number


def digits(text: str) -> str:
    """Return a text for ``int`` or ``float``, which would read ``1_0`` as 10.

    Raises:
        UserError: it has an underscore.
    """
    if "_" in text:
        raise UserError("write numbers without '_'")
    return text


def names_in(value: Any, rule: str) -> tuple[str, ...]:
    """Return a list of names, which may be one text with commas.

    Raises:
        UserError: anything else; the message begins with the rule.
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{rule}, not {value!r}")
    return tuple(value)


def number(value: float, digits: int = 4) -> str:
    """Write a number with ``digits`` digits, integers with all: ``36,980``; ``2e-9``."""
    size = abs(value)
    if not math.isfinite(value) or value == 0:
        return str(value) if value else "0"
    if not 1e-4 <= size < 1e15:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    if value == int(value):
        return f"{value:,.0f}"
    written = f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
