"""The experiments that ship: each loads, and those of whole Speech Commands search for real."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from gossamer.cli import main
from gossamer.deploy.metrics import METRICS
from gossamer.search import Experiment, Maximize, Minimize, TrainNetwork, recipe_of

FOLDER = Path(__file__).parents[2] / "experiments"


FILES = [*sorted(FOLDER.glob("*.toml")), FOLDER.parent / "src" / "gossamer" / "demo.toml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads_and_its_metrics_are_measured(file, tmp_path):
    experiment = Experiment.from_toml(file, storage=f"sqlite:///{tmp_path / 'x.db'}")
    assert {metric.name for metric in experiment.metrics} <= set(METRICS)
    first = {parameter.name: parameter.decode(0.0) for parameter in experiment.parameters}
    # The run to start from is made by a command at the head of the file.
    settings = {name: value for name, value in experiment.settings.items() if name != "init"}
    recipe_of(settings, first).network(12, (1, 32, 32))


def test_the_seed_on_whole_speech_commands(tmp_path):
    file = FOLDER / "speech_whole.toml"
    experiment = Experiment.from_toml(file, storage=f"sqlite:///{tmp_path / 'x.db'}")
    assert (len(experiment.parameters), experiment.budget) == (10, 68)
    costs = {level.name: level.cost for level in experiment.fidelities}
    assert 810 * costs["tenth"] + 162 * costs["half"] + 27 <= experiment.budget
    assert experiment.metrics == [
        Maximize("accuracy", 0.934),
        Minimize("density", 0.15, log=True),
    ]


def pictures(path, shape, seed=0):
    """A dozen classes that differ in one band, as an .npz."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, each in (("train", 24), ("validation", 2), ("test", 2)):
        y = np.tile(np.arange(12), each)
        x = rng.integers(0, 60, (len(y), *shape), dtype=np.uint8)
        x[np.arange(len(y)), 2 * y] += 150
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tasks, and the dense network that `speech_whole` starts from."""
    folder = tmp_path_factory.mktemp("shipped")
    pictures(folder / "keywords.npz", (40, 98))
    pictures(folder / "keywords_32.npz", (32, 32))
    dense = "train keywords_32.npz --model speech_cnn --set epochs=1 --out runs/cnn2"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["gossamer", *dense.split(), "--set", "noise_score=false"])
        main()
    return folder


@pytest.fixture
def data(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["keywords", "speech_whole"])
def test_every_network_of_it_can_be_built(name, data):
    experiment = Experiment.from_toml(FOLDER / f"{name}.toml", storage="sqlite:///x.db")
    assert TrainNetwork.for_experiment(experiment).settings == experiment.settings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keywords", "speech_whole"])
def test_it_searches(name, data, monkeypatch, capsys):
    text = (FOLDER / f"{name}.toml").read_text()
    text = re.sub(r"low = (4|10)\nhigh = \d+", "low = 1\nhigh = 2", text)  # epochs
    text = re.sub(r"epochs = \d+", "epochs = 1", text)
    text = re.sub(r"data_share = [0-9.]+", "data_share = 0.9", text)  # at least a batch
    text = text.replace("low = 64\nhigh = 1000\nstep = 8", "low = 64\nhigh = 72\nstep = 8")
    file = data / "small.toml"
    file.write_text(text)
    monkeypatch.setattr("sys.argv", ["gossamer", "search", str(file), "--trials", "4", "--json"])
    main()
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == {"complete": 4}, found
