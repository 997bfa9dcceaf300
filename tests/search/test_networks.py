"""Trials that train networks: recipes, checks before training, and the choice of a trial."""

import numpy as np
import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Experiment,
    Float,
    Int,
    Maximize,
    Minimize,
    TrainNetwork,
    chosen_trial,
    export_trials,
    import_trials,
    recipe_of,
)
from gossamer.search.networks import loaded_task


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


def test_a_setting_of_one_model_is_left_out_for_others():
    settings = {"task": "t", "model": "mlp", "ds_cnn.width": 8, "mlp.task": "u", "epochs": 3}
    recipe = recipe_of(settings, {"mlp.epochs": 5})
    assert (recipe.task, recipe.model, recipe.training().epochs) == ("u", "mlp", 5)
    assert "width" not in recipe.settings
    recipe = recipe_of(settings, {"model": "ds_cnn", "mlp.epochs": 5})
    assert (recipe.task, recipe.model, recipe.training().epochs) == ("t", "ds_cnn", 3)
    assert recipe.settings["width"] == 8
    recipe = recipe_of(settings, {"model": "ds_cnn"}, {"width": 16, "task": "v"})
    assert (recipe.task, recipe.settings["width"]) == ("v", 16)


def test_a_model_setting_cannot_name_another_model():
    with pytest.raises(UserError, match=r"'mlp\.model' is no setting; name the model with 'model'"):
        recipe_of({"task": "t", "model": "mlp"}, {"mlp.model": "evil.py:f"})


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


def test_an_experiment_without_a_task(experiment):
    with pytest.raises(UserError, match="no 'task'"):
        TrainNetwork.for_experiment(experiment)


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [({"tc_resnet.width": 2}, "epochs"), ({}, "tc_resnet.width")],
)
def test_a_setting_of_a_model_that_no_trial_uses(settings, parameter, tmp_path):
    def opened(*models):
        parameters = [Int(parameter, 1, 2), *([Choice("model", models)] if models else [])]
        named = {"task": str(tmp_path / "data.npz"), "model": "speech_cnn", **settings}
        return Experiment("x", parameters, [Maximize("accuracy")], settings=named)

    message = "'tc_resnet.width' is a setting of the model 'tc_resnet', which no trial uses"
    for models in ((), ("mlp", "speech_cnn")):
        with pytest.raises(UserError, match=message):
            TrainNetwork.for_experiment(opened(*models))
    with pytest.raises(UserError, match=r"data\.npz"):  # all names are known, only data lack
        TrainNetwork.for_experiment(opened("speech_cnn", "tc_resnet"))


def test_a_metric_of_the_deployed_network_is_measured_where_it_is_named():
    counted = set(TrainNetwork({}).measured())
    assert {"accuracy", "density", "macs", "nonzero"} <= counted
    assert not {"speedup", "latency", "file_bytes"} & counted
    named = set(TrainNetwork({}, metrics=("speedup",)).measured(("file_bytes",)))
    assert named - counted == {"speedup", "file_bytes"}


def test_an_unknown_metric_lists_the_table():
    experiment = Experiment("x", [Float("a", 0.0, 1.0)], [Maximize("speed")])
    with pytest.raises(UserError, match="no metric 'speed' of a network: did you mean 'speedup'"):
        TrainNetwork.for_experiment(experiment)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Minimize("accuracy"), "'accuracy': more is better; use maximize or at_least"),
        (AtLeast("density", 0.1), "'density': less is better; use minimize or at_most"),
        (Maximize("accuracy", 96.5), "accuracy is a share, from 0 to 1, not 96.5; write 0.965"),
    ],
)
def test_a_goal_that_is_none_for_the_metric(metric, message):
    experiment = Experiment("x", [Float("a", 0.0, 1.0)], [metric])
    with pytest.raises(UserError, match=message):
        TrainNetwork.for_experiment(experiment)


def write_data(path, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(90) % 3
    x = rng.normal(0.0, 0.3, (90, 6)).astype(np.float32)
    x[np.arange(90), y] += 2.0
    np.savez(path, x_train=x, y_train=y)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_data(path)
    return str(path)


@pytest.fixture
def on_own_data(tmp_path):
    """A function that opens a search on a file, and one that replaces the file."""
    file = tmp_path / "own.npz"
    settings = {"task": str(file), "model": "mlp", "hidden": 8, "epochs": 1, "device": "cpu"}
    arguments = {
        "parameters": [Float("weight_density", 0.2, 0.5)],
        "metrics": [Maximize("accuracy")],
        "settings": settings,
        "sampler": "random",
    }

    def opened(storage=f"sqlite:///{tmp_path / 'own.db'}"):
        return Experiment("own", budget=2, storage=storage, **arguments)

    def replaced(seed):
        write_data(file, seed)

    replaced(0)
    return opened, replaced


OTHER = "own.npz' has other data now than the trials of experiment 'own'.* put the data back, or "


def test_a_search_does_not_go_on_with_other_data(on_own_data, tmp_path):
    """Its metrics would be those of two sets of data, in one frontier."""
    opened, replaced = on_own_data
    experiment = opened()
    experiment.run(TrainNetwork.for_experiment(experiment), trials=1, progress=False)
    file = tmp_path / "trials.json"
    export_trials(experiment.storage, file)
    moved = f"sqlite:///{tmp_path / 'moved.db'}"
    import_trials(file, moved)
    replaced(1)
    for storage in (experiment.storage, moved):
        with pytest.raises(UserError, match=OTHER):
            TrainNetwork.for_experiment(opened(storage))
    assert len(opened().trials()) == 1
    replaced(0)
    experiment = opened()
    experiment.run(TrainNetwork.for_experiment(experiment), progress=False)
    assert [trial.state for trial in experiment.trials()] == ["complete"] * 2


def test_bad_data_may_be_replaced_after_all_trials_failed(on_own_data):
    opened, replaced = on_own_data
    TrainNetwork.for_experiment(experiment := opened())
    experiment.tell(experiment.ask(), error="no such label")
    replaced(1)
    experiment = opened()
    experiment.run(TrainNetwork.for_experiment(experiment), trials=1, progress=False)
    replaced(0)
    with pytest.raises(UserError, match=OTHER):
        TrainNetwork.for_experiment(opened())


def test_a_search_from_before_data_were_compared_goes_on(on_own_data):
    opened, replaced = on_own_data
    experiment = opened()
    experiment.tell(experiment.ask(), {"accuracy": 0.9})
    experiment = opened()
    experiment.run(TrainNetwork.for_experiment(experiment), trials=1, progress=False)
    replaced(1)
    with pytest.raises(UserError, match=OTHER):
        TrainNetwork.for_experiment(opened())


def test_a_worker_with_other_data_fails(on_own_data):
    opened, replaced = on_own_data
    train = TrainNetwork.for_experiment(experiment := opened())
    replaced(1)
    loaded_task(recipe_of(experiment.settings, {}), again=True)  # as in another process
    with pytest.raises(UserError, match="other data here than where the search was started"):
        train(experiment.ask())


def test_searches_in_one_process_load_their_own_data(on_own_data, tmp_path):
    """Such as two cells of a notebook, with a file written anew between them."""
    opened, replaced = on_own_data
    first = TrainNetwork.for_experiment(opened())
    replaced(1)
    other = opened(f"sqlite:///{tmp_path / 'other.db'}")
    second = TrainNetwork.for_experiment(other)
    assert list(first.data) == list(second.data)
    assert first.data != second.data
    assert second(other.ask())["accuracy"] >= 0.0


@pytest.mark.slow
def test_speed_size_and_energy_are_optimized_bounded_and_stored(data, tmp_path):
    """Each trial's network is exported and measured; what is only stored stands beside it."""
    experiment = Experiment(
        "fast",
        [Float("weight_density", 0.2, 0.5)],
        [Maximize("speedup"), AtMost("file_bytes", 50_000), Minimize("energy")],
        budget=1,
        settings={
            "task": data,
            "model": "mlp",
            "hidden": 16,
            "epochs": 1,
            "batch_size": 16,
            "device": "cpu",
            "measure": ["latency"],
            "engine_batch": 8,
            "energy_memory": "DRAM",
        },
    )
    experiment.run(TrainNetwork.for_experiment(experiment), progress=False)
    (trial,) = experiment.trials()
    assert trial.reason is None
    values = trial.values
    assert values["speedup"] > 0
    assert 0 < values["latency"] < 1
    assert 0 < values["speedup_spread"] < 1
    assert 0 < values["file_bytes"] < 50_000
    assert values["energy"] > 0
    assert "throughput" not in values
    assert experiment.frontier().feasible
