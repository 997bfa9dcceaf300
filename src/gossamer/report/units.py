"""Numbers as text, for terminal and page."""

from __future__ import annotations

import math

from gossamer.numbers import number

NOTHING = "–"  # the text of a figure that a run does not have


def whole(value: float) -> str:
    """``1716000`` -> ``1,716,000``."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share of one as percent, with the digits that matter: ``0.0066`` -> ``0.66 %``."""
    hundredths = 100 * value
    if hundredths in (0, 100):
        return f"{hundredths:.0f} %"
    digits = 2 if abs(hundredths) < 1 or abs(hundredths) >= 90 else 1
    return f"{hundredths:.{digits}f} %"


def short(value: float) -> str:
    """A count in three digits: ``13_120_000`` -> ``13.1 M``."""
    size = abs(value)
    for limit, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # Rounding must not write "1000 k" for what is 1 M.
        if size >= limit * 0.9995:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def storage(value: float) -> str:
    """Bytes in units of 1,000: ``6_864_000`` -> ``6.86 MB``."""
    return f"{value:.0f} B" if abs(value) < 999.5 else f"{short(value)}B"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: ``0.00042`` -> ``420 µs``; ``3700`` -> ``1 h 2 min``."""
    if abs(seconds) < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.3g} ms"
    if abs(seconds) < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def plain(value: object, digits: int = 4) -> str:
    """Write a parameter, metric or setting; numbers have ``digits`` significant digits.

    ``1000`` -> ``1,000``; ``0.123456`` -> ``0.1235``; ``2e-09`` -> ``2e-9``.
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, digits)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    return str(value)


def digits_between(low: float, high: float) -> int:
    """Return how many significant digits distinguish numbers from ``low`` to ``high``, min. 4."""
    largest, half = max(abs(low), abs(high)), high / 2 - low / 2
    if half <= 0 or largest / 2 / half < 10:
        return 4
    return min(17, 4 + math.floor(math.log10(largest / 2) - math.log10(half)))


def times(ratio: float) -> str:
    """A ratio of at least one: ``10.83`` -> ``10.8×``; ``1.07`` -> ``1.07×``."""
    digits = 2 if ratio < 1.995 else 1 if ratio < 99.95 else 0
    return f"{ratio:,.{digits}f}×"


def spread(low: float, high: float) -> str:
    """A range of ratios: ``(2.06, 15.3)`` -> ``2.1–15.3×``; one figure if the ends are equal."""
    first, last = times(low), times(high)
    return first if first == last else f"{first[:-1]}–{last}"
