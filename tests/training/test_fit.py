"""Training: it learns, repeats itself bit for bit, goes on after a stop, and fails clearly."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.data import arrays
from gossamer.errors import UserError
from gossamer.training import DivergedError, TrainingConfig, fit, predict

QUICK = TrainingConfig(epochs=3, batch_size=16, learning_rate=0.05, device="cpu")


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def story(history):
    """All of a history but the wall times."""
    return [
        astuple(replace(e, seconds=0.0, parts={})) for e in history.epochs
    ], history.stopped_early


def test_learns_a_separable_task(toy, network):
    model, sparsifier = network()
    history = fit(model, toy, replace(QUICK, epochs=6), sparsifier=sparsifier)
    assert history.epochs[-1].accuracy > 0.9
    assert history.epochs[-1].loss < history.epochs[0].loss / 2
    for name, mask in sparsifier.masks.items():
        weight = model.get_submodule(name).weight
        assert torch.count_nonzero(weight) == mask.sum()
        assert not weight[~mask].any()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(toy, network):
    results = []
    for seed in (1, 1, 2):
        model, sparsifier = network(dropout=0.3)
        fit(model, toy, replace(QUICK, seed=seed), sparsifier=sparsifier)
        results.append(model.state_dict())
    same(results[0], results[1])
    assert not torch.equal(results[0]["linear1.weight"], results[2]["linear1.weight"])


def test_global_generators_are_untouched(toy, network):
    model, sparsifier = network(dropout=0.5)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state()
    expected = np.random.RandomState(3).rand()
    fit(model, toy, QUICK, sparsifier=sparsifier)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.rand() == expected  # noqa: NPY002


def test_pictures_are_varied_where_settings_say_so(toy, network):
    (plain, _), (varied, _), (off, _) = (network(1.0) for _ in range(3))
    settings = replace(QUICK, epochs=1, shift=3)
    fit(plain, toy, replace(settings, shift=0))
    fit(varied, toy, settings)
    fit(off, toy, replace(settings, augment=False))
    assert torch.equal(plain.conv1.weight, off.conv1.weight)
    assert not torch.equal(plain.conv1.weight, varied.conv1.weight)
    with pytest.raises(UserError, match="time_mask must be below 12"):
        fit(plain, toy, replace(settings, time_mask=12))


class Stop(Exception):
    pass


CASES = {
    "sgd": {},
    "sgd without momentum": {"momentum": 0.0},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "adam, step": {"optimizer": "adam", "learning_rate": 0.01, "schedule": "step"},
    "patience": {"patience": 3, "learning_rate": 0.2, "label_smoothing": 0.1},
    "augmented": {
        "flip": True,
        "crop": 1,
        "shift": 2,
        "time_mask": 3,
        "frequency_mask": 2,
        "gain": 0.1,
    },
    "redrawn": {"redrawn_class": "1", "redrawn_share": 0.25},
    "a share of the data": {"data_share": 0.6},
    "distilled": {"teacher_share": 0.7, "teacher_temperature": 2.0},
    "distilled in 16 bits": {"precision": "bfloat16", "teacher_share": 0.7},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_interrupted_training_ends_with_the_same_weights(tmp_path, toy, network, changes, density):
    settings = replace(QUICK, epochs=4, **changes)
    teacher = network(1.0)[0] if "teacher_share" in changes else None
    whole, whole_sparsifier = network(density, dropout=0.2)
    expected = fit(whole, toy, settings, sparsifier=whole_sparsifier, teacher=teacher)

    file = tmp_path / "checkpoint.safetensors"

    def stop(epoch):
        if epoch.epoch in (1, 3):
            raise Stop

    for _ in range(2):
        model, sparsifier = network(density, dropout=0.2)
        both = {"sparsifier": sparsifier, "teacher": teacher, "checkpoint": file}
        with pytest.raises(Stop):
            fit(model, toy, settings, on_epoch=stop, **both)
    seen = []
    # Fresh objects made in another way: everything has to come from the file.
    model, sparsifier = network(density, dropout=0.2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    both["sparsifier"] = sparsifier
    history = fit(model, toy, settings, on_epoch=seen.append, **both)
    assert [epoch.epoch for epoch in seen] == [4]
    assert story(history) == story(expected)
    same(model.state_dict(), whole.state_dict())
    if sparsifier is not None:
        same(sparsifier.state_dict(), whole_sparsifier.state_dict())


def test_a_finished_checkpoint_trains_no_more(tmp_path, toy, network):
    file = tmp_path / "c.safetensors"
    model, sparsifier = network()
    first = fit(model, toy, QUICK, sparsifier=sparsifier, checkpoint=file)
    again, again_sparsifier = network()
    seen = []
    second = fit(
        again, toy, QUICK, sparsifier=again_sparsifier, checkpoint=file, on_epoch=seen.append
    )
    assert seen == []
    assert second == first
    same(again.state_dict(), model.state_dict())


def test_early_stop_returns_to_the_best_weights(toy, network):
    model, _ = network(1.0)
    kept = {}

    def keep(epoch):
        kept[epoch.epoch] = {n: t.detach().clone() for n, t in model.state_dict().items()}

    # Nearly no learning: after the first epochs nothing gets better.
    settings = replace(QUICK, epochs=20, learning_rate=0.05, schedule="constant", patience=2)
    history = fit(model, toy, settings, on_epoch=keep)
    assert history.stopped_early
    best = history.best.epoch
    assert len(history.epochs) == best + 2 < 20
    accuracies = [epoch.accuracy for epoch in history.epochs]
    assert accuracies.index(max(accuracies)) + 1 == best
    same(model.state_dict(), kept[best])
    assert not torch.equal(kept[best]["linear1.weight"], kept[best + 2]["linear1.weight"])
    right = predict(model, torch.from_numpy(toy.features(toy.validation.x))).argmax(1).numpy()
    assert (right == toy.validation.y).mean() == pytest.approx(history.best.accuracy)


def test_divergence_names_the_epoch_and_the_learning_rate(toy):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 30), nn.Linear(30, 30), nn.Linear(30, 3))
    settings = replace(QUICK, learning_rate=1e9, schedule="constant")
    with pytest.raises(DivergedError, match=r"in epoch 1 of 3 \(learning_rate 1e\+09\).*lower"):
        fit(model, toy, settings)


def test_divergence_in_a_later_epoch(toy):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(144, 3)
            self.calls = 0

        def forward(self, x):
            self.calls += self.training
            out = self.linear(x.flatten(1))
            return out * (math.nan if self.calls > 7 else 1.0)

    with pytest.raises(DivergedError, match="nan in epoch 2 of 3"):
        fit(Late(), toy, QUICK)  # 7 steps an epoch


def test_batch_larger_than_the_data(toy, network):
    model, _ = network(1.0)
    with pytest.raises(UserError, match=r"batch_size 121 is more than the 120 .*'toy'.*smaller"):
        fit(model, toy, replace(QUICK, batch_size=121))
    fit(model, toy, replace(QUICK, batch_size=120, epochs=1))


def test_unknown_device(toy, network):
    model, _ = network(1.0)
    with pytest.raises(UserError, match="device: no 'gpu'; known: auto, cpu"):
        fit(model, toy, replace(QUICK, device="gpu"))


@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_networks_of_other_dimensions_train():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(0, 1, (40, 1, 4, 4, 4)).astype(np.float32) + y[:, None, None, None, None]
    task = arrays((x, y), (x, y), (x, y))
    model = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(54, 2))
    history = fit(model, task, replace(QUICK, batch_size=8))
    assert history.epochs[-1].accuracy > 0.8


# Schedules, by hand.


def test_history_holds_the_rates_used(toy, network):
    model, _ = network(1.0)
    settings = replace(QUICK, schedule="step", learning_rate_decay=0.1)
    history = fit(model, toy, settings)
    assert [e.learning_rate for e in history.epochs] == pytest.approx([0.05, 0.005, 0.0005])


@pytest.fixture
def always_sparse(monkeypatch):
    """Every layer is measured to be faster with its non-zeros, however small it is here."""
    measured = []

    def measure(layer, *_):
        measured.append(layer)
        return 2.0, 1.0  # by torch, by the non-zeros alone

    monkeypatch.setattr("gossamer.sparsity.accelerate.measure", measure)
    return measured


def test_accelerated_training_learns_the_same(toy, network, always_sparse, tmp_path):
    plain, plain_sparsifier = network()
    expected = fit(plain, toy, QUICK, sparsifier=plain_sparsifier)
    model, sparsifier = network()
    settings = replace(QUICK, accelerate=True)
    path = tmp_path / "c.safetensors"
    found = fit(model, toy, settings, sparsifier=sparsifier, checkpoint=path)
    assert always_sparse
    losses = [[epoch.loss for epoch in history.epochs] for history in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, mask in sparsifier.masks.items():
        weight = model.get_submodule(name).weight
        assert weight.shape == mask.shape  # plain layers again
        assert torch.count_nonzero(weight) == mask.sum()
    resumed, again = network()
    fit(resumed, toy, settings, sparsifier=again, checkpoint=path)
    same(resumed.state_dict(), model.state_dict())


def test_bfloat16_rounds_products_and_keeps_weights_in_float32(toy, network):
    trained = {}
    for precision in ("float32", "bfloat16"):
        model, sparsifier = network()
        settings = replace(QUICK, precision=precision)
        history = fit(model, toy, settings, sparsifier=sparsifier)
        trained[precision] = model, history
    model, history = trained["bfloat16"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    exact = trained["float32"][1]
    losses = [[epoch.loss for epoch in each.epochs] for each in (history, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
    assert history.epochs[-1].accuracy == pytest.approx(exact.epochs[-1].accuracy, abs=0.1)


def test_interrupted_accelerated_training_leaves_plain_layers(toy, network, always_sparse):
    def stop(_):
        raise Stop

    model, sparsifier = network()
    with pytest.raises(Stop):
        fit(model, toy, replace(QUICK, accelerate=True), sparsifier=sparsifier, on_epoch=stop)
    for name, mask in sparsifier.masks.items():
        assert model.get_submodule(name).weight.shape == mask.shape


def test_the_final_density_is_known_from_the_first_epoch(toy, network):
    from gossamer.sparsity import GraNet, Sparsifier

    model, _ = network(density=1.0)
    sparsifier = Sparsifier(model, 0.3, rule=GraNet(interval=2))  # starts dense
    history = fit(model, toy, QUICK, sparsifier=sparsifier)
    kept, weights = (sum(column) for column in zip(*sparsifier.counts().values(), strict=True))
    assert not history.epochs[0].settled
    assert {epoch.density for epoch in history.epochs} == {kept / weights}


def test_the_bar_is_no_output(toy, network, capsys):
    model, _ = network(1.0)
    fit(model, toy, QUICK, progress=True)
    assert capsys.readouterr() == ("", "")  # no terminal: nothing to see
