"""Trials as tables."""

from __future__ import annotations

import sys

import pytest
from tests.search.experiments import make

from gossamer.errors import UserError
from gossamer.search import Frontier, TrialRecord, Trials, to_dataframe

TRIALS = [
    TrialRecord(3, "complete", {"rate": 0.1, "rule": "<b>"}, {"weights": 36_980.0}, None, 2.5),
    TrialRecord(7, "failed", {"rate": 0.2, "steps": 4}, {}, "ValueError: no", 0.1, "small"),
]


def test_trials_as_a_dataframe():
    pandas = pytest.importorskip("pandas")
    frame = to_dataframe(TRIALS)
    assert list(frame.columns) == [
        "state",
        "seconds",
        "reason",
        "fidelity",
        "note",
        "value:weights",
        "parameter:rate",
        "parameter:rule",
        "parameter:steps",
    ]
    assert list(frame.index) == [3, 7]
    assert frame.loc[3, "value:weights"] == 36_980.0
    assert pandas.isna(frame.loc[7, "value:weights"])
    assert frame.loc[7, "reason"] == "ValueError: no"
    assert list(frame["parameter:rate"]) == [0.1, 0.2]
    assert Frontier(TRIALS[:1], True).to_dataframe().equals(to_dataframe(TRIALS[:1]))
    assert list(to_dataframe([]).columns) == [
        "state",
        "seconds",
        "reason",
        "fidelity",
        "note",
    ]


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        to_dataframe(TRIALS)


def test_a_frontier_in_a_notebook():
    shown = Frontier(TRIALS[:1], True)._repr_html_()
    assert shown.startswith("<p>On the frontier:</p><table>")
    assert "<th>weights</th><th>rate</th><th>rule</th>" in shown
    assert "<td>3</td><td>36,980</td><td>0.1</td><td>&lt;b&gt;</td>" in shown
    assert "nearest" in Frontier([], False)._repr_html_()


def test_all_trials_in_a_notebook():
    trials = make().trials()
    assert trials == []
    assert trials._repr_html_().startswith("<p>0 trials:</p><table>")
    shown = Trials(TRIALS)._repr_html_()
    assert shown.startswith("<p>2 trials:</p><table><tr><th>trial</th><th>state</th><th>weights<")
    assert "<td>7</td><td>failed</td><td></td><td>0.2</td><td></td><td>4</td>" in shown
    many = [TrialRecord(n, "complete", {}, {}, None, 1.0) for n in range(1_000)]
    shown = Trials(many)._repr_html_()
    assert shown.startswith("<p>1,000 trials, the first and the last 30:</p>")
    assert shown.count("<tr>") == 61
    assert "<td>29</td>" in shown
    assert "<td>970</td>" in shown
    assert "<td>30</td>" not in shown


def test_all_trials_as_a_dataframe():
    pytest.importorskip("pandas")
    assert Trials(TRIALS).to_dataframe().equals(to_dataframe(TRIALS))


def test_noise_and_notes_stand_in_tables():
    pytest.importorskip("pandas")
    noisy = TrialRecord(
        1, "complete", {}, {"time": 2.0}, None, 1.0, noise={"time": 0.125}, note="x"
    )
    frame = to_dataframe([noisy, *TRIALS])
    assert list(frame.columns)[4:8] == ["note", "value:time", "value:weights", "noise:time"]
    assert (frame.loc[1, "noise:time"], frame.loc[1, "note"]) == (0.125, "x")
    assert "<td>2 ± 0.12</td>" in Frontier([noisy], True)._repr_html_()
