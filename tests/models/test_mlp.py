"""The multi-layer perceptron: names, shapes, winners, mistakes."""

import pytest
import torch
from torch import nn

from gossamer.errors import UserError
from gossamer.models import mlp
from gossamer.nn import KWinners


def test_names_in_order_and_shapes():
    model = mlp(3, input_shape=(2, 4), hidden=16, layers=2, dropout=0.1)
    assert list(dict(model.named_children())) == [
        "flatten",
        *("linear1", "norm1", "act1", "dropout1"),
        *("linear2", "norm2", "act2", "dropout2"),
        "output",
    ]
    assert model(torch.randn(5, 2, 4)).shape == (5, 3)
    assert [m.weight.shape for m in model.modules() if isinstance(m, nn.Linear)] == [
        (16, 8),
        (16, 16),
        (3, 16),
    ]


def test_one_density_for_all_or_one_for_each():
    model = mlp(hidden=20, activation_density=0.25, boost_strength=0.5)
    assert [m.density for m in model.modules() if isinstance(m, KWinners)] == [0.25, 0.25]
    assert model.act1.boost_strength == 0.5
    model = mlp(hidden=20, activation_density=(1.0, 0.25), norm=False)
    assert isinstance(model.act1, nn.ReLU)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in model.modules())
    active = model[:-1](torch.randn(3, 1, 28, 28)).count_nonzero(dim=1)
    assert active.tolist() == [5, 5, 5]


def test_mistakes():
    with pytest.raises(UserError, match="one value, or 2, one for each of the hidden layers"):
        mlp(layers=2, activation_density=(0.1, 0.1, 0.1))
    with pytest.raises(UserError, match="layers must be a whole number of at least 1, not 0"):
        mlp(layers=0)
    with pytest.raises(UserError, match=r"density must be above 0 and at most 1, not 1\.5"):
        mlp(activation_density=1.5)
