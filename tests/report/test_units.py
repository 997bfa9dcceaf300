"""How numbers are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.report import units


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (units.percent(0.0066), "0.66 %"),
        (units.percent(0.153), "15.3 %"),
        (units.percent(0.9753), "97.53 %"),
        (units.percent(0), "0 %"),
        (units.short(999), "999"),
        (units.short(998.3), "998"),
        (units.short(999_999), "1 M"),
        (units.short(13_106_400), "13.1 M"),
        (units.storage(999), "999 B"),
        (units.storage(6_864_000), "6.86 MB"),
        (units.duration(0.00042), "420 µs"),
        (units.duration(0.0021), "2.1 ms"),
        (units.duration(12.34), "12.3 s"),
        (units.duration(60), "1 min"),
        (units.duration(3720), "1 h 2 min"),
        (units.plain(None), "none"),
        (units.plain(True), "yes"),
        (units.plain([1, 0.5]), "1, 0.5"),
        (units.plain(math.inf), "inf"),
        (units.plain(1000), "1,000"),
        (units.plain(36980.0), "36,980"),
        (units.plain(36980.5), "36,980"),
        (units.plain(1234.56), "1,235"),
        (units.plain(0.0), "0"),
        (units.plain(0.0001234), "0.0001234"),
        (units.plain(2e-9), "2e-9"),
        (units.plain(-1.23456e300), "-1.235e+300"),
        (units.plain(1e-310), "1e-310"),
        (units.plain(0.965000012, 9), "0.965000012"),
        (units.times(10.83), "10.8×"),
        (units.times(1.07), "1.07×"),
        (units.times(1234.5), "1,234×"),
    ],
)
def test_units(written: str, expected: str) -> None:
    assert written == expected


@given(st.floats(1, 1e15))
def test_short_counts_are_within_half_a_percent(value: float) -> None:
    number, _, suffix = units.short(value).partition(" ")
    factor = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[suffix]
    assert float(number) * factor == pytest.approx(value, rel=5.1e-3)


@given(st.floats(-1e308, 1e308), st.integers(4, 17))
def test_numbers_are_right_to_the_digits_written(value: float, digits: int) -> None:
    read = float(units.plain(value, digits).replace(",", ""))
    # Half of the last digit, and the rounding of the number that is read.
    assert read == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits) + 2.3e-16, abs=5e-324)


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308))
def test_ends_of_a_range_differ(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    digits = units.digits_between(low, high)
    apart = units.plain(low, digits) != units.plain(high, digits)
    assert apart == (low != high)
