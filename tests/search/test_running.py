"""Runs: failures, the budget, workers, interruptions."""

import math

import pytest
from tests.search.experiments import good, make, states

from gossamer.errors import UserError


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_stored_with_their_reason_and_count_as_trials(workers):
    def train(trial):
        if trial.number == 1:
            raise ValueError("two\nlines")
        if trial.number == 2:
            return {"accuracy": math.nan, "density": 0.1}
        if trial.number == 3:
            return 0.5
        if trial.number == 4:
            raise SystemExit(3)
        return good(trial)

    experiment = make()
    experiment.run(train, workers=workers, progress=False)
    records = experiment.trials()
    assert len(records) == 8
    assert [r.number for r in records if r.state == "failed"] == [1, 2, 3, 4]
    assert records[1].reason.startswith("ValueError: two lines (test_running.py, line ")
    assert records[2].reason == "metric 'accuracy' is nan"
    assert records[3].reason == "train returned float instead of a mapping of metrics to numbers"
    assert records[4].reason.startswith("SystemExit: 3")
    assert all(r.reason is None for r in records if r.state == "complete")


def test_a_metric_that_is_not_returned_names_what_is():
    experiment = make()
    with pytest.raises(UserError, match="no metric 'accuracy'; did you mean 'acuracy'") as error:
        experiment.run(lambda t: {"acuracy": 0.9, "density": 0.1}, progress=False)
    assert "it returned: acuracy, density" in str(error.value)
    (record,) = experiment.trials()
    assert record.state == "failed"
    assert record.reason == str(error.value)


def test_a_metric_that_is_missing_once_fails_that_trial_only():
    def train(trial):
        return {"density": 0.1} if trial.number == 2 else good(trial)

    experiment = make()
    experiment.run(train, progress=False)
    assert states(experiment) == ["complete"] * 2 + ["failed"] + ["complete"] * 5


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_whose_first_trials_all_fail_stops_and_quotes_the_reason(workers):
    def train(trial):
        raise ValueError("no such data")

    experiment = make(budget=50)
    with pytest.raises(UserError, match=r"first 5 trials all failed.*no such data") as error:
        experiment.run(train, workers=workers, progress=False)
    assert "\n" not in str(error.value)
    assert states(experiment).count("failed") == 5
    # Whatever else was under way is to be run again, not lost.
    assert "running" not in states(experiment)


def test_the_budget_ends_the_run_and_trials_limit_one():
    experiment = make()
    experiment.run(good, trials=3, progress=False)
    assert states(experiment) == ["complete"] * 3
    experiment.run(good, trials=2, progress=False)
    assert states(experiment) == ["complete"] * 5
    experiment.run(good, progress=False)
    assert states(experiment) == ["complete"] * 8
    experiment.run(good, progress=False)
    assert states(experiment) == ["complete"] * 8


def test_workers_run_closures_elsewhere_with_their_share_of_the_threads():
    import os

    here = os.getpid()

    def train(trial):
        return {
            "accuracy": float(os.getpid() != here),
            "density": 0.1,
            "threads": int(os.environ["OMP_NUM_THREADS"]),
        }

    experiment = make()
    experiment.run(train, workers=2, progress=False)
    records = experiment.trials()
    assert [r.values["accuracy"] for r in records] == [1.0] * 8
    assert all(r.values["threads"] >= 1 for r in records)


def test_what_cannot_be_sent_to_a_worker_is_an_error_before_anything_runs():
    import threading

    lock = threading.Lock()

    def train(trial):
        with lock:
            return good(trial)

    experiment = make()
    with pytest.raises(UserError, match="train cannot be sent to worker processes"):
        experiment.run(train, workers=2, progress=False)
    assert experiment.trials() == []


def test_a_trial_whose_worker_is_killed_is_run_again(tmp_path):
    def train(trial):
        import os
        import signal

        if trial.number == 1 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return good(trial)

    experiment = make(budget=3)
    experiment.run(train, workers=2, progress=False)
    records = experiment.trials()
    assert [r.state for r in records] == ["complete"] * 3
    assert [r.attempts for r in records] == [1, 2, 1]


@pytest.mark.slow
def test_a_trial_that_kills_its_worker_each_time_fails_alone():
    def train(trial):
        import os
        import signal

        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return good(trial)

    experiment = make()
    experiment.run(train, workers=2, progress=False)
    records = experiment.trials()
    assert [r.state for r in records] == ["complete", "failed"] + ["complete"] * 6
    assert records[1].reason.startswith("the worker process died (SIGKILL")
    assert records[1].reason.endswith("5 times")
    assert records[1].attempts == 5


def test_after_a_mistake_is_fixed_a_search_goes_on(tmp_path):
    def broken(trial):
        raise ValueError("no such data")

    url = f"sqlite:///{tmp_path}/x.db"
    for _ in range(3):  # the budget of 8 is used up by failures, and more than that
        with pytest.raises(UserError, match="no such data"):
            make(storage=url).run(broken, progress=False)
    assert states(make(storage=url)) == ["failed"] * 15
    make(storage=url).run(good, progress=False)
    assert states(make(storage=url)) == ["failed"] * 15 + ["complete"] * 8
    make(storage=url).run(good, progress=False)
    assert len(make(storage=url).trials()) == 23


def test_an_interrupted_run_puts_its_trial_back_once(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    seen = []

    def train(trial):
        seen.append((trial.number, trial.parameters))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return good(trial)

    experiment = make(storage=url)
    by_hand = experiment.ask()
    with pytest.raises(KeyboardInterrupt, match="stopped after 2 trials; 1 put back"):
        experiment.run(train, progress=False)
    # What was asked for by hand is not the run's to put back.
    assert states(experiment) == ["running", "complete", "complete", "waiting"]
    make(storage=url).run(train, progress=False)
    assert seen[2] == seen[3]
    assert [number for number, _ in seen] == [1, 2, 3, 3, 4, 5, 6, 7]
    assert states(experiment) == ["running"] + ["complete"] * 7
    experiment.tell(by_hand, {"accuracy": 1, "density": 0})
    assert states(experiment) == ["complete"] * 8


@pytest.mark.parametrize(("workers", "trials"), [(0, None), (True, None), (1, 0), (1, 2.5)])
def test_run_checks_its_numbers(workers, trials):
    with pytest.raises(UserError, match="must be a whole number of at least 1"):
        make().run(good, workers=workers, trials=trials, progress=False)


def test_minutes_end_the_run_and_another_goes_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gossamer.search.execution.runner.time.monotonic", lambda: now[0])
    experiment = make(budget=8)

    def minute_long(trial):
        now[0] += 60.0
        return good(trial)

    experiment.run(minute_long, progress=False, minutes=2.5)
    assert len(experiment.trials()) == 3
    experiment.run(minute_long, progress=False, minutes=1)
    assert states(experiment) == ["complete"] * 4
    with pytest.raises(UserError, match="minutes must be a number above 0"):
        experiment.run(good, minutes=0)


def test_minutes_of_an_experiment_hold_over_its_runs(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gossamer.search.execution.runner.time.monotonic", lambda: now[0])
    monkeypatch.setattr("gossamer.search.execution.runner.running_seconds", lambda _: now[0])
    experiment = make(budget=None, minutes=4.5)

    def minute_long(trial):
        now[0] += 60.0
        return good(trial)

    experiment.run(minute_long, progress=False, minutes=1.5)
    assert len(experiment.trials()) == 2
    experiment.run(minute_long, progress=False)
    assert len(experiment.trials()) == 5
    experiment.run(minute_long, progress=False)
    assert len(experiment.trials()) == 5
    with pytest.raises(UserError, match="minutes must be a number above 0, not -1"):
        make(minutes=-1)
