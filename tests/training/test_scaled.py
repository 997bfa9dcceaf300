"""SµPar by settings: ``base`` names the network for which the others were found."""

import pytest
import torch

from gossamer.errors import UserError
from gossamer.training import Recipe, TrainingConfig, fit, train

SMALL = {"hidden": 16, "norm": False, "optimizer": "adam", "learning_rate": 0.01, "epochs": 1}
SMALL |= {"rule": "static", "allocation": "uniform", "weight_density": 1.0}


def made(**settings) -> Recipe:
    return Recipe("toy", "mlp", {**SMALL, "batch_size": 20, "augment": False, **settings})


def test_base_scales_initialization_and_rates():
    recipe = made(hidden=64, weight_density=0.25, base={"hidden": 16, "weight_density": 1.0})
    model, _ = recipe.network(3, (12, 12))
    plain = model.linear2.weight.detach().clone()
    scaling = recipe.scaling(model, 3, (12, 12))
    assert scaling.scales["linear1.weight"].learning_rate == 4.0
    assert scaling.scales["linear2.weight"].learning_rate == 1.0
    assert scaling.scales["output.weight"].learning_rate == 1.0
    assert not torch.equal(model.linear2.weight, plain)
    assert made().scaling(model, 3, (12, 12)) is None


def test_training_uses_the_rates(toy):
    rates = []
    recipe = made(hidden=64, schedule="constant", base={"hidden": 16})
    model, _ = recipe.network(3, toy.input_shape)
    scaling = recipe.scaling(model, 3, toy.input_shape)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(
        model,
        toy,
        TrainingConfig(
            epochs=1, batch_size=120, optimizer="adam", learning_rate=0.01, schedule="constant"
        ),
        scaling=scaling,
        on_epoch=lambda epoch: rates.append(epoch.learning_rate),
    )
    assert rates == [0.01]
    # Adam's first step is the learning rate, whatever the gradient.
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in model.named_parameters()}
    assert moved["linear1.weight"] == pytest.approx(0.01, rel=0.01)
    assert moved["linear2.weight"] == pytest.approx(0.0025, rel=0.01)
    assert moved["output.weight"] == pytest.approx(0.0025, rel=0.01)
    assert moved["linear2.bias"] == pytest.approx(0.01, rel=0.01)


def test_a_run_with_a_base_is_saved_and_resumed(toy, interrupted):
    recipe = made(hidden=32, epochs=2, base={"hidden": 16})
    whole = train(recipe, toy)
    resumed = train(recipe, toy, checkpoint=interrupted(recipe))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (64, r"base must be a table .* not 64"),
        ({"hiden": 16}, "no setting 'hiden'"),
        ({"learning_rate": 0.1}, r"base\.learning_rate.*belongs to the training"),
        ({"base": {}}, "base must be a table"),
    ],
)
def test_mistakes(base, message):
    with pytest.raises(UserError, match=message):
        made(base=base)


def test_another_structure_is_refused():
    recipe = made(layers=3, base={"layers": 2})
    model, _ = recipe.network(3, (12, 12))
    with pytest.raises(UserError, match="no counterpart in the base"):
        recipe.scaling(model, 3, (12, 12))
