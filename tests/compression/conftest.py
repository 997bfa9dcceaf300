import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gossamer.runtime import planner
from gossamer.training import measure

CODE = """
import numpy as np
from torch import nn


def build():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))


def data():
    with np.load("toy.npz") as file:
        return file["x_train"], file["y_train"]
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One round of timing, and hardly a choice among kernels: no test here reads a time."""
    monkeypatch.setattr(measure, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(planner, "BUDGET_NS", 1_000_000)


def network():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))


@pytest.fixture(scope="session")
def examples():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = rng.normal(0.0, 0.3, (240, 16)).astype(np.float32)
    x[np.arange(240), y] += 2.0
    return x, y


@pytest.fixture(scope="session")
def trained(examples):
    """A network that answers nearly all of them correctly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network()
    x, y = map(torch.from_numpy, examples)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def place(examples, trained, tmp_path, monkeypatch):
    """A folder with the data, the network's code and its weights."""
    monkeypatch.chdir(tmp_path)
    np.savez("toy.npz", x_train=examples[0], y_train=examples[1])
    (tmp_path / "net.py").write_text(CODE)
    save_file(trained.state_dict(), "weights.safetensors")
    return tmp_path
