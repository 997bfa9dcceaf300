"""Several drivers on one database: other points, each trial once."""

import threading
from collections import Counter

import pytest
from tests.search.servers import PostgreSQL, needs_postgresql

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
