"""Checkpoints: what they hold, and those that do not fit."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from gossamer.errors import UserError
from gossamer.training import Settings, fit

QUICK = Settings(epochs=3, batch_size=16, learning_rate=0.05, device="cpu")


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
    from gossamer.sparsity import Sparsifier

    model = speech_cnn(
        3, input_shape=(1, 12, 12), channels=[4], hidden=17, activation_density=(0.25, 0.25)
    )
    message = refused(toy, (model, Sparsifier(model, 0.3)), checkpoint)
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
