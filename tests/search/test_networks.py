"""Trials that train networks: recipes, checks before training, and the choice of a trial."""

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    Experiment,
    Float,
    Maximize,
    Minimize,
    TrainNetwork,
    chosen_trial,
    recipe_of,
)


@pytest.mark.parametrize("missing", ["task", "model"])
def test_settings_name_a_task_and_a_model(missing):
    settings = {"task": "t", "model": "speech_cnn"}
    del settings[missing]
    with pytest.raises(UserError, match=f"no '{missing}'"):
        recipe_of(settings, {})


def test_parameters_stand_over_settings():
    settings = {"task": "t", "model": "speech_cnn", "epochs": 3, "hidden": 10}
    recipe = recipe_of(settings, {"hidden": 20})
    assert (recipe.task, recipe.model) == ("t", "speech_cnn")
    assert recipe.settings["hidden"] == 20
    assert recipe.settings["epochs"] == 3
    assert not {"task", "model"} & set(recipe.settings)
    assert settings["hidden"] == 10


@pytest.fixture
def experiment(tmp_path):
    return Experiment(
        "x",
        [Float("a", 0.0, 1.0)],
        [Maximize("accuracy", 0.9), Minimize("density", 0.5)],
        budget=10,
        storage=f"sqlite:///{tmp_path}/x.db",
        sampler="random",
    )


def tell(experiment, *pairs):
    for accuracy, density in pairs:
        experiment.tell(experiment.ask(), {"accuracy": accuracy, "density": density})


def test_chosen_is_the_best_by_the_first_metric(experiment):
    tell(experiment, (0.95, 0.3), (0.97, 0.4), (0.99, 0.7), (0.91, 0.1))
    assert chosen_trial(experiment).number == 1
    assert chosen_trial(experiment, 3).values == {"accuracy": 0.91, "density": 0.1}


def test_chosen_is_the_nearest_where_none_is_inside(experiment):
    tell(experiment, (0.2, 0.3), (0.89, 0.5))
    assert not experiment.frontier().feasible
    assert chosen_trial(experiment).number == 1


def test_no_such_trial(experiment):
    with pytest.raises(UserError, match="no completed trial yet; search first"):
        chosen_trial(experiment)
    experiment.tell(experiment.ask(), error="broke")
    for number in (0, 7):
        with pytest.raises(UserError, match=f"no completed trial {number}"):
            chosen_trial(experiment, number)


def test_measured_metrics_of_an_experiment_without_settings(experiment):
    assert {"accuracy", "density"} <= set(TrainNetwork.measured())
    with pytest.raises(UserError, match="no 'task'"):
        TrainNetwork.for_experiment(experiment)
