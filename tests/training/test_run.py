"""Evaluation, recipes and run directories."""

import copy
import json
import shutil
import tomllib

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.errors import UserError
from gossamer.sparsity import RULES, Cubic
from gossamer.training import Recipe, evaluate, load_network, load_recipe, noise_score, train
from gossamer.training.initial import rearranged

SMALL = {
    "channels": [4],
    "hidden": 16,
    "activation_density": [0.25, 0.25],
    "weight_density.linear1": 0.2,
    "rule": "static",
    "epochs": 1,
    "batch_size": 16,
    "device": "cpu",
}


def layer_recipe(**settings):
    return Recipe("toy", "speech_cnn", {**SMALL, **settings})


class Constant(nn.Module):
    """Always answers class 1, whatever it sees, and remembers that."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return torch.tensor([[0.0, 1.0, 0.0]]).repeat(len(x), 1)


def test_accuracy_and_loss_by_hand(toy):
    found = evaluate(Constant(), toy, "validation", noise=False, timing=False)
    assert (found.correct, found.examples, found.accuracy) == (10, 30, pytest.approx(1 / 3))
    total = np.log(2 + np.e)
    assert found.loss == pytest.approx((10 * (total - 1) + 20 * total) / 30, rel=1e-5)
    assert found.noise is None
    assert "noise" not in found.as_dict()
    assert "seconds" not in found.as_dict()


def test_every_network_meets_the_same_noise(toy):
    first, second = Constant(), Constant()
    one, two = noise_score(first, toy, seed=3), noise_score(second, toy, seed=3)
    assert one == two
    assert all(map(torch.equal, first.seen, second.seen))
    assert (one.correct, one.score, one.of) == ((10,) * 11, 110, 330)
    assert torch.equal(first.seen[0], torch.from_numpy(toy.features(toy.test.x)))
    other = Constant()
    noise_score(other, toy, seed=4)
    assert not torch.equal(other.seen[-1], first.seen[-1])


def test_without_noise_the_examples_are_not_run_again(toy):
    model = Constant()
    found = noise_score(model, toy, seed=3, clean=7)
    assert found.correct == (7, *(10,) * 10)
    assert len(model.seen) == 10


def test_the_noise_score_is_optional(toy, tmp_path):
    trained = train(layer_recipe(noise_score=False), toy)
    assert trained.evaluate(timing=False).noise is None
    assert trained.evaluate(timing=False, noise=True).noise is not None


@pytest.mark.parametrize("measure", [evaluate, noise_score])
def test_unknown_split(toy, measure):
    with pytest.raises(UserError, match="no split 'tset': did you mean 'test'"):
        measure(Constant(), toy, "tset")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 3}, "no setting 'hiden'.*mean 'hidden'"),
        ({"weight_density.linear": 0.1}, "'linear'.*mean 'linear1'"),
        ({"activation_density.conv2": 0.1}, "'activation_density.conv2'.*mean 'conv1'"),
        ({"weight_density": 0}, "above 0 and at most 1"),
        ({"weight_density": 1.5}, "above 0 and at most 1"),
        ({"weight_density.linear1": 0}, "'linear1': density must be above 0"),
        ({"weight_density.linear1": "dense"}, "'linear1': density must be above 0"),
        ({"epochs": -1}, "epochs must be between 0"),
        ({"boost_strength": -1.0}, "boost_strength"),
        ({"int8": 8}, "int8 must be true or false"),
        ({"rearrange": 1}, "rearrange must be true or false"),
        ({"winners.act1": 0.0}, "winners.act1 must be above 0"),
        ({"int8": True, "accelerate": True}, "accelerate and int8 exclude each other"),
    ],
)
def test_bad_setting_in_a_recipe(settings, message):
    with pytest.raises(UserError, match=message):
        layer_recipe(**settings).network(3, (1, 12, 12))


def test_stage_of_a_network_without_stages(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text(
        "from torch import nn\n"
        "def build(classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(144, classes))\n"
    )
    recipe = Recipe("toy", f"{file}:build", {"activation_density.conv1": 0.5})
    with pytest.raises(UserError, match=r"no setting 'activation_density.conv1'"):
        recipe.network(3, (1, 12, 12))


def test_one_density_replaces_the_layers_defaults():
    recipe = Recipe("toy", "speech_cnn_sparse", {"weight_density": 0.5, "hidden": 10})
    assert not [name for name in recipe.settings if name.startswith("weight_density.")]
    _, sparsifier = recipe.network(12, (1, 32, 32))
    for kept, total in sparsifier.counts().values():
        assert kept == pytest.approx(total / 2, abs=total * 0.02 + 1)


def test_layer_and_stage_densities_are_those_asked_for():
    recipe = layer_recipe(**{"activation_density.linear1": 0.5, "weight_density.conv1": 0.4})
    model, sparsifier = recipe.network(3, (1, 12, 12))
    counts = sparsifier.counts()
    assert counts["conv1"] == (40, 100)
    assert counts["output"] == (48, 48)
    assert counts["linear1"][0] / counts["linear1"][1] == pytest.approx(0.2, abs=0.01)
    hidden = model.get_submodule("act_linear1")(torch.randn(1, 16))
    assert torch.count_nonzero(hidden) == 8


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pattern", ["unstructured", "block4"])
def test_every_rule_trains_by_name_to_its_density(toy, rule, pattern):
    settings = {"rule": rule, "pattern": pattern, "mask_interval": 2, "epochs": 2, "hidden": 16}
    recipe = layer_recipe(**settings, **{"weight_density.output": 1.0, "weight_density": 0.3})
    trained = train(recipe, toy)
    assert trained.sparsifier.settled
    found = evaluate(trained.model, toy, "test", noise=False, timing=False).counts
    for layer in found.layers:
        if layer.name in ("linear1", "conv1"):
            kept, total = trained.sparsifier.counts()[layer.name]
            assert layer.nonzero == kept < total == layer.weights
    rest = {layer.name: layer for layer in found.layers if layer.name != "output"}
    wanted = 0.2 * rest["linear1"].weights + 0.3 * rest["conv1"].weights
    assert sum(layer.nonzero for layer in rest.values()) == pytest.approx(wanted, abs=2)


def test_density_falls_from_its_start_value():
    recipe = layer_recipe(rule="granet", weight_density=0.2, density_initial=0.6, density_until=0.5)
    _, sparsifier = recipe.network(3, (1, 12, 12))
    kept, weights = map(sum, zip(*sparsifier.counts().values(), strict=True))
    assert kept == round(0.6 * weights)
    assert sparsifier.schedule == Cubic(until=0.5, initial=0.6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "rigel"}, "rule: no 'rigel'; did you mean 'rigl'"),
        ({"pattern": "blok8"}, "pattern: no 'blok8'; did you mean 'block8'"),
        ({"allocation": "earth"}, "allocation: no 'earth'; .*Known: erk, global, uniform"),
        ({"density_schedule": "qubic"}, "density_schedule: no 'qubic'; did you mean 'cubic'"),
        ({"rule": "static", "density_until": 0.5}, "density_until: the schedule Constant has no"),
        ({"rule": "acdc", "density_initial": 0.5}, "density_initial: the schedule Phases has no"),
        ({"rule": "granet", "density_initial": 0.0}, "initial density must be above 0"),
        ({"rule": "top_k", "drop_fraction": 0.5}, "drop_fraction: rule top_k has no"),
        ({"rule": "set", "drop_fraction": 1.5}, "SET: fraction must be"),
        ({"mask_interval": 0}, "interval .in steps. must be a whole number of at least 1"),
        ({"exclude": 3}, "exclude must be a list of names"),
        ({"exclude": ["lst"]}, "exclude: no sparsifiable layer 'lst': did you mean 'last'"),
        ({"pattern": "block8"}, "layer 'conv1': its 4 outputs do not divide into blocks of 8"),
        ({"init": "nowhere"}, "init: nowhere is not a run directory"),
    ],
)
def test_bad_sparsity_setting(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        layer_recipe(**{"weight_density": 0.3, **settings}).network(3, (1, 12, 12))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", [{"pattern": "block7"}, {"rule": "set"}, {"allocation": "global"}]
)
def test_how_to_be_sparse_needs_a_density(setting):
    ((name, value),) = setting.items()
    with pytest.raises(UserError, match=f"{name}={value} has no effect .* set weight_density"):
        Recipe("toy", "speech_cnn", setting)
    Recipe("toy", "speech_cnn", {**setting, "weight_density.linear1": 0.5})
    Recipe("toy", "resnet50", {"rule": "acdc"})  # its own default


def test_layers_are_excluded_by_name_and_by_rule():
    recipe = layer_recipe(weight_density=0.3, exclude="first, output")
    _, sparsifier = recipe.network(3, (1, 12, 12))
    assert list(sparsifier.masks) == ["linear1"]


def test_training_begins_with_a_dense_run(toy, tmp_path):
    dense = train(layer_recipe(**{"weight_density.linear1": 1.0}), toy)
    dense.save(tmp_path / "dense")
    settings = {"init": str(tmp_path / "dense"), "activation_density": [1.0, 0.25]}
    model, sparsifier = layer_recipe(rule="granet", **settings).network(3, (1, 12, 12))
    assert torch.equal(model.linear1.weight, dense.model.linear1.weight), "dense at first"
    # Masks of the largest weights at once, the kept ones as they were trained.
    recipe = layer_recipe(rule="granet", density_schedule="constant", **settings)
    model, sparsifier = recipe.network(3, (1, 12, 12))
    mask = sparsifier.masks["linear1"]
    assert torch.equal(model.linear1.weight[mask], dense.model.linear1.weight[mask])
    sizes = dense.model.linear1.weight.detach().abs()
    threshold = sizes.flatten().sort(descending=True).values[int(mask.sum()) - 1]
    assert (sizes[mask] >= threshold).float().mean() > 0.9, "but for each unit's own best"
    trained = train(recipe, toy)
    trained.save(tmp_path / "sparse")
    (tmp_path / "dense" / "model.safetensors").unlink()
    loaded, _, _ = load_network(tmp_path / "sparse")
    assert torch.equal(loaded.linear1.weight, trained.model.linear1.weight)
    with pytest.raises(
        UserError, match=r"'linear1.weight' is float32 \[16, 64\] in the file, .*\[20, 64\]"
    ):
        layer_recipe(init=str(tmp_path / "sparse"), hidden=20).network(3, (1, 12, 12))


def test_a_folder_of_runs_is_not_a_run(tmp_path):
    for run in ("dense", "sparse"):
        (tmp_path / run).mkdir()
        for name in ("config.toml", "model.safetensors"):
            (tmp_path / run / name).touch()
    runs = f"name a run in it: {tmp_path}/dense, {tmp_path}/sparse"
    with pytest.raises(UserError, match=rf"it has no config\.toml; {runs}"):
        load_recipe(tmp_path)
    with pytest.raises(UserError, match=rf"it has no model\.safetensors; {runs}"):
        layer_recipe(init=str(tmp_path)).network(3, (1, 12, 12))


def test_eight_bits_are_trained_measured_and_saved(toy, tmp_path):
    trained = train(layer_recipe(int8=True), toy)
    metrics = trained.save(tmp_path / "run")
    assert 0 <= metrics["float_accuracy"] <= 1
    # A byte for each non-zero, a bit for each place, a step for each of 16 outputs.
    weight = trained.model.linear1.weight
    counted = int(torch.count_nonzero(weight)) + weight.numel() // 8 + 4 * 16
    parts = [trained.model.conv1, trained.model.output]
    counted += sum(p.weight.numel() + 4 * len(p.weight) for p in parts)
    assert counted <= metrics["weights"]["bytes"] <= counted + 4 * 40, "and biases in 32 bits"
    loaded, _, _ = load_network(tmp_path / "run")
    x = torch.from_numpy(toy.features(toy.test.x))
    with torch.no_grad():
        assert torch.equal(loaded(x), trained.model.eval()(x))
    assert trained.sparsifier.masks["linear1"].float().mean() < 0.25


def test_nothing_masked_means_no_sparsifier():
    assert layer_recipe(**{"weight_density.linear1": 1.0}).network(3, (1, 12, 12))[1] is None


# Run directories.


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    trained = train(layer_recipe(), toy)
    return trained, folder, trained.save(folder)


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished[1], tmp_path / "run")


def test_a_run_directory_holds_everything(finished):
    trained, folder, metrics = finished
    assert {f.name for f in folder.iterdir()} == {
        "config.toml",
        "examples.npy",
        "metrics.json",
        "model.safetensors",
        "model.onnx",
        "plan.json",
    }
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert metrics["split"] == "test"
    assert metrics["noise"]["of"] == 11 * 30
    assert metrics["accuracy"] == metrics["correct"] / 30 == metrics["noise"]["correct"][0] / 30
    assert metrics["weights"]["nonzero"] < metrics["weights"]["total"]
    assert metrics["seconds"]["batch1"] > 0
    assert metrics["file_bytes"] == (folder / "model.onnx").stat().st_size
    assert metrics["engine"]["threads"] == 1
    assert all(metrics["engine"]["seconds"][batch] > 0 for batch in ("batch1", "batch64"))
    assert [e["epoch"] for e in metrics["history"]] == [1]
    assert tomllib.loads((folder / "config.toml").read_text())["settings"]["hidden"] == 16
    assert load_recipe(folder).network(3, (1, 12, 12))[1].counts() == trained.sparsifier.counts()


def test_a_loaded_network_gives_the_same_outputs(finished, toy):
    trained, folder, _ = finished
    model, classes, shape = load_network(folder)
    assert (classes, shape) == (("0", "1", "2"), (1, 12, 12))
    x = torch.from_numpy(toy.features(toy.test.x))
    assert not model.training
    trained.model.eval()
    with torch.no_grad():
        # Not bit for bit: the trained one keeps its channels innermost.
        torch.testing.assert_close(model(x), trained.model(x))
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


BROKEN = [
    ("config.toml", b"task = ", "damaged"),
    ("config.toml", b"\xff\xfe", "damaged"),
    ("config.toml", b'task = "toy"\n', "damaged"),
    ("config.toml", b'task = "toy"\nmodel = 3\n[settings]\n', "damaged"),
    ("config.toml", b'task = "toy"\nmodel = "speech_cnn"\nsettings = 3\n', "damaged"),
    ("config.toml", None, "not a run directory"),
    ("model.safetensors", b"", "damaged"),
    ("model.safetensors", b"\x10" * 99, "damaged"),
    ("model.safetensors", None, "no file"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_broken_run(run, name, content, message):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_network(run)
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_or_of_a_checkpoint(run, toy, tmp_path):
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("hidden = 16", "hidden = 17"))
    with pytest.raises(UserError, match=r"model.safetensors does not fit .*config.toml"):
        load_network(run)
    checkpoint = tmp_path / "c.safetensors"
    train(layer_recipe(), toy, checkpoint=checkpoint)
    shutil.copy(checkpoint, run / "model.safetensors")
    with pytest.raises(UserError, match="not the network of a run"):
        load_network(run)


def test_missing_and_unusable_folders(finished, tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        load_network(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot write the folder"):
            finished[0].save(folder)


def test_no_epochs_prune_at_once(toy, finished, tmp_path):
    """The largest weights of the run that it begins with stay as they are."""
    _, folder, _ = finished
    before, _, _ = load_network(folder)
    settings = {
        **SMALL,
        "weight_density.linear1": 0.1,
        "rule": "one_shot",
        "pattern": "unstructured",
        "init": str(folder),
    }
    trained = train(Recipe("toy", "speech_cnn", {**settings, "epochs": 0}), toy)
    name = "linear1.weight"
    was, now = before.state_dict()[name], trained.model.state_dict()[name]
    kept = now != 0
    assert kept.sum() == round(0.1 * was.numel())
    assert torch.equal(now[kept], was[kept])
    # Beside them only what is the largest of a unit that would have no input.
    small = kept & (was.abs() < was[~kept].abs().max())
    largest = was.abs() == was.abs().amax(dim=1, keepdim=True)
    assert largest[small].all()
    assert trained.history.epochs == []


def test_winners_take_the_place_of_any_activation(toy):
    recipe = Recipe("toy", f"{__file__}:own_network", {"winners": 0.25})
    model, sparsifier = recipe.network(3, (1, 12, 12))
    assert sparsifier is None or not sparsifier.masked
    assert [type(m).__name__ for m in model] == ["Flatten", "Linear", "KWinners", "Linear"]
    assert model[2].density == 0.25
    with pytest.raises(UserError, match="winners"):
        Recipe("toy", "speech_cnn", {"winners": 0.0})


def test_winners_of_single_activations(toy):
    """One by its name, the others as all."""
    sizes = {"channels": [4, 4], "hidden": 16}

    def densities(**settings):
        model, _ = Recipe("toy", "speech_cnn", {**sizes, **settings}).network(3, (1, 32, 32))
        parts = {name: model.get_submodule(name) for name in ("act1", "act2", "act_linear1")}
        return {name: getattr(part, "density", 1.0) for name, part in parts.items()}

    alone = densities(**{"winners.act_linear1": 0.25})
    assert alone == {"act1": 1.0, "act2": 1.0, "act_linear1": 0.25}
    beside = densities(winners=0.5, **{"winners.act2": 0.25, "winners.act1": 1.0})
    assert beside == {"act1": 1.0, "act2": 0.25, "act_linear1": 0.5}
    with pytest.raises(UserError, match="no activation 'act9'"):
        densities(**{"winners.act9": 0.5})


def test_units_are_rearranged_before_they_are_pruned_to_blocks(toy, tmp_path):
    """The network computes what it did; its blocks keep more magnitude than without."""
    name = f"{__file__}:two_layers"
    dense = Recipe("toy", name, {"epochs": 1, "batch_size": 60})
    trained = train(dense, toy)
    trained.save(tmp_path / "dense")
    settings = {"init": str(tmp_path / "dense"), "rule": "one_shot", "pattern": "block4"}

    x = torch.from_numpy(toy.features(toy.test.x))
    model = copy.deepcopy(trained.model).eval()
    rearranged(model, {"rearrange": True, "pattern": "block4", "weight_density": 0.25})
    assert not torch.equal(model[1].weight, trained.model[1].weight)
    torch.testing.assert_close(model(x), trained.model.eval()(x))

    def left(rearrange):
        named = {**settings, "weight_density": 0.25, "rearrange": rearrange}
        return Recipe("toy", name, named).network(3, (1, 12, 12))[0][1].weight.abs().sum()

    assert left(True) > 1.02 * left(False)
    single = Recipe("toy", name, {**settings, "weight_density": 0.25, "pattern": "unstructured"})
    moved = Recipe("toy", name, {**single.settings, "rearrange": True})
    weights = [r.network(3, (1, 12, 12))[0][1].weight for r in (single, moved)]
    assert torch.equal(*weights)


def two_layers():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def own_network():
    """Takes neither classes nor an input shape."""
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 3))


def test_a_task_in_code_is_not_run_unasked(run):
    config = run / "config.toml"
    config.write_text(config.read_text().replace('task = "toy"', 'task = "evil.py:data"'))
    with pytest.raises(UserError, match=r"the task of .* is Python code, evil.py:data"):
        load_recipe(run)
    assert load_recipe(run, trust=True).task == "evil.py:data"
