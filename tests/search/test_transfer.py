"""Trials exported to a file and imported into another database."""

from __future__ import annotations

import json
import shutil

import pytest
from optuna.storages._cached_storage import _CachedStorage

from gossamer.errors import UserError
from gossamer.search import (
    Choice,
    Experiment,
    Fidelity,
    Float,
    Int,
    Maximize,
    Minimize,
    OutOfReach,
    Violated,
    WarmStart,
    export_trials,
    import_trials,
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("searched") / "old.db"
    searched(path)
    return path


@pytest.fixture
def old(database, tmp_path):
    """An experiment in a database of its own."""
    return Experiment.from_storage(f"sqlite:///{shutil.copy(database, tmp_path / 'old.db')}")


def searched(path, name="größe", **more):
    """An experiment with a trial of every state, conditions, reports and fidelities."""
    experiment = Experiment(
        name,
        [
            Float("rate", 1e-4, 0.3, log=True),
            Choice("rule", ["set", 3, True]),
            Int("width", 8, 64, when={"rule": ["set"]}),
        ],
        [Maximize("accuracy", 0.9), Minimize("density", 0.5)],
        budget=30,
        storage=f"sqlite:///{path}",
        sampler="tpe",
        seed=3,
        settings={"task": "x.npz", "model": "m", "epochs": 3},
        stopping=[Violated(["density"]), OutOfReach()],
        fidelities=[Fidelity("small", {"epochs": 1}, cost=0.25, reduction=2)],
        **more,
    )
    for i in range(6):
        trial = experiment.ask()
        trial.report(1, {"accuracy": 0.3 + 0.05 * i, "density": 0.1 * (i % 4)}, of=2)
        experiment.tell(trial, {"accuracy": 0.5 + 0.05 * i, "density": 0.1, "loss": 1 / (i + 1)})
    experiment.tell(experiment.ask(), error="ValueError: no")
    trial = experiment.ask()
    trial.report(1, {"accuracy": 0.4, "density": 0.9}, of=2)
    experiment.tell(trial, stopped="enough")
    return experiment


def test_a_search_goes_on_in_another_database_as_it_would_have_in_the_first(old, tmp_path):
    file = tmp_path / "trials.json"
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert export_trials(old.storage, file) == 8
    assert import_trials(file, url) == ("größe", 8)
    new = Experiment.from_storage(url)
    assert new.trials() == old.trials()
    states = [trial.state for trial in new.trials()]
    assert {"complete", "failed", "stopped"} == set(states)
    assert [trial.fidelity for trial in new.trials()].count(None) > 0
    assert new.frontier() == old.frontier()
    assert new.settings == old.settings
    assert new.stopping == old.stopping
    for _ in range(2):
        ours, theirs = new.ask(), old.ask()
        assert ours == theirs
        for experiment, trial in ((new, ours), (old, theirs)):
            experiment.tell(trial, {"accuracy": 0.7, "density": 0.2})


def test_running_trials_are_run_again_there(old, tmp_path):
    running = old.ask()
    running.report(1, {"accuracy": 0.1}, of=2)
    export_trials(old.storage, tmp_path / "trials.json")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    import_trials(tmp_path / "trials.json", url, "other")
    new = Experiment.from_storage(url, "other")
    assert new.trials()[running.number].state == "waiting"
    again = new.ask()
    assert (again.number, again.parameters) == (running.number, running.parameters)
    assert new.trials()[again.number].reports == ()
    assert old.trials()[running.number].state == "running"


def test_several_experiments_thresholds_and_warm_starts_go_along(old, tmp_path):
    warm = WarmStart(old.storage, "größe", best=2)
    large = searched(tmp_path / "old.db", "large", warm_start=warm)
    large.set_threshold("accuracy", 0.65)
    file = tmp_path / "trials.json"
    with pytest.raises(UserError, match="several experiments; give one's name: größe, large"):
        export_trials(large.storage, file)
    export_trials(large.storage, file, "large")
    (tmp_path / "old.db").unlink()
    url = f"sqlite:///{tmp_path / 'new.db'}"
    import_trials(file, url)
    new = Experiment.from_storage(url)
    assert new.metrics[0].threshold == 0.65
    assert new._earlier.best == large._earlier.best
    assert import_trials(file, url, "copy") == ("copy", 8)


def test_an_experiment_that_is_there_is_not_touched(old, tmp_path):
    export_trials(old.storage, tmp_path / "trials.json")
    with pytest.raises(UserError, match="has an experiment 'größe' already; give this one another"):
        import_trials(tmp_path / "trials.json", old.storage)
    assert len(old.trials()) == 8


def test_a_killed_import_is_begun_anew(old, tmp_path, monkeypatch):
    export_trials(old.storage, tmp_path / "trials.json")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    made = []
    create = _CachedStorage.create_new_trial

    def killed(storage, study, template_trial=None):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(template_trial)
        return create(storage, study, template_trial)

    with monkeypatch.context() as patch:
        patch.setattr(_CachedStorage, "create_new_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            import_trials(tmp_path / "trials.json", url)
    with pytest.raises(UserError, match="gossamer did not make"):
        Experiment.from_storage(url)
    import_trials(tmp_path / "trials.json", url)
    assert Experiment.from_storage(url).trials() == old.trials()


@pytest.fixture(scope="module")
def exported(database):
    export_trials(f"sqlite:///{database}", database.with_name("trials.json"))
    return json.loads(database.with_name("trials.json").read_text("utf-8"))


def changed(content, where, value):
    inner = content = json.loads(json.dumps(content))
    for key in where[:-1]:
        inner = inner[key]
    if value is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (["format"], "other", "is no file of 'gossamer trials export'"),
        (["version"], 3, "newer gossamer"),
        (["edits"], {"gossamer:owner": 1}, "unknown changes"),
        (["trials"], None, "'trials' is missing"),
        (["trials", 3], None, "trial 3 is missing"),
        (["trials", 3, "state"], "lost", "'LOST'"),
        (["trials", 3, "values"], [1.0], "export the trials again"),
        (["trials", 3, "started"], "yesterday", "yesterday"),
        (["trials", 3, "distributions"], {"rate": 99}, "export the trials again"),
        (["trials", 3, "parameters", "rate"], 7.0, "export the trials again"),
        (["definition", "metrics"], {}, "at least one metric"),
        (["definition", "budget"], "x", "budget"),
    ],
)
def test_files_that_are_no_export_are_refused_in_a_line(tmp_path, exported, where, value, words):
    file = tmp_path / "trials.json"
    file.write_text(changed(exported, where, value), "utf-8")
    with pytest.raises(UserError, match=r"trials\.json") as refused:
        import_trials(file, f"sqlite:///{tmp_path / 'new.db'}")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\x00", b"{", b"[" * 100_000])
def test_files_that_are_no_json_are_refused_in_a_line(tmp_path, content):
    (tmp_path / "trials.json").write_bytes(content)
    with pytest.raises(UserError, match="is no file of 'gossamer trials export'"):
        import_trials(tmp_path / "trials.json", f"sqlite:///{tmp_path / 'new.db'}")
