"""Longer training of a trial: from the weights that it had, as long again."""

import itertools
import shutil
import time
import tomllib

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from gossamer.compression import compress
from gossamer.compression.compressing import _Best
from gossamer.compression.examination import Examination
from gossamer.compression.modules import ModuleNetwork
from gossamer.compression.networks import NamedNetwork
from gossamer.compression.plan import write_experiment
from gossamer.nn import KWinners
from gossamer.search import AtLeast, Continuation, Experiment, Grid, Maximize, Minimize, Trial
from gossamer.training import load_network

METRICS = [Minimize("density"), AtLeast("accuracy", 0.9)]
BLOCKS = {
    "weight_density": 0.3,
    "pattern": "block8",
    "epochs": 1,
    "learning_rate": 0.003,
    "rule": "granet",
    "teacher_share": 0.5,
    "allocation": "global",
    "winners.1": 0.4,
}


def planned(network, quality=("accuracy",), metrics=METRICS):
    """The experiment of a network, and the function of its trials."""
    network.measure()
    file = network.folder / "experiment.toml"
    examined = Examination.of(network.model, network.example)
    write_experiment(file, examined, network.tuning(), metrics, network.settings, [], quality)
    experiment = Experiment.from_toml(file)
    assert experiment.continuation.improves == tuple(quality)
    return network.trainer(experiment)


def rounds(train, folder, point):
    """Train a trial and two rounds more; return the first layers' weights."""
    weights = []
    for number in range(3):
        train(Trial(number, dict(point), origin=number - 1 if number else None, continued=number))
        weights.append(load_file(folder / str(number) / "model.safetensors")["model.0.weight"])
    return weights


def test_a_network_by_name_goes_on_from_the_weights_that_it_had(place):
    folder = place / "out"
    named = NamedNetwork("net.py:build", "net.py:data", folder, weights="weights.safetensors")
    train = planned(named)
    weights = rounds(train, folder / "trials", BLOCKS)
    for number, (before, after) in enumerate(itertools.pairwise(weights), 1):
        assert torch.equal(before != 0, after != 0)
        assert not torch.equal(before, after)
        run = folder / "trials" / str(number)
        settings = tomllib.loads((run / "config.toml").read_text())["settings"]
        assert settings["epochs"] == number  # 1 and 1 are 2, and 2 are 4
        assert settings["init"].endswith(f"trials/{number - 1}")
        model, _, _ = load_network(run, trust=True)
        (winners,) = (module for module in model.modules() if isinstance(module, KWinners))
        assert winners.density == 0.4
    shutil.rmtree(folder / "trials" / "1")
    train(Trial(2, dict(BLOCKS), origin=1, continued=2))  # all of it again
    settings = tomllib.loads((folder / "trials" / "2" / "config.toml").read_text())["settings"]
    assert (settings["epochs"], settings["init"], settings["rule"]) == (
        *(4, str(folder / "dense"), "granet"),
    )


def test_a_module_goes_on_from_the_weights_that_it_had(trained, examples, tmp_path):
    train = planned(ModuleNetwork(trained, examples, tmp_path))
    weights = rounds(train, tmp_path / "trials", BLOCKS)
    for before, after in itertools.pairwise(weights):
        assert torch.equal(before != 0, after != 0)
        assert not torch.equal(before, after)


def test_a_function_of_ones_own_is_called_as_often_again(tmp_path):
    """It adds 1 to each weight that is there, so that a weight counts the calls."""
    calls = []

    def train(model, sparsifier):
        calls.append(sparsifier)
        with torch.no_grad():
            model[0].weight.add_(1.0)
        sparsifier.step()

    def evaluate(model):
        return {"score": float(model[0].weight.detach().sum())}

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
    nn.init.uniform_(model[0].weight, 0.1, 0.9)
    x = np.zeros((8, 16), np.float32)
    network = ModuleNetwork(model, x, tmp_path, evaluate=evaluate, train=train)
    trial = planned(network, ["score"], [Maximize("speedup"), AtLeast("score", 0.0)])
    point = {"weight_density": 0.5, "pattern": "unstructured", "epochs": 1, "allocation": "global"}
    weights = rounds(trial, tmp_path / "trials", point)
    assert len(calls) == 1 + 1 + 2
    there = weights[0] != 0
    for total, weight in zip((1, 2, 4), weights, strict=True):
        assert torch.equal(weight != 0, there)
        assert torch.equal(weight[there].floor(), torch.full_like(weight[there], total))


def test_the_file_of_a_plan_says_how_trials_are_continued(place):
    plan = compress("net.py:build", "net.py:data", weights="weights.safetensors", plan=True)
    text = (plan.folder / "experiment.toml").read_text()
    assert tomllib.loads(text)["continuation"] == {
        "improves": ["accuracy"],
        "parameter": "epochs",
        "rounds": 5,
        "share": 0.5,
    }
    assert "# continuation: trials that nearly meet the goals are trained 2, 4, 8, ..." in text


def test_what_longer_training_needs_is_not_removed(tmp_path):
    """The first one is the nearest, the second may be continued, the third is better than both."""
    search = Experiment(
        "x",
        [Grid("epochs", [0, 1, 2, 3])],
        [Maximize("speedup"), AtLeast("accuracy", 0.9)],
        continuation=Continuation(["accuracy"]),
        start=[{"epochs": n} for n in (2, 1, 0, 3)],
    )
    best = _Best(search, tmp_path)

    def end(accuracy, speedup):
        trial = search.ask()
        (tmp_path / "trials" / str(trial.number)).mkdir(parents=True)
        time.sleep(0.01)  # a trial without any duration is not continued
        best.end("x", search.tell(trial, {"accuracy": accuracy, "speedup": speedup}))
        return trial, sorted(path.name for path in (tmp_path / "trials").iterdir())

    assert end(0.8, 2.0)[1] == ["0"]
    trial, there = end(0.7, 3.0)
    assert (trial.origin, there) == (0, ["0", "1"])
    trial, there = end(0.95, 4.0)
    assert (trial.origin, there) == (None, ["2"])
