"""Experiments side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_fakes import experiment, goal, record, snapshot
from test_page import read

from gossamer.report import page, report
from gossamer.report.overview import Best, metrics_of, overview
from gossamer.search import Experiment, Float, Maximize, Minimize


def test_rows_count_and_name_the_best_inside() -> None:
    records = [
        record(0, "complete", {}, {"accuracy": 0.97, "density": 0.1}, started=100.0),
        record(1, "complete", {}, {"accuracy": 0.98, "density": 0.14}, started=200.0),
        record(2, "complete", {}, {"accuracy": 0.99, "density": 0.2}, started=300.0),  # outside
        record(3, "failed", {}, {}, "no", started=400.0),
        record(4, "stopped", {}, {}, "slow", started=500.0),
        record(5, "running", {}, {}, seconds=None, started=600.0),
    ]
    other = snapshot([], metrics=(goal("time", "minimize"),), budget=None)
    rows = overview({"broken": "of a later version", "time": other, "speech": snapshot(records)})
    (
        first,
        *_,
    ) = rows
    assert [row.name for row in rows] == ["speech", "broken", "speech"]  # the newest first
    assert (first.done, first.running, first.failed, first.inside) == ("5 of 1,000", 1, 1, 2)
    assert first.best == {
        "accuracy": Best("0.98", "≥\u00a00.965", 1),
        "density": Best("0.1", "≤\u00a00.15", 0),
    }
    assert first.active.startswith("1970-01-0")
    assert rows[1].wrong == "of a later version"
    assert (rows[2].done, rows[2].best, rows[2].active) == ("0", {"time": None}, "–")
    assert metrics_of(rows) == ["accuracy", "density", "time"]


def test_last_activity_is_the_latest_begin_report_or_end() -> None:
    assert snapshot([record(0, started=None)]).last_activity is None
    ended = record(0, started=100.0, seconds=41.0)
    running = record(1, "running", seconds=None, started=120.0)
    assert snapshot([ended, running]).last_activity == 141.0


def test_a_page_of_several_experiments(tmp_path: Path) -> None:
    speech, other = experiment(40), experiment(30)
    object.__setattr__(other, "name", "digits")
    found = read(page(tmp_path / "report.html", {}, [speech, other]))
    assert "Experiments side by side" in found.text
    assert {"scatter-0-1", "e1-scatter-0-1", "e1-importance-0"} <= set(found.figures)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in found.tags if tag == "a"]
    assert sorted(links) == ["#e1-experiment", "#experiment"]
    assert {link[1:] for link in links if link} <= set(ids)


def test_a_report_of_a_storage_shows_all_its_experiments(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'all.db'}"
    for name in ("b", "a"):
        made = Experiment(
            name,
            [Float("x", 0.0, 1.0)],
            [Maximize("up"), Minimize("down")],
            storage=storage,
            sampler="random",
        )
        made.tell(made.ask(), {"up": 1.0, "down": 2.0})
    found = read(report(storage, output=tmp_path / "report.html"))
    assert "Experiment a" in found.text
    assert "Experiment b" in found.text
    with pytest.raises(Exception, match="two experiments are called"):
        report(storage, storage, output=tmp_path / "report.html")
