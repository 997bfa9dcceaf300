"""Metrics of every magnitude: plots, tables and views hold the right values, and no traceback."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_fakes import goal, record, snapshot
from rich.console import Console

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.panels import PANELS
from gossamer.report.plots.axes import Scale, scale_of
from gossamer.report.plots.base import Plot
from gossamer.report.terminal import frontier_table
from gossamer.search import Float, Snapshot

BASES = (0.0, 1e-310, 5e-324, 1e-12, 2.5e-9, 0.965, 1.0, 3698.0, 1e9, 1e300, -1e-12, -1e300)
STEPS = (0.0, 1e-310, 1e-12, 1e-9, 1e-3, 1.0, 1e6, 1e300)


@st.composite
def values(draw: st.DrawFn) -> list[float]:
    """Values of one metric: a base, and steps of one size from it, up or down."""
    base, step = draw(st.sampled_from(BASES)), draw(st.sampled_from(STEPS))
    counts = draw(st.lists(st.integers(-9, 9), min_size=1, max_size=6))
    return [base + count * step for count in counts]


def searched(first: list[float], second: list[float], limits: tuple[Any, Any]) -> Snapshot:
    records = [
        record(number, "complete", {"x": x}, {"up": x, "down": y})
        for number, (x, y) in enumerate(zip(first, second, strict=False))
    ]
    goals = (goal("up", "maximize", limits[0]), goal("down", "minimize", limits[1]))
    return snapshot(records, metrics=goals, parameters=(Float("x", 0.0, 1.0),))


def all_plots(read: Snapshot) -> list[Plot]:
    return [plot for panel in PANELS for plot in panel.draw(read)]


def numbers_of(found: Any) -> list[float]:
    """Every number in a figure's JSON."""
    if isinstance(found, dict):
        return [n for part in found.values() for n in numbers_of(part)]
    if isinstance(found, list):
        return [n for part in found for n in numbers_of(part)]
    return [found] if isinstance(found, float) else []


@given(values(), values(), st.booleans())
@example([1e-310, 1e300], [1.7e308, -1.7e308], True)
@example([1.0, math.nextafter(1.0, 2.0)], [5e-324, 1e-323], True)
@settings(max_examples=8, deadline=None)
def test_plots_hold_finite_numbers_within_their_axes(
    first: list[float], second: list[float], limited: bool
) -> None:
    limits = (
        (first[0], second[0])
        if limited and max(abs(first[0]), abs(second[0])) <= 1e300
        else (None, None)
    )
    read = searched(first, second, limits)
    for plot in all_plots(read):
        figure = json.loads(plot.json)
        assert all(map(math.isfinite, numbers_of(figure)))
        for axis, letter in (("xaxis", "x"), ("yaxis", "y")):
            layout = figure["layout"].get(axis, {})
            if "range" not in layout:
                continue
            low, high = layout["range"]
            assert high - low > 0
            assert math.isfinite(1000 / (high - low))  # pixels per unit
            for trace in figure["data"]:
                shown = trace.get(letter, [])
                at = [math.log10(v) if layout.get("type") == "log" else v for v in shown]
                assert all(low <= v <= high for v in at)
    console = Console(width=80)
    with console.capture() as caught:
        console.print(frontier_table(read))
    assert "Traceback" not in caught.get()


@given(values())
@settings(max_examples=100, deadline=None)
def test_ticks_are_few_round_distinct_and_in_place(listed: list[float]) -> None:
    scale = scale_of(listed)
    ticks = scale.ticks()
    assert len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    texts = [scale.text(tick) for tick in ticks]
    assert len(set(texts)) == len(texts)
    places = [scale.position(tick) for tick in ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def test_ticks_by_hand() -> None:
    assert Scale(False, 0.0, 1.0).ticks() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    energy = Scale(False, 1.1e-12, 3.2e-12)
    assert energy.ticks() == [1.5e-12, 2e-12, 2.5e-12, 3e-12]
    assert [energy.text(tick) for tick in energy.ticks()] == [
        "1.5e-12",
        "2e-12",
        "2.5e-12",
        "3e-12",
    ]
    near = scale_of([0.96500001, 0.96500003], 0)
    assert [near.text(tick) for tick in near.ticks()] == [
        "0.96500001",
        "0.965000015",
        "0.96500002",
        "0.965000025",
        "0.96500003",
    ]
    wide = scale_of([1e-310, 1e300], 0)
    assert [wide.text(tick) for tick in wide.ticks()][-2:] == ["1e+204", "1e+272"]


def test_nearly_constant_values_get_distinct_ticks() -> None:
    read = searched([0.96500001, 0.96500002], [1e-9, 2e-9], (None, None))
    up, down = read.metrics
    assert [words.value(read, up, trial) for trial in read.trials] == ["0.96500001", "0.96500002"]
    assert [words.value(read, down, trial) for trial in read.trials] == ["1e-9", "2e-9"]


def test_value_that_misses_is_never_written_as_the_threshold() -> None:
    read = searched([0.96499, 0.5], [0.1, 0.2], (0.965, None))
    assert words.value(read, read.metrics[0], read.trials[0]) == "0.96499"
    assert words.limit(read.metrics[0]) == "≥\u00a00.965"


@pytest.mark.parametrize("limit", [1e300, -1e300, 1e-310, 0.0])
def test_far_threshold_is_drawn(limit: float) -> None:
    read = searched([0.9, 0.95], [0.1, 0.2], (limit, limit))
    for plot in all_plots(read):
        assert all(map(math.isfinite, numbers_of(json.loads(plot.json))))
    assert units.plain(limit, 15) in words.limit(read.metrics[0])
