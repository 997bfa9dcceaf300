"""Modules that ask for a penalty: what is refused, and whole runs."""

import pytest
import torch

from gossamer.errors import UserError
from gossamer.models import speech_cnn
from gossamer.nn import VariationalConv2d, penalties
from gossamer.training import Recipe, TrainingConfig, fit, load_network, train


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("penalty_start", -0.1),
        ("penalty_end", -1.0),
        ("penalty_warmup_end", 1.1),
        ("penalty_warmup_start", 0.9),
        ("learning_rate_decay_during", 1.5),
    ],
)
def test_bad_values(name, value):
    with pytest.raises(UserError, match=name):
        TrainingConfig(**{name: value})


def recipe(**settings) -> Recipe:
    given = {
        "channels": [6],
        "hidden": 24,
        "variational": True,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "epochs": 12,
        "batch_size": 20,
        "augment": False,
        "penalty_warmup_start": 0.0,
        "penalty_warmup_end": 0.5,
        # Few examples: the divergence needs help to show in a short test.
        "penalty_end": 0.5,
        "activation_density": [1.0, 1.0],
    }
    return Recipe("toy", "speech_cnn", {**given, **settings})


def test_a_run_ends_with_plain_sparse_layers(toy, tmp_path):
    trained = train(recipe(), toy)
    evaluation = trained.evaluate(noise=False, timing=False)
    assert evaluation.accuracy > 0.8
    assert evaluation.counts.density < 0.7
    assert penalties(trained.model) is None
    trained.save(tmp_path / "run", evaluation)
    model, _, shape = load_network(tmp_path / "run")
    x = torch.randn(2, *shape)
    torch.testing.assert_close(model(x), trained.model.eval()(x), rtol=0, atol=0)


def test_more_penalty_fewer_weights(toy):
    dense, sparse = (
        train(recipe(penalty_end=factor), toy).evaluate(noise=False, timing=False).counts.density
        for factor in (0.0, 0.5)
    )
    assert sparse < 0.9 * dense


def test_resumed_runs_are_the_same(toy, interrupted):
    whole = train(recipe(epochs=2), toy)
    resumed = train(recipe(epochs=2), toy, checkpoint=interrupted(recipe(epochs=2)))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_what_has_a_penalty_is_not_decayed_besides(toy):
    model, _ = recipe().network(3, toy.input_shape)
    assert isinstance(model.conv1, VariationalConv2d)
    before = model.conv1.log_variance.detach().clone()
    settings = TrainingConfig(
        epochs=1, batch_size=120, optimizer="sgd", momentum=0.0, weight_decay=9.0
    )
    with torch.no_grad():
        toy_gradient_free = TrainingConfig(**{**vars(settings), "learning_rate": 1e-9})
    fit(model, toy, toy_gradient_free)
    torch.testing.assert_close(model.conv1.log_variance.detach(), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variational": "yes"}, "variational must be true or false"),
        ({"weight_density": 0.1}, "weight_density and variational exclude each other"),
        ({"weight_density.conv1": 0.1}, r"weight_density.conv1 and variational exclude"),
        ({"base": {"hidden": 8}}, "base and variational exclude each other"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        recipe(**settings)


# ---------------------------------------------------------------- annealed activations


def test_winners_are_annealed_and_end_with_their_density(toy):
    seen = []
    settings = TrainingConfig(epochs=4, batch_size=60, activation_anneal=0.5, augment=False)
    model = speech_cnn(
        3, input_shape=(1, 12, 12), channels=[4], hidden=16, activation_density=(0.25, 0.5)
    )
    history = fit(model, toy, settings, on_epoch=lambda _: seen.append(model.act1.density))
    # Two steps an epoch, four of eight until it is reached.
    assert seen == pytest.approx([0.25 + 0.75 / 8, 0.25, 0.25, 0.25])
    assert [epoch.settled for epoch in history.epochs] == [False, True, True, True]
    assert history.best.settled
    plain = speech_cnn(3, input_shape=(1, 12, 12), channels=[4], hidden=16, activation_density=1.0)
    assert all(epoch.settled for epoch in fit(plain, toy, settings).epochs)  # nothing to anneal


def test_annealed_trainings_resume(toy, interrupted):
    def recipe_of_winners() -> Recipe:
        winners = {"activation_density": [0.25, 0.25], "variational": False}
        return recipe(epochs=2, activation_anneal=0.9, **winners)

    whole = train(recipe_of_winners(), toy)
    resumed = train(recipe_of_winners(), toy, checkpoint=interrupted(recipe_of_winners()))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
