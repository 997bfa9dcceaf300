import sys

import numpy as np
import pytest

from gossamer.cli.main import main

NET = """
from torch import nn
from gossamer.models import speech_cnn

class Broken(nn.Module):
    def forward(self, x):
        return x * float("nan")

def build(classes, input_shape, hidden=16, poison=0):
    model = speech_cnn(
        classes, input_shape=input_shape, channels=[4], hidden=hidden,
        activation_density=(1.0, 0.25),
    )
    if poison:
        model.append(Broken())
    return model
"""

EXPERIMENT = """
name = "small"
budget = {budget}
storage = "sqlite:///small.db"
sampler = "random"

[settings]
task = "data.npz"
model = "net.py:build"
epochs = {epochs}
batch_size = 16
device = "cpu"

[metrics.{metric}]
goal = "maximize"
threshold = 0.2

[metrics.density]
goal = "minimize"
threshold = 0.9

[parameters."weight_density.linear1"]
type = "float"
low = 0.1
high = 0.5

[parameters.{parameter}]
type = "choice"
options = {options}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder, and the current one, with data, a network and a function to write experiments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, number in (("train", 120), ("validation", 30), ("test", 30)):
        y = np.arange(number) % 3
        x = rng.normal(0.0, 0.3, (number, 12, 12)).astype(np.float32)
        for image, label in zip(x, y, strict=True):
            image[4 * label : 4 * label + 3] += 1.0
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    np.savez(tmp_path / "data.npz", **arrays)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


@pytest.fixture
def experiment(place):
    def write(**changes):
        values = {
            "budget": 3,
            "epochs": 1,
            "metric": "accuracy",
            "parameter": "hidden",
            "options": "[8, 16]",
        }
        (place / "e.toml").write_text(EXPERIMENT.format(**{**values, **changes}))

    return write


@pytest.fixture
def gossamer(monkeypatch, capsys):
    """Runs a command; gives exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gossamer", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run
