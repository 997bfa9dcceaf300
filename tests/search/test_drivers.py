"""Several drivers on one database: other points, each trial once."""

import subprocess
import sys
import threading
from collections import Counter

import pytest
from tests.search.servers import PostgreSQL, needs_postgresql
from tests.search.waiting import wait_for

from gossamer.search import Experiment, Float, Int, Minimize


def search_together(url, drivers, budget, sampler, parameters):
    """As many experiments as drivers, each in a thread of its own, begin at the same moment."""
    barrier = threading.Barrier(drivers)
    errors = []

    def drive():
        experiment = Experiment(
            "x", parameters, [Minimize("m", 0.5)], budget=budget, storage=url, sampler=sampler
        )
        barrier.wait(60)
        try:
            experiment.run(lambda t: {"m": sum(t.parameters.values())}, progress=False)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drive) for _ in range(drivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert errors == []
    records = Experiment.from_storage(url).trials()
    assert [(r.number, r.state) for r in records] == [(n, "complete") for n in range(budget)]
    return Counter(tuple(r.parameters.values()) for r in records)


TWO = [Float("a", 0, 1), Float("b", 0, 1)]


def test_four_drivers_never_try_a_point_twice(tmp_path):
    points = search_together(f"sqlite:///{tmp_path}/x.db", 4, 20, "random", TWO)
    assert max(points.values()) == 1


def test_drivers_share_a_grid_out(tmp_path):
    """Every point of a grid once, though each process draws from the same few."""
    points = search_together(f"sqlite:///{tmp_path}/x.db", 3, 12, "random", [Int("a", 1, 12)])
    assert len(points) == 12


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "drivers", "trials"), [("gp", 4, 60), ("random", 20, 100)])
def test_many_drivers_never_try_a_point_twice(tmp_path, sampler, drivers, trials):
    points = search_together(f"sqlite:///{tmp_path}/x.db", drivers, trials, sampler, TWO)
    assert max(points.values()) == 1


@pytest.mark.slow
def test_drivers_on_postgresql_never_try_a_point_twice():
    needs_postgresql()
    server = PostgreSQL()
    try:
        points = search_together(server.url, 8, 40, "random", TWO)
    finally:
        server.close()
    assert max(points.values()) == 1


DRIVER = """
import os, pathlib, sys, time
from gossamer.search import Experiment, Float, Minimize

folder = pathlib.Path(sys.argv[1])

def train(trial):
    (folder / f"begun-{trial.number}-{os.getpid()}").touch()
    time.sleep(0.1)
    trial.report(1, {"m": 1.0}, of=2)
    time.sleep(0.1)
    return {"m": sum(trial.parameters.values())}

experiment = Experiment(
    "x", [Float("a", 0, 1), Float("b", 0, 1)], [Minimize("m", 0.5)],
    budget=60, storage=f"sqlite:///{folder}/x.db", sampler="random",
)
experiment.run(train, progress=False)
"""


@pytest.mark.slow
def test_driver_processes_killed_within_trials_lose_and_double_nothing(tmp_path):
    """Four processes for 60 trials; each is killed in a trial, and another begins in its place."""

    def begin():
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", DRIVER, str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )

    def in_a_trial(process):
        return list(tmp_path.glob(f"begun-*-{process.pid}"))

    drivers = [begin() for _ in range(4)]
    ended = {}
    for turn in range(4):
        victim = drivers[turn]
        wait_for(lambda victim=victim: in_a_trial(victim) or victim.poll() is not None, "a trial")
        victim.kill()
        victim.wait(60)
        victim.stderr.close()
        drivers[turn] = begin()
        now = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
        complete = {r.number: r for r in now if r.state == "complete"}
        assert ended.items() <= complete.items()
        ended = complete
    for driver in drivers:
        assert driver.communicate(timeout=300)[1] == ""
        assert driver.returncode == 0
    records = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
    assert ended.items() <= {r.number: r for r in records}.items()
    # One that was running when the others had used up the budget is run by the next driver.
    assert begin().communicate(timeout=120)[1] == ""
    records = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
    assert [(r.number, r.state) for r in records] == [(n, "complete") for n in range(60)]
    assert len({tuple(r.parameters.values()) for r in records}) == 60
    # Only what was lost in the middle was begun more than once.
    begun = Counter(path.name.split("-")[1] for path in tmp_path.glob("begun-*"))
    assert sum(begun.values()) <= 60 + 4
    assert all(len(r.reports) == 1 for r in records)


def test_an_impatient_driver_still_repeats_no_point(tmp_path, monkeypatch):
    """After the time in which any new trial makes it choose anew, only the same one does."""
    monkeypatch.setattr("gossamer.search.experiment._FRESH_SECONDS", -1.0)
    url = f"sqlite:///{tmp_path}/x.db"
    first, second = (
        Experiment("x", TWO, [Minimize("m")], storage=url, sampler="random") for _ in range(2)
    )
    suggest = second._suggester.suggest

    def slow(history):
        monkeypatch.setattr(second._suggester, "suggest", suggest)
        first.ask()
        return suggest(history)

    monkeypatch.setattr(second._suggester, "suggest", slow)
    trial = second.ask()
    assert trial.number == 1
    assert trial.parameters != first.trials()[0].parameters
