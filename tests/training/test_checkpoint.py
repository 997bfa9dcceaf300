"""Checkpoints: what they hold, and those that do not fit."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gossamer.data import Split
from gossamer.errors import UserError
from gossamer.training import Recipe, TrainingConfig, fit, train
from gossamer.training import recipe as recipes

QUICK = TrainingConfig(epochs=3, batch_size=16, learning_rate=0.05, device="cpu")


@pytest.fixture
def checkpoint(tmp_path, toy, network):
    file = tmp_path / "checkpoint.safetensors"
    model, sparsifier = network()
    fit(model, toy, QUICK, sparsifier=sparsifier, checkpoint=file)
    return file


def refused(toy, pair, file, settings=QUICK):
    model, sparsifier = pair
    with pytest.raises(UserError) as caught:
        fit(model, toy, settings, sparsifier=sparsifier, checkpoint=file)
    message = str(caught.value)
    assert str(file) in message
    assert "delete it" in message
    assert "\n" not in message
    return message


def test_checkpoint_holds_no_pickle_and_leaves_no_temporary_file(checkpoint):
    assert "model.conv1.weight" in load_file(checkpoint)
    assert [f.name for f in checkpoint.parent.iterdir()] == [checkpoint.name]


@pytest.mark.parametrize("length", [0, 5, 100, 3000])
def test_truncated_checkpoint(checkpoint, toy, network, length):
    content = checkpoint.read_bytes()
    assert len(content) > 3000
    checkpoint.write_bytes(content[:length])
    assert "damaged" in refused(toy, network(), checkpoint)


def test_damaged_checkpoint(checkpoint, toy, network):
    content = bytearray(checkpoint.read_bytes())
    content[8:300] = b"\xff" * 292
    checkpoint.write_bytes(content)
    assert "damaged" in refused(toy, network(), checkpoint)


def test_file_of_another_kind(tmp_path, toy, network):
    from safetensors.torch import save_file

    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    assert "not a file of gossamer" in refused(toy, network(), file)


def test_checkpoint_of_other_settings(checkpoint, toy, network):
    message = refused(toy, network(), checkpoint, replace(QUICK, learning_rate=0.07))
    assert "learning_rate = 0.05, not 0.07" in message


def test_checkpoint_of_another_network(checkpoint, toy):
    from gossamer.models import speech_cnn
    from gossamer.sparsity import Sparsifier, Static

    model = speech_cnn(
        3, input_shape=(1, 12, 12), channels=[4], hidden=17, activation_density=(0.25, 0.25)
    )
    message = refused(toy, (model, Sparsifier(model, 0.3, rule=Static())), checkpoint)
    assert "another network" in message


def test_checkpoint_with_and_without_a_sparsifier(checkpoint, tmp_path, toy, network):
    assert "made with a sparsifier" in refused(toy, network(1.0), checkpoint)
    plain = tmp_path / "plain.safetensors"
    model, _ = network(1.0)
    fit(model, toy, QUICK, checkpoint=plain)
    assert "made without a sparsifier" in refused(toy, network(), plain)


def test_checkpoint_in_a_place_that_cannot_be_written(tmp_path, toy, network):
    (tmp_path / "file").write_text("")
    model, _ = network(1.0)
    with pytest.raises(UserError, match=r"cannot write .*c.safetensors"):
        fit(model, toy, QUICK, checkpoint=tmp_path / "file" / "c.safetensors")


@pytest.mark.slow
def test_killed_five_times_a_training_ends_as_if_it_had_not_been(toy, tmp_path):
    arrays = {
        f"{kind}_{name}": getattr(getattr(toy, name), kind)
        for name in ("train", "validation", "test")
        for kind in "xy"
    }
    np.savez(tmp_path / "data.npz", **arrays)
    settings = {"epochs": 40, "batch_size": 8, "rule": "rigl", "weight_density": 0.3}
    settings |= {
        "mask_interval": 5,
        "activation_density": 0.3,
        "activation_anneal": 0.5,
        "patience": 30,
        "device": "cpu",
    }
    command = [sys.executable, "-c", "from gossamer.cli import main; main()", "train", "data.npz"]
    command += ["--model", "mlp", "--set", "hidden=32", "--json", "--threads", "1"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]

    def start(folder):
        return subprocess.Popen(
            [*command, "--out", folder], cwd=tmp_path, stdout=subprocess.DEVNULL
        )

    assert start("whole").wait(300) == 0
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    rng = np.random.default_rng(0)
    for _ in range(5):
        before = checkpoint.read_bytes() if checkpoint.exists() else None
        process = start("killed")
        while not checkpoint.exists() or checkpoint.read_bytes() == before:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.02))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had not ended by itself"
    assert start("killed").wait(300) == 0
    whole, killed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert sorted(path.name for path in checkpoint.parent.iterdir() if path.suffix != ".tmp") == [
        "config.toml",
        "examples.npy",
        "metrics.json",
        "model.onnx",
        "model.safetensors",
        "plan.json",
    ]


def swapped(task):
    """The task with its validation examples in the training, and the reverse."""
    return replace(task, train=task.validation, validation=task.train)


RECIPE = Recipe(
    "toy.npz", "mlp", {"hidden": 8, "epochs": 2, "batch_size": 16, "device": "cpu", "dropout": 0.0}
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 0.5}, "dropout = 0.0, not dropout = 0.5"),
        ({"init": "runs/a"}, "no init, not init = 'runs/a'"),
    ],
)
def test_a_training_goes_on_with_the_settings_of_its_network_alone(
    toy, interrupted, monkeypatch, change, message
):
    file = interrupted(RECIPE)
    monkeypatch.setattr(recipes, "load_weights", lambda model, run: None)
    with pytest.raises(UserError, match=message):
        train(replace(RECIPE, settings={**RECIPE.settings, **change}), toy, checkpoint=file)


def test_a_training_does_not_go_on_with_other_data(toy, interrupted):
    """Otherwise it may have learned from the examples that it is then validated on."""
    file = interrupted(RECIPE)
    with pytest.raises(UserError, match="was made with other data"):
        train(RECIPE, swapped(toy), checkpoint=file)
    moved = replace(RECIPE, task="elsewhere.npz", settings={**RECIPE.settings, "engine_batch": 8})
    assert len(train(moved, toy, checkpoint=file).history.epochs) == 2


def test_shuffled_data_are_the_same_data(toy):
    order = np.random.default_rng(3).permutation(len(toy.train))
    shuffled = Split(toy.train.x[order], toy.train.y[order])
    assert replace(toy, train=shuffled).fingerprint == toy.fingerprint
    relabeled = Split(toy.train.x, toy.train.y[order])
    assert replace(toy, train=relabeled).fingerprint != toy.fingerprint
    assert swapped(toy).fingerprint != toy.fingerprint


def test_data_are_the_same_where_another_processor_rounds_their_moments(toy):
    near, far = (replace(toy.domain, mean=toy.domain.mean * f) for f in (1 + 1e-9, 1.01))
    assert replace(toy, domain=near).fingerprint == toy.fingerprint
    assert replace(toy, domain=far).fingerprint != toy.fingerprint
