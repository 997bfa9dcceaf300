"""Torch modules as engines, against the modules themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.errors import UserError


def close(found, wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_sparse_network_with_winners():
    torch.manual_seed(0)
    model = gs.models.speech_cnn(
        4, input_shape=(1, 12, 12), channels=[4], hidden=16, activation_density=(0.2, 0.25)
    )
    gs.Sparsifier(model, density=0.3, rule=gs.sparsity.Static())
    model.train()
    x = torch.randn(5, 1, 12, 12)
    engine = gs.compile(model, x, threads=1)
    assert model.training
    model.eval()
    close(engine(x.numpy()), model(x))
    close(engine(x[:1].numpy()), model(x[:1]))


class Two(nn.Module):
    """Two inputs, a flag between them, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, a: Tensor, double: bool, b: Tensor, scale: float = 1.0):
        both = self.left(a) + self.right(b) * scale
        return (both * 2 if double else both), torch.relu(both)


@pytest.mark.parametrize("double", [False, True])
def test_several_inputs_flags_and_outputs(double):
    torch.manual_seed(0)
    model, a, b = Two().eval(), torch.randn(2, 3), torch.randn(2, 5)
    engine = gs.compile(model, (a, double, b, 0.5), threads=1)
    assert engine.graph.inputs == ["input1", "input2"]
    assert engine.graph.outputs == ["output1", "output2"]
    a, b = torch.randn(7, 3), torch.randn(7, 5)
    found = engine(a.numpy(), b.numpy())
    for f, wanted in zip(found, model(a, double, b, 0.5), strict=True):
        close(f, wanted)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_an_embedding_takes_its_ids_as_integers():
    model, ids = nn.Embedding(5, 3), torch.tensor([[0, 4, 2, -1], [1, 1, 3, 0]])
    engine = gs.compile(model, ids.clamp(min=0), threads=1)
    wanted = model(ids % 5).detach()
    np.testing.assert_array_equal(engine(ids.numpy()), wanted)


def test_what_cannot_be_compiled_is_named():
    with pytest.raises(UserError, match="torch cannot export Branching"):
        gs.compile(Branching(), torch.randn(2, 3))
    with pytest.raises(UserError, match=r"input 1 is torch.float64; .*convert it"):
        gs.compile(nn.Linear(4, 3), torch.zeros(2, 4, dtype=torch.float64))
    joined = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(UserError, match=r"joins the examples .*track_running_stats=True"):
        gs.compile(joined, torch.randn(2, 2, 5))
    with pytest.raises(UserError, match=r"\(Det\): the engine has no such operator"):
        gs.compile(Determinant(), torch.randn(2, 4))
    for nothing, kinds in (((), "nothing"), ((1, 4), "int, int"), (4, "int"), ("a", "str")):
        with pytest.raises(UserError, match=f"must be a torch tensor .* it is: {kinds}$"):
            gs.compile(nn.Identity(), nothing)
    for wrong in (torch.zeros(()), torch.zeros(0, 3), (torch.zeros(2, 3), torch.zeros(3, 3))):
        with pytest.raises(UserError, match="same batch size"):
            gs.compile(nn.Identity(), wrong)


def test_a_network_that_fixes_the_size_of_its_batch_is_refused():
    class Adds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.zeros(2, 4)

    for network, example in (
        (Adds(), torch.zeros(2, 4)),
        (nn.Linear(4, 3), torch.zeros(4)),  # one example without a batch
        (nn.Conv2d(3, 2, 3), torch.zeros(3, 8, 8)),
    ):
        fixed = rf"it fixes the first dimension of 'input' at {len(example)}; .*unsqueeze\(0\)"
        with pytest.raises(UserError, match=fixed):
            gs.compile(network, example)


class Determinant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2, 2).det()
