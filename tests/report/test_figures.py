"""The figures, worked out by hand from the fakes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import pair, run

from gossamer.report import figures, units


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
        ("Time per inference, engine, batch 1", "measured", ["600 µs", "60 µs", "10.0× faster"]),
        ("Time per inference, engine, batch 64", "measured", ["400 µs", "50 µs", "8.0× faster"]),
        ("Time per inference, torch, batch 1", "measured", ["1.4 ms", "2.1 ms", "1.50× slower"]),
        ("Training time", "measured", ["1 min 30 s", "1 min 30 s", "same"]),
    ],
)
def test_row(label: str, provenance: str, expected: list[str]) -> None:
    assert line(pair(), label).provenance == provenance
    assert texts(pair(), label) == expected


def test_engine_times_say_what_they_were_measured_with() -> None:
    machine = figures.machine(run())
    assert line(pair(), "Time per inference, engine, batch 1").note == f"1 thread, avx2, {machine}"
    refusing = {"mine": run(engine={"refused": "node 'a' (Foo): no such operator"})}
    assert all("engine" not in found.label for found in figures.compare(refusing))
    assert any("mine" in told and "(Foo)" in told for told in figures.warnings(refusing))


def test_noise_score_says_x_of_y() -> None:
    found = line(
        {"one": run(noise={"levels": [0], "correct": [3], "score": 3, "of": 4})}, "Noise score"
    )
    assert found.cells == (figures.Cell("75.0 %", "3 of 4"),)
    assert found.provenance == "measured"


def test_gain_is_good_or_bad_by_the_rows_direction() -> None:
    good = {found.label: found.gains[0].good for found in figures.compare(pair()) if found.gains[0]}
    assert good["Accuracy"] is False
    assert good["Noise score"] is True
    assert good["Non-zero weights"] is True
    assert good["Time per inference, torch, batch 1"] is False
    assert good["Multiply-adds, dense"] is None


def test_every_row_has_a_provenance_of_the_three() -> None:
    assert {row.provenance for row in figures.ROWS} <= set(figures.PROVENANCE)


def test_note_that_all_runs_share_is_said_once() -> None:
    assert line(pair(), "Non-zero weights").note == "of 1,716,000"
    assert all(not cell.note for cell in line(pair(), "Non-zero weights").cells)
    assert line(pair(), "Accuracy").note == ""
    assert [cell.note for cell in line(pair(), "Accuracy").cells] == [
        "3,892 of 4,000",
        "3,876 of 4,000",
    ]
    assert line({"only": run()}, "Non-zero weights").cells[0].note == "of 1,716,000"


def test_times_of_two_machines_are_not_compared() -> None:
    runs = {"here": run(), "there": run(machine="another machine")}
    found = line(runs, "Time per inference, torch, batch 1")
    assert found.gains == (None,)
    assert [cell.note for cell in found.cells] == [figures.machine(run()), "another machine"]
    assert line(runs, "Non-zero weights").gains[0] == figures.Gain("same", None)
    assert "different machines" in " ".join(figures.warnings(runs))


def test_accuracies_of_two_tasks_are_not_compared() -> None:
    runs = {"a": run(), "b": run(task="mnist")}
    assert line(runs, "Accuracy").gains == (None,)
    assert any("different data" in said for said in figures.warnings(runs))


def test_synthetic_data_is_said() -> None:
    said = figures.warnings({"a": run(synthetic=True, task="spoken_words")})
    assert len(said) == 1
    assert said[0].startswith("Synthetic data")
    assert "spoken_words" in said[0]
    assert figures.warnings(pair()) == []


def test_missing_and_non_finite_figures_are_a_dash_not_a_number() -> None:
    bare = {"accuracy": 0.5, "loss": math.nan, "seconds": None, "noise": None, "weights": {}}
    runs = {"bare": bare, "full": run()}
    assert line(runs, "Loss").cells[0].text == units.NOTHING
    assert line(runs, "Loss").gains == (None,)
    assert line(runs, "Noise score").cells[0].text == units.NOTHING
    # Rows that no run holds are left out.
    assert [found.label for found in figures.compare({"bare": bare})] == ["Accuracy"]
    assert figures.layers(bare) == []


def test_nothing_has_no_ratio() -> None:
    empty = run()
    empty["macs"] = {"dense": 1.0, "weights": 0, "both": 0}
    assert line({"a": empty, "b": run()}, "Multiply-adds, weights only").gains == (None,)


def test_sentence_names_accuracy_and_both_gains() -> None:
    assert figures.sentences(pair()) == [
        "The sparse network reaches 96.90 % accuracy (dense: 97.30 %) with "
        "8.9× fewer non-zero weights and 8.5× fewer non-zero multiply-adds."
    ]
    assert figures.sentences({"sparse": run()}) == [
        "The sparse network reaches 96.90 % accuracy with 193,280 of 1,716,000 weights non-zero."
    ]
    assert figures.sentences({}) == []
    assert figures.sentences({"a": {}, "b": {}}) == []
    three = figures.sentences({**pair(), "smaller": run()})
    assert [sentence.split()[1] for sentence in three] == ["sparse", "smaller"]


@pytest.mark.parametrize(
    ("name", "provenance"),
    [
        ("accuracy", "measured"),
        ("density", "counted"),
        ("energy", "modelled"),
        ("mine", "measured"),
    ],
)
def test_metric_provenance(name: str, provenance: str) -> None:
    assert figures.metric_provenance(name) == provenance


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
