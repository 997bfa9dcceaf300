"""Several processes on one storage: the budget is used up, and never overshot."""

import multiprocessing
from collections import Counter

import pytest
from tests.search.servers import PostgreSQL, needs_postgresql

from gossamer.search import Experiment, Fidelity, Float, Maximize
from gossamer.search.trials.budget import running_seconds
from gossamer.search.trials.trial import TrialRecord

PROCESSES = 5
ROUNDS = 4
CHEAP = Fidelity("cheap", cost=0.3, reduction=2)


def make(url, name="x", budget=7, fidelities=()):
    return Experiment(
        name,
        [Float("a", 0, 1)],
        [Maximize("accuracy", 0.5)],
        budget=budget,
        sampler="random",
        storage=url,
        fidelities=fidelities,
    )


def test_running_time_counts_once_what_ran_at_the_same_time():
    spans = [
        (100.0, 60.0),
        (130.0, 60.0),
        (150.0, 10.0),
        (500.0, 30.0),
        (None, None),
        (600.0, None),
    ]
    records = [
        TrialRecord(i, "complete", {}, {}, None, seconds, started=started)
        for i, (started, seconds) in enumerate(spans)
    ]
    assert running_seconds(records) == 90.0 + 30.0
    assert running_seconds([]) == 0.0


def search(url, fidelities, barrier, calls):
    """One of the processes: all begin each round at the same moment."""
    for turn in range(ROUNDS):
        experiment = make(url, f"round{turn}", fidelities=fidelities)

        def train(trial, turn=turn):
            calls.put((turn, trial.number))
            return {"accuracy": trial.parameters["a"]}

        barrier.wait(60)
        experiment.run(train, progress=False)


def search_together(url, fidelities=()):
    """How often each (round, trial's number) was run."""
    spawn = multiprocessing.get_context("spawn")
    barrier, calls = spawn.Barrier(PROCESSES), spawn.SimpleQueue()
    arguments = (url, fidelities, barrier, calls)
    children = [spawn.Process(target=search, args=arguments) for _ in range(PROCESSES)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * PROCESSES
    counted = Counter()
    while not calls.empty():
        counted[calls.get()] += 1
    return counted


def check_exactly_seven(url):
    calls = search_together(url)
    assert calls == {(turn, number): 1 for turn in range(ROUNDS) for number in range(7)}
    for turn in range(ROUNDS):
        records = Experiment.from_storage(url, f"round{turn}").trials()
        assert [(r.number, r.state) for r in records] == [(n, "complete") for n in range(7)]


@pytest.mark.slow
@pytest.mark.serial
def test_five_processes_share_a_budget_of_seven(tmp_path):
    check_exactly_seven(f"sqlite:///{tmp_path}/x.db")


@pytest.mark.slow
@pytest.mark.serial
def test_five_processes_share_a_budget_of_seven_on_postgresql():
    needs_postgresql()
    server = PostgreSQL()
    try:
        check_exactly_seven(server.url)
    finally:
        server.close()


@pytest.mark.slow
@pytest.mark.serial
def test_five_processes_share_a_budget_of_fractional_costs(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    search_together(url, [CHEAP])
    for turn in range(ROUNDS):
        records = Experiment.from_storage(url, f"round{turn}").trials()
        spent = sum(0.3 if r.fidelity == "cheap" else 1.0 for r in records)
        assert 7 - 0.3 < spent <= 7 + 1e-9
        assert {r.state for r in records} == {"complete"}
        assert any(r.fidelity is None for r in records)


def outrun(monkeypatch, experiment, other):
    """`other` asks whenever `experiment` has seen room, but has not yet made its trial."""
    suggest, asked = experiment._suggester.suggest, []

    def slow(history):
        asked.append(other.ask_within(other.budget))
        return suggest(history)

    monkeypatch.setattr(experiment._suggester, "suggest", slow)
    return asked


def test_who_comes_second_to_the_last_place_makes_no_trial(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    first, second = make(url, budget=1), make(url, budget=1)
    asked = outrun(monkeypatch, second, first)
    assert second.ask_within(1) is None
    assert [trial.number for trial in asked] == [0]
    assert [r.state for r in second.trials()] == ["running"]
    # Asking by hand looks at no budget.
    monkeypatch.undo()
    assert second.ask().number == 1


def test_a_place_that_was_lost_leaves_the_smaller_ones(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    first, second = (make(url, budget=1, fidelities=[CHEAP]) for _ in range(2))
    asked = outrun(monkeypatch, second, first)
    # The other is quicker until the room is used up: 0.3 three times.
    assert second.ask_within(1) is None
    assert [trial and trial.number for trial in asked] == [0, 1, 2]
    assert len(second.trials()) == 3


def test_a_trial_put_back_keeps_its_place(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    first, second = make(url, budget=2), make(url, budget=2)
    trial = first.ask_within(2)
    first.ask_within(2)
    first._store.put_back(trial.number)
    assert second.ask_within(2) == trial
    assert second.ask_within(2) is None
    first.tell(trial, error="broke")
    assert second.ask_within(2) is None


def test_a_smaller_budget_runs_fewer_of_those_put_back(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = make(url, budget=4)
    trials = [experiment.ask_within(4) for _ in range(4)]
    experiment.tell(trials[3], {"accuracy": 1.0})
    for trial in trials[:3]:
        experiment._store.put_back(trial.number)
    smaller = make(url, budget=2)
    smaller.run(lambda trial: {"accuracy": trial.parameters["a"]}, progress=False)
    assert [r.state for r in smaller.trials()] == ["complete", "waiting", "waiting", "complete"]
