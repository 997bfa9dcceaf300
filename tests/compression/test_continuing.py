"""The same call goes on in its folder; that of another network or of other data is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.compression.conftest import network

from gossamer.compression.modules import ModuleNetwork
from gossamer.compression.networks import NamedNetwork
from gossamer.errors import UserError
from gossamer.training import Recipe, train

NET, DATA = "net.py:build", "net.py:data"
NAMED = {"weights": "weights.safetensors", "progress": False}


@pytest.fixture
def begun(place):
    """A folder with the dense network of an earlier call."""
    NamedNetwork(NET, DATA, place / "out", **NAMED).measure()
    return place / "out"


def test_the_same_network_and_data_go_on(begun):
    again = NamedNetwork(NET, DATA, begun, **NAMED)
    again.measure()
    assert again.run["data"] == again.task.fingerprint


def test_another_network_is_refused(begun):
    """Its trials would begin with the weights of the first, and be called those of the second."""
    other = network().state_dict()
    save_file({name: tensor + 1.0 for name, tensor in other.items()}, "weights.safetensors")
    with pytest.raises(UserError, match=r"of another network than net\.py:build"):
        NamedNetwork(NET, DATA, begun, **NAMED)


def test_other_examples_are_refused(begun, examples):
    np.savez("toy.npz", x_train=-examples[0], y_train=examples[1])
    with pytest.raises(UserError, match=r"other examples than net\.py:data has now"):
        NamedNetwork(NET, DATA, begun, **NAMED)


@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
def test_another_run_of_the_same_kind_is_refused(place):
    settings = {"hidden": 8, "epochs": 0, "device": "cpu", "noise_score": False}
    for seed in (1, 2):
        recipe = Recipe("toy.npz", "mlp", {**settings, "seed": seed})
        train(recipe).save(place / f"run{seed}")
    NamedNetwork("run1", "toy.npz", place / "out").measure()
    NamedNetwork("run1", "toy.npz", place / "out").measure()
    with pytest.raises(UserError, match="of another network than run2"):
        NamedNetwork("run2", "toy.npz", place / "out")


def test_another_module_is_refused(trained, examples, tmp_path):
    def begin(module):
        ModuleNetwork(module, torch.from_numpy(examples[0]), tmp_path, **own).measure()

    own = {"evaluate": lambda model: 0.5, "train": lambda model, sparsifier: None}
    begin(trained)
    begin(trained)
    with pytest.raises(UserError, match="of another network than this Sequential"):
        begin(network())
