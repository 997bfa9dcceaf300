"""Networks and data by name, and what is refused of them."""

import tomllib
from copy import deepcopy
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import save_file
from tests.compression.conftest import network
from torch import nn

from gossamer.compression import compress, precision
from gossamer.compression.examination import Examination
from gossamer.compression.networks import NamedNetwork, _load
from gossamer.compression.plan import start, write_experiment
from gossamer.compression.space import SearchSpace
from gossamer.compression.tuning import Tuning, least_epochs
from gossamer.errors import UserError
from gossamer.models import ds_cnn, image_cnn, speech_cnn, tc_resnet
from gossamer.search import AtLeast, AtMost, Experiment, Maximize
from gossamer.sparsity import SparsitySettings, choose_weights
from gossamer.training import Recipe, train
from gossamer.training.trained import save_network


def test_a_look_lists_what_stays_dense():
    model = nn.Sequential(
        nn.Embedding(100, 16), nn.Linear(16, 32), nn.ReLU(), nn.Conv1d(8, 8, 3, groups=8)
    )
    examined = Examination.of(model.eval(), torch.zeros(2, 8, dtype=torch.long))
    assert examined.weights == 1600 + 512 + 24
    assert dict(examined.dense) == {"0.weight": 1600, "3.weight": 24}
    assert "stays dense: 0.weight, 1,600 weights, 74.9%" in examined.sentences()


def test_a_look_names_the_layers_that_blocks_do_not_fit():
    model = nn.Sequential(
        nn.Linear(16, 30), nn.ReLU(), nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    examined = Examination.of(model.eval(), torch.zeros(2, 16))
    assert list(examined.patterns) == ["unstructured", "fitted_block"]  # 16 of 32, 2 of 30
    assert dict(examined.odd) == {"0": 30}
    assert any("8 or 16 outputs, and 0 has 30;" in line for line in examined.sentences())
    assert not Examination.of(network().eval(), torch.zeros(2, 16)).odd


def test_a_small_last_layer_stays_dense_where_the_goals_have_room_for_it():
    """12,000 of 1,716,000 weights, and of 13.1 million multiply-adds."""
    model, example = speech_cnn().eval(), torch.zeros(2, 1, 32, 32)
    free = Examination.of(model, example)
    limited = Examination.of(model, example, {"density": 0.06})
    assert dict(free.small) == {"output": pytest.approx(12_000 / 13.1e6, rel=0.01)}
    assert dict(free.dense) == {"output.weight": 12_000}
    assert all(list(fit.sizes) == ["conv1", "conv2", "linear1"] for fit in free.patterns.values())
    assert list(free.layers) == ["conv1", "conv2", "linear1"]
    end = "stays dense: output.weight, 12,000 weights, 0.7%, and 0.09% of the multiply-adds"
    assert end in free.sentences()
    assert not limited.small  # it would be more than a tenth of what is left
    assert "output" in limited.patterns["unstructured"].sizes
    tiny = Examination.of(network().eval(), torch.zeros(2, 16))
    assert not tiny.small  # 96 of its 608 multiply-adds


def test_the_space_is_what_the_network_allows():
    examined = Examination.of(network().eval(), torch.zeros(2, 16))
    assert list(examined.activations) == ["1"]
    assert dict(examined.layers) == {"0": 0.125}  # two inputs of 16
    assert examined.rearranges
    assert "unstructured" in examined.patterns
    space = SearchSpace(examined).parameters(Tuning(6, (1e-3, 1e-1)))
    assert space["epochs"]["values"] == [0, 2, 6]
    assert space["learning_rate"]["when"] == {"epochs": [2, 6]}
    assert space["weight_density.0"]["when"] == {"allocation": ["uniform"]}
    assert space["winners.1"]["values"] == [0.1, 0.2, 0.4, 1.0]
    first = start(SearchSpace(examined), Tuning(6, (1e-3, 1e-1)))
    assert first[0]["epochs"] == 0
    assert all("learning_rate" not in point for point in first)
    given = start(SearchSpace(examined), Tuning(6, (1e-3, 1e-1), first_rate=0.05))
    assert {point.get("learning_rate") for point in given} == {None, 0.05}
    assert all(point["weight_density"] >= examined.least for point in first)
    own = SearchSpace(examined).parameters(Tuning(1, None))
    assert own["epochs"]["values"] == [0, 1]
    assert not {"learning_rate", "rule", "teacher_share"} & set(own)


def test_what_the_goals_refuse_is_not_searched():
    """Counted metrics are known before a network is trained."""
    examined = Examination.of(network().eval(), torch.zeros(2, 16))
    limits = {"density": 0.25, "activation_density": 0.15}
    space = SearchSpace(examined, limits).parameters(Tuning(6, (1e-3, 1e-1)))
    rounding = examined.patterns["unstructured"].rounding
    assert rounding == 2  # a weight a layer
    assert space["weight_density"]["high"] == 0.25 - rounding / examined.weights
    assert space["winners.1"]["values"] == [0.1, 0.15, 0.2]
    for point in start(SearchSpace(examined, limits), Tuning(6, (1e-3, 1e-1))):
        assert point["weight_density"] <= 0.25
        assert point.get("winners.1", 0.15) <= 0.15


def test_first_trials_keep_to_the_density_that_was_asked_for():
    """With what blocks leave dense, and rounded to whole blocks."""
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 10)
    )
    examined = Examination.of(model.eval(), torch.zeros(2, 64))
    assert {pattern: fit.dense for pattern, fit in examined.patterns.items()} == {
        "unstructured": 0,
        "block4": 960,
        "block8": 960,
        "block16": 960,
    }
    for limit in (0.1, 0.123, 0.3):
        for point in start(SearchSpace(examined, {"density": limit}), Tuning(6, (1e-3, 1e-1))):
            settings = SparsitySettings(pattern=point["pattern"], rule="one_shot")
            pruned = deepcopy(model)
            own = {n: point[k] for n in "02" if (k := f"weight_density.{n}") in point}
            settings.sparsifier(pruned, point["weight_density"], own)
            nonzero = sum(int(layer.weight.count_nonzero()) for layer in pruned[::2])
            assert nonzero <= limit * examined.weights
            nearly = nonzero > 0.97 * limit * examined.weights
            assert nearly or point["weight_density"] < 0.9 * limit


def test_first_trials_of_the_fastest_structures(tmp_path):
    """Blocks in each layer, a first convolution too, of which 6 of 25 inputs stay."""
    examined = Examination.of(speech_cnn().eval(), torch.zeros(2, 1, 32, 32))
    metrics = [Maximize("speedup"), AtLeast("accuracy", 0.9), AtMost("density", 0.1)]
    file = tmp_path / "experiment.toml"
    write_experiment(file, examined, Tuning(6, (1e-3, 1e-1)), metrics, {}, [], ["accuracy"])
    points = tomllib.loads(file.read_text())["start"]
    assert Experiment.from_toml(file, storage=f"sqlite:///{tmp_path / 'x.db'}").constraints
    points = [point for point in points if point["epochs"]]
    assert [
        (p["pattern"], p["epochs"], p["winners.act2"], p["allocation"], p["weight_density"] < 0.08)
        for p in points
    ] == [
        ("block4", 2, 1.0, "uniform", False),
        ("fitted_block", 2, 1.0, "uniform", False),
        ("unstructured", 2, 1.0, "global", False),
        ("block4", 6, 1.0, "uniform", False),
        ("fitted_block", 6, 1.0, "uniform", False),
        ("fitted_block", 2, 0.2, "uniform", False),
        ("unstructured", 6, 1.0, "global", False),
        ("fitted_block", 6, 1.0, "global", False),
        ("fitted_block", 6, 0.2, "uniform", False),
        ("fitted_block", 6, 0.1, "uniform", False),
        ("fitted_block", 6, 0.1, "uniform", True),
    ]
    own = [point for point in points if point["allocation"] == "uniform"]
    for point in own:
        assert point["weight_density.conv1"] == pytest.approx(0.24)
        assert point["weight_density.linear1"] == point["weight_density"]
    assert own[0]["weight_density"] == pytest.approx(0.0935, abs=0.0005)  # its output is dense
    assert own[-1]["weight_density"] == 0.05


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(128, 64, batch_first=True)
        self.output = nn.Linear(64, 3)

    def forward(self, x):
        return self.output(self.layer(x)[0][:, -1])


def perceptron(*sizes):
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


BOTH = ["block4", "fitted_block"]
KINDS = {
    "perceptron": (partial(perceptron, 256, 128, 96, 10), (256,), ["block4", "block16"]),
    "odd layers": (partial(perceptron, 256, 30, 96, 10), (256,), ["fitted_block"]),
    "no blocks": (partial(perceptron, 256, 30, 10), (256,), [None]),
    "convolutions": (speech_cnn, (1, 32, 32), BOTH),
    "30 channels": (image_cnn, (1, 28, 28), ["fitted_block"]),
    "residual": (tc_resnet, (1, 40, 98), BOTH),
    "depthwise": (ds_cnn, (1, 32, 32), ["block4", "block16"]),
    "recurrent": (Recurrent, (5, 128), ["block4", "block16"]),
    "attention": (
        lambda: nn.TransformerEncoderLayer(64, 2, 128, batch_first=True),
        (5, 64),
        ["block4", "block16"],
    ),
}


@pytest.mark.parametrize("limit", [None, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_in_every_layer_are_the_first_that_are_trained(kind, limit):
    """The smallest and the largest blocks that the network allows, at the goal's density."""
    build, shape, patterns = KINDS[kind]
    model = build().eval()
    limits = {} if limit is None else {"density": limit}
    examined = Examination.of(model, torch.zeros(2, *shape), limits)
    points = start(SearchSpace(examined, limits), Tuning(9, (1e-3, 1e-1)))
    trained = [point for point in points if point["epochs"]]
    first = trained[: len(patterns)]
    assert [point.get("pattern") for point in first] == patterns
    for point in first:
        assert (point["epochs"], point["allocation"]) == (3, "uniform")
        pruned = deepcopy(model)
        by_layer = {
            name.removeprefix("weight_density."): density
            for name, density in point.items()
            if name.startswith("weight_density.")
        }
        settings = SparsitySettings(
            pattern=point.get("pattern", "unstructured"),
            allocation="uniform",
            rule="one_shot",
            exclude=tuple(examined.small),
        )
        masks = settings.sparsifier(pruned, point["weight_density"], by_layer).masks
        chosen = [name for name in choose_weights(model) if name not in examined.small]
        sizes = [(n, w.parameter.numel()) for n, w in choose_weights(model, examined.small).items()]
        sizes += examined.dense.items()
        assert set(masks) >= set(chosen[:-1])  # without blocks the last one is dense
        assert all(0 < int(mask.sum()) < 0.3 * mask.numel() for mask in masks.values())
        if limit is not None:
            kept = sum(int(masks[name].sum()) if name in masks else size for name, size in sizes)
            assert 0.8 * limit < kept / examined.weights <= limit


def test_between_a_density_that_is_accurate_and_one_that_is_fast_lies_a_third():
    examined = Examination.of(speech_cnn().eval(), torch.zeros(2, 1, 32, 32))
    for limits, densities in (
        ({}, [0.25, 0.25, 0.1, 0.1, 0.16, 0.16]),
        ({"density": 0.12}, [0.113, 0.113, 0.1, 0.1]),  # without what stays dense, and rounding
    ):
        first = start(SearchSpace(examined, limits), Tuning(9, (1e-3, 1e-1)))
        points = [point for point in first if point["epochs"]]
        count = next(i for i, p in enumerate(points) if p["pattern"] == "unstructured")
        found = [point["weight_density"] for point in points[:count]]
        assert found == pytest.approx(densities, abs=0.001)


def test_densities_of_single_layers_keep_to_the_density_that_was_asked_for():
    """64 x 128, 128 x 96 and 96 x 10: 8,192 + 12,288 + 960 weights, 5,360 of them allowed."""
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 10)
    )
    examined, tuning = Examination.of(model.eval(), torch.zeros(2, 64)), Tuning(6, (1e-3, 1e-1))
    single, blocks = SearchSpace(examined, {"density": 0.25}).constraints
    assert single["coefficients"] == {
        "weight_density": 960 / 21440,
        "weight_density.0": 8192 / 21440,
        "weight_density.2": 12288 / 21440,
    }
    assert single["at_most"] == (5360 - 3) / 21440  # each layer may be rounded up by one
    # No block divides the last layer, which stays dense; a layer is rounded up by 16 at most.
    own = ("weight_density.0", "weight_density.2")
    assert blocks["coefficients"] == {name: single["coefficients"][name] for name in own}
    assert blocks["at_most"] == (5360 - 960 - 2 * 16) / 21440
    assert SearchSpace(examined, {"nonzero": 5360}).constraints == [single, blocks]
    assert SearchSpace(examined, {"activation_density": 0.25}).constraints == []
    # 0.0313 x 8,192 + 0.02 x 12,288 + 0.02 x 960 is 521 weights: with fewer, all share one density.
    for count, own in ((525, True), (523, False)):
        space = SearchSpace(examined, {"nonzero": count})
        assert bool(space.constraints) == own
        assert ("weight_density.0" in space.parameters(tuning)) == own
    # Blocks leave the last layer dense.
    space = SearchSpace(examined, {"nonzero": 1300})
    assert "pattern" not in space.parameters(tuning)
    assert all("pattern" not in point for point in start(space, tuning))


def test_a_search_suggests_no_network_above_the_density_that_was_asked_for(tmp_path):
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    examined = Examination.of(model.eval(), torch.zeros(2, 16))
    file = tmp_path / "experiment.toml"
    metrics = [Maximize("accuracy"), AtMost("density", 0.2)]
    write_experiment(file, examined, Tuning(6, (1e-3, 1e-1)), metrics, {}, [], ["accuracy"])
    data = tomllib.loads(file.read_text())
    data["parameters"]["allocation"]["options"] = ["uniform"]
    data |= {"sampler": "random", "start": []}
    file.write_text(tomli_w.dumps(data))
    experiment = Experiment.from_toml(file, storage=f"sqlite:///{tmp_path / 'search.db'}")
    points = [experiment.ask().parameters for _ in range(12)]
    own = [point for point in points if "weight_density.0" in point]
    assert len(own) > 1
    for point in own:
        pruned = deepcopy(model)
        settings = SparsitySettings(pattern=point["pattern"], allocation="uniform", rule="one_shot")
        by_layer = {n: point[f"weight_density.{n}"] for n in ("0", "2")}
        settings.sparsifier(pruned, point["weight_density"], by_layer)
        nonzero = sum(int(layer.weight.count_nonzero()) for layer in pruned[::2])
        assert nonzero <= 0.2 * 3168
    assert len({point["pattern"] for point in own}) > 1


def test_networks_are_tuned_as_the_dense_one_was_trained(place):
    kept = {"batch_size": 24, "precision": "bfloat16", "augment": False}
    made = {"hidden": 8, "epochs": 1, "label_smoothing": 0.1, **kept}
    plan = compress("mlp", "toy.npz", settings=made, plan=True, progress=False, out="out")
    settings = tomllib.loads((plan.folder / "experiment.toml").read_text())["settings"]
    assert {name: settings[name] for name in kept} == kept
    assert settings["hidden"] == 8
    assert "mask_interval" not in settings  # follows the length of each training
    assert "label_smoothing" not in settings


@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
def test_networks_see_whole_pictures_moved_as_the_dense_one_did(place):
    x = np.random.default_rng(0).random((90, 1, 6, 6), dtype=np.float32)
    np.savez("pictures.npz", x_train=x, y_train=np.arange(90) % 3)
    made = {"hidden": 8, "epochs": 1, "shift": 1, "time_mask": 2, "frequency_mask": 2}
    plan = compress("mlp", "pictures.npz", settings=made, plan=True, progress=False, out="out")
    settings = tomllib.loads((plan.folder / "experiment.toml").read_text())["settings"]
    assert settings["shift"] == 1
    assert settings.keys().isdisjoint({"time_mask", "frequency_mask"})


@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
def test_first_trials_learn_half_as_fast_as_the_dense_network_did(place):
    settings = {"hidden": 8, "epochs": 1, "learning_rate": 0.02}
    plan = compress("mlp", "toy.npz", settings=settings, plan=True, progress=False, out="out")
    written = tomllib.loads((plan.folder / "experiment.toml").read_text())
    assert {point.get("learning_rate") for point in written["start"]} == {None, 0.01}
    assert written["parameters"]["learning_rate"]["high"] == 0.02
    always = {name for name, entry in written["parameters"].items() if "when" not in entry}
    assert "pattern" in always
    assert always.isdisjoint(written["settings"])


def test_16_bits_where_they_are_faster(monkeypatch):
    """By the processor's time for a step; a clock of our own counts the multiplications."""
    clock = {"time": 0.0}

    class Slow(nn.Linear):
        def forward(self, x):
            clock["time"] += cost[torch.is_autocast_enabled("cpu")]
            return super().forward(x)

    monkeypatch.setattr(precision.time, "process_time", lambda: clock["time"])
    model = nn.Sequential(Slow(16, 3), nn.BatchNorm1d(3))
    state = deepcopy(model.state_dict())
    cost = [1.0, 0.0]
    for cost[1], fastest in ((0.5, "bfloat16"), (0.9, "float32"), (3.0, "float32")):
        assert precision.fastest_precision(model, torch.randn(8, 16)) == fastest
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_deep_network_shares_its_densities():
    layers = [part for _ in range(7) for part in (nn.Linear(16, 16), nn.ReLU())]
    examined = Examination.of(nn.Sequential(*layers).eval(), torch.zeros(2, 16))
    space = SearchSpace(examined).parameters(Tuning(6, (1e-3, 1e-1)))
    assert "winners" in space
    assert not [name for name in space if "." in name]


def test_weights_that_do_not_fit(tmp_path):
    model = network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "w.safetensors"
    save_file({**state, "0.weight": torch.zeros(32, 8)}, path)
    with pytest.raises(
        UserError, match=r"'0.weight' is float32 \[32, 8\] in the file, float32 \[32, 16\]"
    ):
        _load(model, path)
    save_file({**state, "0.weight": torch.zeros(32, 16, dtype=torch.float16)}, path)
    with pytest.raises(UserError, match=r"'0.weight' is float16 \[32, 16\] in the file, float32"):
        _load(model, path)
    save_file({k: v for k, v in state.items() if k != "2.bias"}, path)
    with pytest.raises(UserError, match=r"'2.bias' is missing in the file"):
        _load(model, path)
    save_file({**state, "0.bias": torch.full((32,), torch.nan)}, path)
    with pytest.raises(UserError, match=r"'0.bias' holds NaN"):
        _load(model, path)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read"):
        _load(model, path)
    with pytest.raises(UserError, match="read from safetensors files only"):
        _load(model, tmp_path / "w.pt")
    save_file({f"model.{name}": value + 1 for name, value in state.items()}, path)
    _load(model, path)  # a run's file
    assert torch.equal(model.state_dict()["0.bias"], state["0.bias"] + 1)


@pytest.mark.parametrize(("examples", "batch"), [(270, 64), (40, 64), (1_000, 10), (42_000, 100)])
def test_the_shortest_training_has_enough_steps(examples, batch):
    longest = max(5, least_epochs(examples, batch))
    shortest = Tuning(longest, (1e-4, 3e-3)).lengths[1]
    assert shortest * max(examples // batch, 1) >= 100


def test_first_trials_keep_to_a_limit_where_each_layer_has_a_least_density_of_its_own(tmp_path):
    """Each layer of this network has few inputs; the last one has no blocks."""
    layers = (nn.Conv1d(8, 32, 3), nn.ReLU(), nn.Conv1d(32, 32, 3), nn.ReLU())
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 4))
    limits = {"density": 0.15}
    space = SearchSpace(Examination.of(model, torch.randn(2, 8, 12), limits), limits)
    assert space.layers
    for point in start(space, Tuning(9, (1e-4, 3e-3))):
        for bound in space.constraints if "weight_density.0" in point else []:
            total = sum(point[name] * factor for name, factor in bound["coefficients"].items())
            assert total <= bound["at_most"] + 1e-9


@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
def test_a_training_fits_a_dozen_times_into_the_search(tmp_path, monkeypatch):
    """And is at most four times as long as the dense network's, and at least three epochs."""
    rng = np.random.default_rng(0)
    data = str(tmp_path / "data.npz")
    np.savez(data, x_train=rng.random((3200, 8)), y_train=np.arange(3200) % 2)
    own = {"hidden": 4, "epochs": 0, "learning_rate": 0.1}
    (tmp_path / "run").mkdir()
    save_network(train(Recipe(data, "mlp", own)), tmp_path / "run")
    named = NamedNetwork(str(tmp_path / "run"), data, tmp_path / "out")
    named.measure()
    monkeypatch.setattr(named, "_trained_with", {**named._trained_with, "epochs": 6})

    def epochs(seconds):
        took = {"network": 5 * seconds, "data": seconds}
        monkeypatch.setattr(named, "_training", {"epochs": 6, "training_seconds": took})
        return named.tuning(minutes=60.0).epochs

    assert [epochs(seconds) for seconds in (2.0, 30.0, 600.0)] == [24, 10, 3]


@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
def test_pictures_that_training_did_not_vary_may_be_cropped(tmp_path, monkeypatch):
    """By a twelfth of the side, in the longest of the first trainings and where the search likes.

    What varied the dense network's pictures varies those of the trials, and nothing else.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    rng = np.random.default_rng(0)
    np.savez("pictures.npz", x_train=rng.random((40, 24, 30)), y_train=np.arange(40) % 2)
    np.savez("rows.npz", x_train=rng.random((40, 24)), y_train=np.arange(40) % 2)

    def tuning(data, **settings):
        own = {"hidden": 8, "epochs": 0, "batch_size": 8, **settings}
        save_network(train(Recipe(data, "mlp", own)), tmp_path / "run")
        named = NamedNetwork("run", data, tmp_path / str(len(settings)) / data)
        named.measure()
        return named.tuning()

    assert tuning("rows.npz").crop == 0
    flipped = tuning("pictures.npz", flip=True)
    assert (flipped.crop, flipped.settings["flip"]) == (0, True)
    cropped = tuning("pictures.npz")
    assert cropped.crop == 2
    examined = Examination.of(network().eval(), torch.zeros(2, 16))
    parameters = SearchSpace(examined).parameters(cropped)
    assert parameters["crop"] == {
        "type": "grid",
        "values": [0, 2],
        "when": {"epochs": cropped.lengths[1:]},
    }
    for point in start(SearchSpace(examined), cropped):
        longest = {0: None, cropped.epochs: 2}.get(point["epochs"], 0)
        assert point.get("crop") == longest
