"""Opening an experiment that its storage knows already."""

import math

import optuna
import pytest
from tests.search.experiments import METRICS, PARAMETERS, good, make

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Experiment,
    Float,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
)
from gossamer.search.trials.storage import Store


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


def test_a_study_whose_maker_was_killed_before_it_wrote_anything(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    optuna.create_study(study_name="x", directions=["maximize", "minimize"], storage=url)
    make(storage=url).run(good, progress=False)
    study = optuna.load_study(study_name="x", storage=url)
    kept = {tuple(trial.values) for trial in study.trials}
    assert kept == {tuple(trial.values.values()) for trial in Experiment.from_storage(url).trials()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": [*PARAMETERS, Float("more", 0, 1)]}, "parameter 'more' is new"),
        ({"parameters": PARAMETERS[:1]}, "parameter 'width' is missing"),
        (
            {"parameters": [PARAMETERS[0], Int("width", 1, 63)]},
            "parameter 'width' has high = 63, its trials 64",
        ),
        (
            {"parameters": [PARAMETERS[0], Float("width", 1, 64)]},
            "parameter 'width' has type = 'float', its trials 'int'",
        ),
        (
            {"parameters": [Float("rate", 1e-3, 0.3, log=True), PARAMETERS[1]]},
            "parameter 'rate' has low = 0.001, its trials 0.0001",
        ),
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
    make(storage=url).ask()
    with pytest.raises(UserError) as error:
        make(storage=url, **changes)
    assert words in str(error.value)
    assert "another name or storage, with warm_start to learn from" in str(error.value)
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
    next_here = first._suggester.suggest(first._history(first.trials()))
    assert again.ask().parameters == next_here


def test_from_storage_with_several_or_none(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(UserError, match="does not exist"):
        Experiment.from_storage(url)
    make("first", storage=url).ask()
    make("second", storage=url).ask()
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
    assert make(storage=url).ask().number == 1


def test_bounds_may_widen_and_the_trials_stay(storage):
    experiment = make(storage=storage)
    if storage is None:
        pytest.skip("nothing of it can be opened again")
    experiment.run(good, trials=2, progress=False)
    wider = [Float("rate", 1e-6, 1.0, log=True), Int("width", 1, 4096)]
    again = make(storage=storage, parameters=wider, budget=5)
    assert again.trials() == experiment.trials()
    again.run(good, progress=False)
    assert [r.state for r in again.trials()] == ["complete"] * 5
    stored = Experiment.from_storage(storage)
    assert stored.parameters == wider
    assert max(r.parameters["width"] for r in again.trials()[2:]) > 64
    with pytest.raises(UserError, match=r"has low = 0.0001, its trials 1e-06"):
        make(storage=storage)


def test_metrics_that_only_have_to_be_acceptable_come_and_go(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"

    def timed(trial):
        return {**good(trial), "seconds": trial.number + 1.0}

    make(storage=url).run(timed, trials=3, progress=False)
    slow = make(storage=url, metrics=[AtMost("seconds", 2.0), *METRICS])
    assert {t.number for t in slow.frontier().trials} <= {0, 1}
    slow.run(timed, trials=1, progress=False)
    assert [m.name for m in Experiment.from_storage(url).metrics] == [
        "accuracy",
        "density",
        "seconds",
    ]
    reversed_ = make(storage=url, metrics=[*METRICS, AtLeast("seconds", 4.0)])
    assert {t.number for t in reversed_.frontier().trials} <= {3}
    without = make(storage=url)
    without.run(good, trials=1, progress=False)
    assert [m.name for m in Experiment.from_storage(url).metrics] == ["accuracy", "density"]
    with pytest.raises(UserError, match="metric 'seconds' is new, and trial 4 did not return it"):
        make(storage=url, metrics=[*METRICS, AtMost("seconds", 2.0)])


def test_metrics_are_optimized_constrained_or_only_stored(tmp_path):
    storage = f"sqlite:///{tmp_path}/x.db"
    make(storage=storage).run(good, trials=4, progress=False)
    accuracy, density = METRICS
    # Optimized, then a constraint; then only stored, so that a trial need not return it.
    constrained = make(storage=storage, metrics=[AtLeast("accuracy", 0.0), density])
    constrained.run(good, trials=1, progress=False)
    assert constrained.frontier().trials == [
        min(constrained.trials(), key=lambda t: (t.values["density"], t.number))
    ]
    alone = make(storage=storage, metrics=[density])
    trial = alone.ask()
    alone.tell(trial, {"density": 0.5})
    assert [m.name for m in Experiment.from_storage(storage).metrics] == ["density"]
    assert alone.record(trial.number).state == "complete"
    # In Optuna's own study the objective is the worst, where it was not returned.
    name = alone.name
    study = optuna.load_study(study_name=name, storage=storage)
    assert study.trials[-1].values == [-math.inf, 0.5]
    assert study.trials[0].values == [alone.trials()[0].values[n] for n in ("accuracy", "density")]
    # A metric that was only stored is optimized where all trials have it.
    with pytest.raises(UserError, match="'accuracy' is new, and trial 5 did not return it"):
        make(storage=storage, metrics=[accuracy, density])
    alone.forget(trial.number)
    both = make(storage=storage, metrics=[accuracy, density])
    assert len(both.trials()) == 5
    with pytest.raises(UserError, match="metric 'density' has goal 'maximize'"):
        make(storage=storage, metrics=[accuracy, Maximize("density")])


def test_a_stored_number_becomes_an_objective(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    make(storage=url, metrics=METRICS[:1]).run(good, trials=3, progress=False)
    both = make(storage=url)
    both.run(good, trials=1, progress=False)
    assert [list(trial.values) for trial in both.trials()] == [["accuracy", "density"]] * 4
    study = optuna.load_study(study_name=both.name, storage=url)
    assert [trial.values for trial in study.trials] == [
        [t.values["accuracy"]] for t in both.trials()
    ]


def test_a_running_process_follows_roles_and_learns_of_missing_values(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    first = make(storage=url, metrics=METRICS[:1])
    first.run(good, trials=2, progress=False)
    second = make(storage=url)
    second.run(good, trials=1, progress=False)
    first.tell(first.ask(), {"accuracy": 0.5})  # it knows nothing of the second metric
    late = second.trials()[-1]
    assert (late.state, late.reason) == (
        "failed",
        "it did not return metric 'density', which came later",
    )
    second.run(good, trials=1, progress=False)
    make(storage=url, metrics=[AtLeast("accuracy", 0.1), METRICS[1]]).ask()
    first.frontier()
    assert first.metrics == [AtLeast("accuracy", 0.1)]


def test_a_parameter_comes_with_a_default(tmp_path):
    storage = f"sqlite:///{tmp_path}/x.db"
    make(storage=storage).run(good, trials=3, progress=False)
    more = Float("more", 0.0, 1.0, default=0.25)
    only = Choice("kind", ["a", "b"], default="b")
    inner = Float("inner", 0.0, 1.0, when={"kind": "a"}, default=0.5)
    wider = make(storage=storage, parameters=[*PARAMETERS, more, only, inner])
    assert all(t.parameters["more"] == 0.25 for t in wider.trials())
    assert all("inner" not in t.parameters for t in wider.trials())  # kind was "b"
    wider.run(good, trials=2, progress=False)
    assert [set(t.parameters) >= {"more", "kind"} for t in wider.trials()] == [True] * 5
    again = Experiment.from_storage(storage)
    assert again.trials() == wider.trials()
    with pytest.raises(UserError, match=r"parameter 'more' has default = 0.5, its trials 0.25"):
        make(
            storage=storage, parameters=[*PARAMETERS, Float("more", 0, 1, default=0.5), only, inner]
        )
    with pytest.raises(UserError, match=r"default 2\.0 is not one of its values"):
        make(parameters=[*PARAMETERS, Float("more", 0, 1, default=2.0)])


def test_a_stepped_range_widens_by_whole_steps(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    for low, high in ((0.0, 1.0), (-0.5, 2.0)):
        make(storage=url, parameters=[Float("x", low, high, step=0.25)]).ask()
    with pytest.raises(UserError, match=r"has low = -0.6, its trials -0.5"):
        make(storage=url, parameters=[Float("x", -0.6, 2.0, step=0.2)])
    with pytest.raises(UserError, match=r"has step = 0.5, its trials 0.25"):
        make(storage=url, parameters=[Float("x", -1.0, 2.0, step=0.5)])
    with pytest.raises(UserError, match=r"has low = -0.6, its trials -0.5"):
        make(storage=url, parameters=[Float("x", -0.6, 1.9, step=0.25)])


def test_no_budget_goes_on_until_it_is_stopped(storage):
    experiment = make(storage=storage, budget=None)
    experiment.run(good, trials=3, progress=False)
    assert len(experiment.trials()) == 3
    if storage:
        again = Experiment.from_storage(storage)
        assert again.budget is None
        again.run(good, trials=1)
        assert len(again.trials()) == 4


def test_no_budget_in_a_file(tmp_path):
    (tmp_path / "e.toml").write_text(
        'name = "x"\nbudget = "unlimited"\nmetrics.m.goal = "minimize"\n'
        'parameters.x = {type = "float", low = 0, high = 1}\n'
    )
    experiment = Experiment.from_toml(tmp_path / "e.toml")
    assert experiment.budget is None
    experiment.run(lambda trial: {"m": 1.0}, minutes=0.0005, progress=False)
    assert experiment.trials()
    (tmp_path / "e.toml").write_text((tmp_path / "e.toml").read_text().replace("unlimited", "some"))
    with pytest.raises(UserError, match="'budget' must be a whole number, not 'some'"):
        Experiment.from_toml(tmp_path / "e.toml")
