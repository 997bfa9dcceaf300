"""The progress bar of a search."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.search.experiments import METRICS, make

from gossamer.search import Maximize, Minimize, Trial, TrialRecord
from gossamer.search.execution.progress import Board
from gossamer.search.frontier import best, frontier


def test_the_progress_bar_counts(capsys):
    def train(trial):
        if trial.number == 0:
            raise ValueError("no")
        return {"accuracy": 0.5 + 0.1 * trial.number, "density": 0.1}

    make(budget=6).run(train, progress=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "6/6" in shown
    assert "2 inside, 1 failed; best: trial 5, accuracy 1, density 0.1" in shown


def complete(number, accuracy, density):
    values = {"accuracy": accuracy, "density": density}
    return TrialRecord(number, "complete", {}, values, None, 1.0)


def test_the_best_is_one_trial_inside_or_the_nearest():
    board = Board("x", METRICS, 9, [], show=False)
    assert board.summary() == "0 inside"
    board.add(complete(0, 0.5, 0.1))
    board.add(complete(1, 0.99, 0.9))  # the best accuracy, far outside
    board.add(complete(2, 0.85, 0.1))
    assert board.summary() == "0 inside; nearest: trial 2, accuracy 0.85, density 0.1"
    board.add(complete(3, 0.95, 0.15))
    board.add(complete(4, 0.91, 0.01))
    assert board.summary() == "2 inside; best: trial 3, accuracy 0.95, density 0.15"


def test_a_trial_that_is_continued_is_named_until_it_ends():
    board = Board("x", METRICS, 9, [complete(5, 0.85, 0.1)], show=False)
    before = board.summary()
    board.start(Trial(6, {}))
    assert board.summary() == before
    board.start(Trial(7, {}, origin=5, continued=2))
    assert board.summary() == f"{before}; trial 5 trains 4 times as long"
    board.add(complete(7, 0.2, 0.1))
    assert board.summary() == before


def test_counts_are_counts_and_the_split_is_named():
    metrics = [Maximize("accuracy", 0.9), Minimize("nonzero", 40_000)]
    values = {"accuracy": 0.95, "nonzero": 36_980.0}
    record = TrialRecord(12_345, "complete", {}, values, None, 1.0)
    board = Board("x", metrics, 9, [record], split="validation", show=False)
    named = "trial 12,345, validation accuracy 0.95, nonzero 36,980"
    assert board.summary() == f"1 inside; best: {named}"


def test_running_time_is_shown_where_it_is_limited(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("gossamer.search.execution.progress.time.monotonic", lambda: now[0])
    board = Board("x", METRICS, 9, [], minutes=30.0, running=12.0, show=False)
    assert board.summary() == "12 of 30 min; 0 inside"
    now[0] += 90.0
    board.add(complete(0, 0.95, 0.1))
    assert board.summary().startswith("14 of 30 min; 1 inside; best: trial 0")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12))
def test_the_named_trial_is_the_first_of_the_frontier(values):
    records = [complete(i, *pair) for i, pair in enumerate(values)]
    first = frontier(METRICS, records)
    found = best(METRICS, records)
    if found is None:
        assert first.trials == []
        return
    assert found[1] == first.feasible
    assert found[0].values == first.trials[0].values
    board = Board("x", METRICS, 9, records, show=False)
    words = re.search(r"trial (\d+), accuracy (\S+), density (\S+)$", board.summary())
    named = records[int(words[1])].values
    assert np.allclose([float(words[2]), float(words[3])], list(named.values()), rtol=1e-3)
