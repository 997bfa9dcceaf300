"""The figures, worked out by hand from the fakes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import pair, run

from gossamer.report import figures, units
from gossamer.report.figure_row import Cell, Gain
from gossamer.report.layers import layers_of
from gossamer.report.metrics_reader import machine
from gossamer.report.summary import warnings


def line(runs: dict[str, Any], label: str) -> figures.Line:
    return next(line for line in figures.compare(runs) if line.label == label)


def texts(runs: dict[str, Any], label: str) -> list[str]:
    found = line(runs, label)
    return [cell.text for cell in found.cells] + [gain.text for gain in found.gains if gain]


# Dense: 1,600 + 102,400 + 1,600,000 + 12,000 weights. Sparse: 800 + 20,480 + 160,000 + 12,000.
@pytest.mark.parametrize(
    ("label", "provenance", "expected"),
    [
        ("Accuracy", "measured", ["97.30 %", "96.90 %", "−0.40 points"]),
        ("Loss", "measured", ["0.1105", "0.1312", "1.19× higher"]),
        ("Non-zero weights", "counted", ["1,716,000", "193,280", "8.9× fewer"]),
        ("Weight density, sparsifiable layers", "counted", ["100 %", "11.3 %", "8.9× lower"]),
        # (193,280 + 1,076) / (1,716,000 + 1,076)
        ("Weight density, all parameters", "counted", ["100 %", "11.3 %", "8.8× lower"]),
        ("Activation density", "measured", ["52.0 %", "10.7 %", "4.9× lower"]),
        ("Multiply-adds, dense", "counted", ["13.1 M", "13.1 M", "same"]),
        # 627,200 + 2,048,000 + 160,000 + 12,000
        ("Multiply-adds, weights only", "counted", ["13.1 M", "2.85 M", "4.6× fewer"]),
        # 627,200 + 194,560 + 20,000 + 1,200 against 1,254,400 + 4,864,000 + 1,000,000 + 6,000
        ("Multiply-adds, weights × activations", "counted", ["7.12 M", "843 k", "8.5× fewer"]),
        ("Parameters' bytes", "counted", ["6.87 MB", "992 kB", "6.9× smaller"]),
        ("Size of model.onnx", "counted", ["6.87 MB", "979 kB", "7.0× smaller"]),
        ("Time, engine, batch 1", "measured", ["600 µs", "60 µs", "10.0× faster"]),
        ("Time, engine, batch 64", "measured", ["400 µs", "50 µs", "8.0× faster"]),
        ("Time, torch, batch 1", "measured", ["1.4 ms", "2.1 ms", "1.50× slower"]),
        ("Training time", "measured", ["1 min 30 s", "1 min 30 s", "same"]),
    ],
)
def test_row(label: str, provenance: str, expected: list[str]) -> None:
    assert line(pair(), label).provenance == provenance
    assert texts(pair(), label) == expected


def test_engine_times_say_what_they_were_measured_with() -> None:
    here = machine(run())
    assert line(pair(), "Time, engine, batch 1").note == f"1 thread, avx2, {here}"
    refusing = {"mine": run(engine={"refused": "node 'a' (Foo): no such operator"})}
    assert all("engine" not in found.label for found in figures.compare(refusing))
    assert any("mine" in told and "(Foo)" in told for told in warnings(refusing))


def test_noise_score_says_x_of_y() -> None:
    found = line(
        {"one": run(noise={"levels": [0], "correct": [3], "score": 3, "of": 4})}, "Noise score"
    )
    assert found.cells == (Cell("75.0 %", "3 of 4"),)
    assert found.provenance == "measured"


def test_gain_is_good_or_bad_by_the_rows_direction() -> None:
    good = {found.label: found.gains[0].good for found in figures.compare(pair()) if found.gains[0]}
    assert good["Accuracy"] is False
    assert good["Noise score"] is True
    assert good["Non-zero weights"] is True
    assert good["Time, torch, batch 1"] is False
    assert good["Multiply-adds, dense"] is None


def test_a_note_that_all_runs_share_is_printed_once() -> None:
    assert line(pair(), "Non-zero weights").note == "of 1,716,000"
    assert all(not cell.note for cell in line(pair(), "Non-zero weights").cells)
    assert line(pair(), "Accuracy").note == ""
    assert [cell.note for cell in line(pair(), "Accuracy").cells] == [
        "3,892 of 4,000, test",
        "3,876 of 4,000, test",
    ]
    assert line({"only": run()}, "Non-zero weights").cells[0].note == "of 1,716,000"


def test_times_of_two_machines_are_not_compared() -> None:
    runs = {"here": run(), "there": run(machine="another machine")}
    found = line(runs, "Time, torch, batch 1")
    assert found.gains == (None,)
    assert [cell.note for cell in found.cells] == [machine(run()), "another machine"]
    assert line(runs, "Non-zero weights").gains[0] == Gain("same", None)
    assert "different machines" in " ".join(warnings(runs))


def test_accuracies_of_two_tasks_are_not_compared() -> None:
    runs = {"a": run(), "b": run(task="mnist")}
    assert line(runs, "Accuracy").gains == (None,)
    assert any("different data" in said for said in warnings(runs))


def test_missing_and_non_finite_figures_are_a_dash_not_a_number() -> None:
    bare = {"accuracy": 0.5, "loss": math.nan, "seconds": None, "noise": None, "weights": {}}
    runs = {"bare": bare, "full": run()}
    assert line(runs, "Loss").cells[0].text == units.NOTHING
    assert line(runs, "Loss").gains == (None,)
    assert line(runs, "Noise score").cells[0].text == units.NOTHING
    # Rows that no run holds are left out.
    assert [found.label for found in figures.compare({"bare": bare})] == ["Accuracy"]
    assert layers_of(bare) == []


def test_nothing_has_no_ratio() -> None:
    empty = run()
    empty["macs"] = {"dense": 1.0, "weights": 0, "both": 0}
    assert line({"a": empty, "b": run()}, "Multiply-adds, weights only").gains == (None,)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_gain_and_its_reverse_agree(one: int, other: int) -> None:
    first, second = ({"weights": {"nonzero": count}} for count in (one, other))
    there = figures.NONZERO.gain(first, second)
    back = figures.NONZERO.gain(second, first)
    assert there is not None
    assert back is not None
    if there.good is None:
        assert there == back
    else:
        assert there.good is (other < one)
        assert back.good is (not there.good)
        assert there.text.split()[0] == back.text.split()[0]
