"""Experiments: ask and tell, and what makes none."""

import math

import numpy as np
import optuna
import pytest
import torch
from tests.search.experiments import make, states

from gossamer.errors import UserError
from gossamer.search import (
    Choice,
    Experiment,
    Float,
    LinearConstraint,
    Maximize,
    Minimize,
    Trial,
)


def test_ask_and_tell():
    experiment = make()
    trial = experiment.ask()
    assert trial.number == 0
    assert sorted(trial.parameters) == ["rate", "width"]
    assert states(experiment) == ["running"]
    told = experiment.tell(trial, {"density": 0.1, "seconds": 3, "accuracy": 0.97, "none": None})
    (record,) = experiment.trials()
    assert told == record
    assert record.state == "complete"
    assert record.parameters == trial.parameters
    # Metrics first; further numbers are stored beside them.
    assert list(record.values.items()) == [("accuracy", 0.97), ("density", 0.1), ("seconds", 3.0)]
    assert record.seconds is not None
    assert record.seconds >= 0


def test_a_trial_of_another_experiment_is_refused():
    one, other = make(seed=0), make(seed=1)
    first, _ = one.ask(), other.ask()
    third, fourth = one.ask(), other.ask()  # the first ones may be equal
    assert third.parameters != fourth.parameters
    with pytest.raises(UserError, match=r"trial 1 .* has other parameters; tell the experiment"):
        other.tell(third, {"accuracy": 0.9, "density": 0.1})
    assert states(other) == ["running", "running"]
    assert one.tell(first, {"accuracy": 0.9, "density": 0.1}).state == "complete"


def test_numbers_of_numpy_and_torch_are_numbers():
    experiment = make()
    values = {"accuracy": torch.tensor(0.5), "density": np.float32(0.25), "n": np.int64(3)}
    record = experiment.tell(experiment.ask(), values)
    assert record.values == {"accuracy": 0.5, "density": 0.25, "n": 3.0}


@pytest.mark.parametrize(
    ("value", "words"), [("net", "'net' as 'more'"), (np.ones(2), r"'\[1. 1.\]' as 'more'")]
)
def test_a_text_among_the_values_is_an_error(value, words):
    experiment = make()
    with pytest.raises(UserError, match=f"train returned {words}, which is no number"):
        experiment.tell(experiment.ask(), {"accuracy": 1, "density": 1, "more": value})
    assert states(experiment) == ["failed"]
    with pytest.raises(UserError, match=f"trial 1: it reported {words}"):
        experiment.ask().report(1, {"more": value})


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


def test_telling_impossible_values():
    experiment = make()
    trial = experiment.ask()
    with pytest.raises(UserError, match="exactly one of values, error"):
        experiment.tell(trial)
    with pytest.raises(UserError, match="exactly one of values, error"):
        experiment.tell(trial, {"accuracy": 1, "density": 1}, error="both")
    with pytest.raises(UserError, match="must be a mapping"):
        experiment.tell(trial, 0.5)
    with pytest.raises(UserError, match=r"must be a trial of ask\(\), not 7"):
        experiment.tell(7, {"accuracy": 1.0})
    with pytest.raises(UserError, match="trial 7 is not in this experiment"):
        experiment.tell(Trial(7, {}), {"accuracy": 1, "density": 1})
    experiment.tell(trial, error="first\nline")
    assert experiment.trials()[0].reason == "first line"
    with pytest.raises(UserError, match="trial 0 has ended already"):
        experiment.tell(trial, {"accuracy": 1, "density": 1})
    assert states(experiment) == ["failed"]


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


def test_trials_of_ones_own_are_added():
    experiment = Experiment(
        "x",
        [Float("a", 0, 1), Choice("kind", ["x", "y"]), Float("only_x", 0, 1, when={"kind": "x"})],
        [Minimize("m", 0.5), Minimize("n")],
        [LinearConstraint({"a": 1}, 0.9)],
    )
    first = experiment.add({"a": 0.25, "kind": "x", "only_x": 0.5}, {"m": 0.1, "n": 2, "extra": 3})
    assert (first.number, first.state) == (0, "complete")
    assert first.values == {"m": 0.1, "n": 2.0, "extra": 3.0}
    second = experiment.add({"a": 0.25, "kind": "y"}, {"m": 0.2, "n": 1})
    assert second.parameters == {"a": 0.25, "kind": "y"}
    assert experiment.add(second.parameters, second.values).number == 2  # a repeat
    assert [t.number for t in experiment.frontier().trials] == [0, 1, 2]
    assert experiment.ask().number == 3
    for parameters, values, words in (
        ({"a": 0.25}, {"m": 1, "n": 1}, "'kind' is missing"),
        ({"a": 0.25, "kind": "x"}, {"m": 1, "n": 1}, "'only_x' is missing"),
        ({"a": 0.25, "kind": "y", "only_x": 0.5}, {"m": 1, "n": 1}, "'only_x' is not used"),
        ({"a": 2, "kind": "y"}, {"m": 1, "n": 1}, "'a'"),
        ({"b": 2}, {"m": 1, "n": 1}, "'b'"),
        ({"a": 0.95, "kind": "y"}, {"m": 1, "n": 1}, "breaks"),
        ({"a": 0.5, "kind": "y"}, {"m": 1}, "metric 'n' must be a finite number, not None"),
        ({"a": 0.5, "kind": "y"}, {"m": float("nan"), "n": 1}, "metric 'm'"),
    ):
        with pytest.raises(UserError, match=words):
            experiment.add(parameters, values)
    assert len(experiment.trials()) == 4
