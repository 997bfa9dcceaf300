"""Activation density that falls while training."""

import pytest
import torch

from gossamer.errors import UserError
from gossamer.models import mlp
from gossamer.nn import AnnealActivations, KWinners


def network() -> torch.nn.Module:
    return mlp(4, input_shape=(6,), hidden=20, layers=2, activation_density=(0.2, 0.5))


def test_cubic_by_hand():
    model = network()
    anneal = AnnealActivations(model, steps=4, start=0.9)
    found = []
    for step in range(6):
        assert anneal.settled is (step >= 4)
        found.append(tuple(anneal.densities().values()))
        anneal.step()
    cubes = [1.0, (3 / 4) ** 3, (1 / 2) ** 3, (1 / 4) ** 3, 0.0, 0.0]
    assert [pair[0] for pair in found] == pytest.approx([0.2 + 0.7 * c for c in cubes])
    assert [pair[1] for pair in found] == pytest.approx([0.5 + 0.4 * c for c in cubes])
    assert anneal.densities() == {"act1": 0.2, "act2": 0.5}


def test_layers_use_the_density_of_the_step():
    model = network()
    anneal = AnnealActivations(model, steps=10)
    active = []
    layer = next(m for m in model.modules() if isinstance(m, KWinners))
    layer.register_forward_hook(lambda _, __, y: active.append(int(y[0].count_nonzero())))
    for step in (0, 5, 10, 99):
        anneal.at(step)
        model.eval()(torch.randn(2, 6))
    # round(20 * (0.2 + 0.8 / 8)) at the half
    assert active == [20, 6, 4, 4]


def test_denser_layers_keep_their_density():
    model = network()
    assert AnnealActivations(model, 5, start=0.3).densities() == {"act1": 0.3, "act2": 0.5}


def test_mistakes():
    with pytest.raises(UserError, match="no k-winners to anneal; put them in with"):
        AnnealActivations(torch.nn.Linear(2, 2), 5)
    with pytest.raises(UserError, match="steps must be a whole number of at least 1"):
        AnnealActivations(network(), 0)
    with pytest.raises(UserError, match="start must be above 0"):
        AnnealActivations(network(), 5, start=0.0)


def test_attached_to_the_optimizer_inside_the_wrapper_of_accelerate():
    AcceleratedOptimizer = pytest.importorskip("accelerate.optimizer").AcceleratedOptimizer
    pytest.importorskip("accelerate").Accelerator(cpu=True)  # the wrapper asks for its state
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrapper = AcceleratedOptimizer(optimizer)
    anneal = AnnealActivations(model, steps=4).attach(wrapper)
    model(torch.randn(2, 6)).sum().backward()
    wrapper.step()
    assert anneal.done == 1
