"""Experiments: ask and tell, run, failures, storage, reopening."""

import math
import sqlite3

import numpy as np
import optuna
import pytest
import torch

from gossamer.errors import UserError
from gossamer.search import (
    Choice,
    Experiment,
    Float,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    Trial,
)
from gossamer.search.storage import Store

PARAMETERS = [Float("rate", 1e-4, 0.3, log=True), Int("width", 1, 64)]
METRICS = [Maximize("accuracy", 0.9), Minimize("density", 0.2)]


def make(name="x", **changes):
    arguments = {
        "parameters": PARAMETERS,
        "metrics": METRICS,
        "budget": 8,
        "sampler": "random",
        **changes,
    }
    return Experiment(name, **arguments)


def good(trial):
    return {"accuracy": 0.95, "density": trial.parameters["width"] / 640}


def states(experiment):
    return [record.state for record in experiment.trials()]


def test_ask_and_tell():
    experiment = make()
    trial = experiment.ask()
    assert trial.number == 0
    assert sorted(trial.parameters) == ["rate", "width"]
    assert states(experiment) == ["running"]
    told = experiment.tell(trial, {"density": 0.1, "seconds": 3, "accuracy": 0.97, "name": "net"})
    (record,) = experiment.trials()
    assert told == record
    assert record.state == "complete"
    assert record.parameters == trial.parameters
    # Metrics first; further numbers are kept, what is none is not.
    assert list(record.values.items()) == [("accuracy", 0.97), ("density", 0.1), ("seconds", 3.0)]
    assert record.seconds is not None
    assert record.seconds >= 0


def test_numbers_of_numpy_and_torch_are_numbers():
    experiment = make()
    values = {"accuracy": torch.tensor(0.5), "density": np.float32(0.25), "n": np.int64(3)}
    record = experiment.tell(experiment.ask(), {**values, "vector": np.ones(3)})
    assert record.values == {"accuracy": 0.5, "density": 0.25, "n": 3.0}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "metric 'accuracy' is nan"),
        (math.inf, "metric 'accuracy' is inf"),
        (None, "metric 'accuracy' is None"),
        ("0.9", "metric 'accuracy' is '0.9'"),
        (np.ones(2), "metric 'accuracy' is array([1., 1.])"),
    ],
)
def test_what_is_no_finite_number_fails_the_trial(value, words):
    experiment = make()
    record = experiment.tell(experiment.ask(), {"accuracy": value, "density": 0.1})
    assert record.state == "failed"
    assert record.reason == words
    assert record.values == {"density": 0.1}


def test_telling_what_cannot_be_told():
    experiment = make()
    trial = experiment.ask()
    with pytest.raises(UserError, match="either values or an error"):
        experiment.tell(trial)
    with pytest.raises(UserError, match="either values or an error"):
        experiment.tell(trial, {"accuracy": 1, "density": 1}, error="both")
    with pytest.raises(UserError, match="must be a mapping"):
        experiment.tell(trial, 0.5)
    with pytest.raises(UserError, match="trial 7 is not in this experiment"):
        experiment.tell(Trial(7, {}), {"accuracy": 1, "density": 1})
    experiment.tell(trial, error="first\nline")
    assert experiment.trials()[0].reason == "first line"
    with pytest.raises(UserError, match="trial 0 has ended already"):
        experiment.tell(trial, {"accuracy": 1, "density": 1})
    assert states(experiment) == ["failed"]


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
def test_failures_are_kept_with_their_reason_and_count_as_trials(workers):
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
    assert records[1].reason.startswith("ValueError: two lines (test_experiment.py, line ")
    assert records[2].reason == "metric 'accuracy' is nan"
    assert records[3].reason == "train returned float instead of a mapping of metrics to numbers"
    assert records[4].reason.startswith("SystemExit: 3")
    assert all(r.reason is None for r in records if r.state == "complete")


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


def test_what_cannot_be_sent_to_a_worker_is_said_before_anything_runs():
    import threading

    lock = threading.Lock()

    def train(trial):
        with lock:
            return good(trial)

    experiment = make()
    with pytest.raises(UserError, match="train cannot be sent to worker processes"):
        experiment.run(train, workers=2, progress=False)
    assert experiment.trials() == []


def test_a_worker_that_is_killed_fails_its_trial_only():
    def train(trial):
        import os
        import signal
        import time

        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return good(trial)

    experiment = make()
    experiment.run(train, workers=2, progress=False)
    records = experiment.trials()
    assert [r.state for r in records] == ["complete", "failed"] + ["complete"] * 6
    assert records[1].reason.startswith("the worker process died (SIGKILL")


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


def test_optuna_sees_the_thresholds_as_constraints(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = make(storage=url)
    experiment.tell(experiment.ask(), {"accuracy": 0.8, "density": 0.1})
    experiment.tell(experiment.ask(), {"accuracy": 0.95, "density": 0.1})
    study = optuna.load_study(study_name="x", storage=url)
    assert [t.constraints for t in study.trials] == [
        {"accuracy": pytest.approx(0.1), "density": pytest.approx(-0.1)},
        {"accuracy": pytest.approx(-0.05), "density": pytest.approx(-0.1)},
    ]
    assert [t.number for t in study.best_trials] == [1]


def test_thresholds_budget_and_order_may_change_when_reopened(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    make(storage=url).run(good, progress=False)
    again = make(
        storage=url,
        parameters=PARAMETERS[::-1],
        metrics=[Minimize("density", 0.01), Maximize("accuracy")],
        budget=10,
        sampler="gp",
    )
    again.run(good, progress=False)
    assert len(again.trials()) == 10
    assert all(r.values["accuracy"] == 0.95 for r in again.trials())
    # What Optuna keeps is still in the first order.
    study = optuna.load_study(study_name="x", storage=url)
    assert {t.values[0] for t in study.trials} == {0.95}
    stored = Experiment.from_storage(url)
    assert stored.budget == 10
    assert {m.name: m.threshold for m in stored.metrics} == {"accuracy": None, "density": 0.01}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": [*PARAMETERS, Float("more", 0, 1)]}, "parameter 'more' is new"),
        ({"parameters": PARAMETERS[:1]}, "parameter 'width' is missing"),
        (
            {"parameters": [PARAMETERS[0], Int("width", 1, 65)]},
            "parameter 'width' has high = 65, its trials 64",
        ),
        (
            {"parameters": [PARAMETERS[0], Float("width", 1, 64)]},
            "parameter 'width' has type = 'float', its trials 'int'",
        ),
        ({"metrics": METRICS[:1]}, "metric 'density' is missing"),
        (
            {"metrics": [Maximize("accuracy"), Maximize("density")]},
            "metric 'density' has goal 'maximize'",
        ),
        ({"constraints": [LinearConstraint({"rate": 1}, 1)]}, "the constraints differ"),
        ({"settings": {"task": "mnist"}}, "settings.task is 'mnist', in its trials nothing"),
    ],
)
def test_another_definition_under_the_same_name_is_refused(tmp_path, changes, words):
    url = f"sqlite:///{tmp_path}/x.db"
    make(storage=url)
    with pytest.raises(UserError) as error:
        make(storage=url, **changes)
    assert words in str(error.value)
    assert "another name or storage" in str(error.value)
    assert "\n" not in str(error.value)
    make(storage=url)
    make("other", storage=url, **changes)


def test_from_storage_rebuilds_everything(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    parameters = [
        *PARAMETERS,
        Float("stepped", 0.0, 1.0, step=0.25),
        Choice("kind", ["a", 2, None, True]),
    ]
    constraints = [LinearConstraint({"rate": 1.0, "width": -0.5}, 0.1)]
    settings = {"task": "mnist", "epochs": 3, "nested": {"list": [1, 2.5]}}
    first = make(
        storage=url, parameters=parameters, constraints=constraints, settings=settings, seed=4
    )
    first.run(good, trials=3, progress=False)
    again = Experiment.from_storage(url)
    assert again.name == "x"
    assert again.parameters == parameters
    assert again.metrics == METRICS
    assert again.constraints == constraints
    assert again.settings == settings
    assert again.budget == 8
    assert again.trials() == first.trials()
    next_here = first._sampler.suggest(first._history())
    assert again.ask().parameters == next_here


def test_from_storage_with_several_or_none(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(UserError, match="does not exist"):
        Experiment.from_storage(url)
    make("first", storage=url)
    make("second", storage=url)
    with pytest.raises(UserError, match="several experiments; give one's name: first, second"):
        Experiment.from_storage(url)
    with pytest.raises(UserError, match="no experiment 'secnd'; did you mean 'second'"):
        Experiment.from_storage(url, "secnd")
    assert Experiment.from_storage(url, "second").name == "second"


def test_a_study_of_someone_else_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="x", storage=url, directions=["maximize", "minimize"])
    study.tell(study.ask(), [1, 2])
    with pytest.raises(UserError, match="that gossamer did not make"):
        make(storage=url)
    with pytest.raises(UserError, match="did not make the study 'x'"):
        Experiment.from_storage(url)


def test_a_process_that_is_a_moment_quicker_is_no_stranger(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    read = Store.frozen

    def read_late(store):
        monkeypatch.undo()
        make(storage=url).ask()
        return read(store)

    monkeypatch.setattr(Store, "frozen", read_late)
    assert [trial.number for trial in make(storage=url).trials()] == [0]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("speech.db", "write 'sqlite:///speech.db'"),
        (3, "is not a database URL"),
        ("sqlite:///{}/missing/x.db", "missing does not exist; create it first"),
        ("sqlite:///{}", "is a folder"),
        ("sqlite:///{}/text.db", "is not an SQLite database"),
        ("sqlite:///{}/torn.db", "cannot be opened"),
        ("sqlite://", "names no file"),
        ("nosuch://host/base", "cannot be opened"),
    ],
)
def test_storage_that_cannot_be_used(tmp_path, url, words):
    (tmp_path / "text.db").write_text("accuracy,density\n0.9,0.1\n" * 20)
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 500)
    with pytest.raises(UserError) as error:
        make(storage=url.format(tmp_path) if isinstance(url, str) else url)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_storage_that_breaks_in_the_middle_is_one_line(tmp_path):
    path = tmp_path / "x.db"
    experiment = make(storage=f"sqlite:///{path}")
    trial = experiment.ask()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE trial_values")
    connection.close()
    with pytest.raises(UserError, match=r"storage failed: .*trial_values") as error:
        experiment.tell(trial, {"accuracy": 1, "density": 1})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "experiment's name"),
        ({"metrics": []}, "at least one metric"),
        ({"metrics": [Maximize("a"), Minimize("a")]}, "metric 'a' is given twice"),
        ({"parameters": []}, "at least one parameter"),
        ({"budget": 0}, "budget must be a whole number of at least 1"),
        ({"budget": 1.5}, "budget must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"settings": {"f": print}}, "settings may hold"),
        ({"sampler": "bayes"}, "unknown sampler 'bayes'"),
    ],
)
def test_experiments_of_nonsense(changes, words):
    with pytest.raises(UserError) as error:
        make(**{"name": "x", **changes})
    assert words in str(error.value)


@pytest.mark.parametrize(("workers", "trials"), [(0, None), (True, None), (1, 0), (1, 2.5)])
def test_run_checks_its_numbers(workers, trials):
    with pytest.raises(UserError, match="must be a whole number of at least 1"):
        make().run(good, workers=workers, trials=trials, progress=False)


def test_importances_find_what_matters():
    experiment = Experiment(
        "x",
        [Float("a", 0, 1), Float("b", 0, 1), Float("same", 1, 1)],
        [Minimize("of_a"), Minimize("of_b"), Minimize("constant")],
        sampler="random",
        budget=40,
    )
    assert experiment.importances() == {"of_a": {}, "of_b": {}, "constant": {}}
    experiment.run(
        lambda t: {
            "of_a": t.parameters["a"] + 0.01 * t.parameters["b"],
            "of_b": t.parameters["b"] ** 2,
            "constant": 1.0,
        },
        progress=False,
    )
    shares = experiment.importances()
    assert shares["of_a"]["a"] > 0.9
    assert shares["of_b"]["b"] > 0.9
    assert next(iter(shares["of_b"])) == "b"
    assert sum(shares["of_a"].values()) == pytest.approx(1.0)
    assert shares["constant"] == {}


def test_the_progress_bar_counts(capsys):
    def train(trial):
        if trial.number == 0:
            raise ValueError("no")
        return {"accuracy": 0.5 + 0.1 * trial.number, "density": 0.1}

    make(budget=6).run(train, progress=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "6/6" in shown
    assert "1 failed" in shown
