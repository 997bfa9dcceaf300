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
