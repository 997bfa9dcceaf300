import numpy as np
import pytest
import torch

from gossamer.data import arrays
from gossamer.models import speech_cnn
from gossamer.sparsity import Sparsifier, Static
from gossamer.training import train


def examples(number, seed):
    """Noisy 12x12 images with a bright bar whose row tells the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 3
    x = rng.normal(0.0, 0.3, (number, 12, 12)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        image[4 * label : 4 * label + 3] += 1.0
    return x, y


@pytest.fixture(scope="session")
def toy():
    return arrays(examples(120, 0), examples(30, 1), examples(30, 2), name="toy")


@pytest.fixture
def network():
    """A function that makes a small network and its sparsifier, always from the same numbers."""

    def make(density=0.3, winners=0.25, dropout=0.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = speech_cnn(
                3,
                input_shape=(1, 12, 12),
                channels=[4],
                hidden=16,
                activation_density=(winners, winners),
                dropout=dropout,
            )
        return model, Sparsifier(model, density, rule=Static(), seed=5) if density < 1.0 else None

    return make


@pytest.fixture
def interrupted(toy, tmp_path):
    """A function that stops a recipe's training after its first epoch; returns the checkpoint."""

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    def begin(recipe):
        file = tmp_path / "checkpoint.safetensors"
        with pytest.raises(Stop):
            train(recipe, toy, checkpoint=file, on_epoch=stop)
        return file

    return begin
