"""The reference networks: exact weight counts, shapes, and models found by name."""

import re

import pytest
import torch
from torch import nn

from gossamer.errors import UserError
from gossamer.models import MODELS, image_cnn, reference, speech_cnn
from gossamer.nn import KWinners, KWinners2d
from gossamer.sparsity import sparsifiable_layers
from gossamer.training import Recipe

INPUTS = {"speech": ("speech_commands", 12, (1, 32, 32)), "image": ("mnist", 10, (1, 28, 28))}
CONVNETS = [name for name in MODELS if name.partition("_")[0] in INPUTS]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [layer.weight for layer in sparsifiable_layers(model).values()]


def total(model: nn.Module) -> int:
    return sum(weight.numel() for weight in weights(model))


def nonzero(model: nn.Module) -> int:
    return sum(int(weight.count_nonzero()) for weight in weights(model))


def made(name: str, **settings):
    task, classes, shape = INPUTS[name.partition("_")[0]]
    return Recipe(task, name, settings).network(classes, shape)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (speech_cnn, 1_716_000),
        (lambda: speech_cnn(hidden=1500), 2_522_000),
        # 25 * 30 + 25 * 30 * 30 + 30 * 4 * 4 * 1000 + 1000 * 10
        (image_cnn, 513_250),
        (lambda: image_cnn(channels=(32, 64), hidden=700), 775_800),
        # 25 * 30 + 30 * 12 * 12 * 150 + 150 * 10
        (lambda: image_cnn(channels=(30,), hidden=150, activation_density=(1, 1)), 650_250),
    ],
)
def test_dense_weight_counts(build, expected):
    assert total(build()) == expected


@pytest.mark.parametrize(
    ("name", "total_weights", "nonzero_weights"),
    [
        ("speech_cnn", 1_716_000, 1_716_000),
        # 64*12 + 64*320 + 1000*160 + 12*1000
        ("speech_cnn_sparse", 1_716_000, 193_248),
        # 64*12 + 64*320 + 1500*80 + 12*1500
        ("speech_cnn_super_sparse", 2_522_000, 159_248),
        ("image_cnn", 513_250, 513_250),
        # 800 + 51,200 + 700*307 + 7,000
        ("image_cnn_sparse", 775_800, 273_900),
    ],
)
def test_weights_of_the_references(name, total_weights, nonzero_weights):
    model, sparsifier = made(name)
    assert total(model) == total_weights
    assert nonzero(model) == nonzero_weights
    assert (sparsifier is None) is (total_weights == nonzero_weights)
    if sparsifier is not None:
        assert sum(kept for kept, _ in sparsifier.counts().values()) == nonzero_weights
    stated = re.search(r"([\d,]+) (?:non-zero )?weights", MODELS[name].summary.split(" of ")[0])
    assert stated is not None
    assert int(stated[1].replace(",", "")) == nonzero_weights, "the summary states the count"


def published_speech_network(hidden: int, density: float, winners: int) -> nn.Module:
    """Table 3 of arXiv 1903.11257: convolutions and output layer dense."""
    settings = {
        "hidden": hidden,
        "weight_density.conv1": 1.0,
        "weight_density.conv2": 1.0,
        "weight_density.linear1": density,
        "activation_density": (0.095, 0.125, winners / hidden),
    }
    return made("speech_cnn_sparse", **settings)[0]


@pytest.mark.parametrize(
    ("hidden", "density", "winners", "expected"),
    [
        # 64*25 + 64*1600 + 1000*640 + 12*1000
        (1000, 0.4, 100, 756_000),
        # 64*25 + 64*1600 + 1500*160 + 12*1500
        (1500, 0.1, 100, 362_000),
    ],
)
def test_weights_of_the_networks_whose_accuracies_were_published(
    hidden, density, winners, expected
):
    assert nonzero(published_speech_network(hidden, density, winners)) == expected


def test_the_published_image_networks_have_no_norms():
    for name in ("image_cnn", "image_cnn_sparse"):
        model = made(name)[0]
        assert not any("norm" in child for child, _ in model.named_children())
        assert all(model.get_submodule(layer).bias is not None for layer in ("conv1", "linear1"))
    kinds = [type(m) for m in image_cnn(norm=True).children()]
    assert (kinds.count(nn.BatchNorm2d), kinds.count(nn.BatchNorm1d)) == (2, 1)


def test_one_and_a_half_times_the_winners_at_inference():
    model = made("image_cnn_sparse")[0]
    x = torch.randn(3, 1, 28, 28)
    active = [
        (y != 0).flatten(1).sum(1).tolist() for y in (model.train()[:9](x), model.eval()[:9](x))
    ]
    # 14.3 % of 700 units; no more than that many can be active.
    assert active == [[100] * 3, [150] * 3]


@pytest.mark.parametrize("name", CONVNETS)
def test_forward_shapes_and_winners_only_where_sparse(name):
    model, _ = made(name)
    _, classes, shape = INPUTS[name.partition("_")[0]]
    for mode in (True, False):
        assert model.train(mode)(torch.randn(2, *shape)).shape == (2, classes)
    kinds = [type(getattr(model, f"act{stage}")) for stage in ("1", "2", "_linear1")]
    sparse = name.endswith("sparse")
    assert kinds == ([KWinners2d, KWinners2d, KWinners] if sparse else [nn.ReLU] * 3)


def test_names_in_order():
    assert list(dict(speech_cnn().named_children())) == [
        *("conv1", "norm1", "pool1", "act1"),
        *("conv2", "norm2", "pool2", "act2"),
        *("flatten", "linear1", "norm_linear1", "act_linear1", "output"),
    ]


def test_each_stage_has_its_own_activation():
    model = speech_cnn(activation_density=(1.0, 0.125, 1.0), local=True, dropout=0.5)
    assert isinstance(model.act1, nn.ReLU)
    assert isinstance(model.act2, KWinners2d)
    assert (model.act2.local, model.act2.density) == (True, 0.125)
    assert isinstance(model.act_linear1, nn.ReLU)
    assert model.dropout.p == 0.5


def test_boosting_settings_arrive():
    settings = {"boost_strength": 1.25, "boost_decay": 0.75, "inference_factor": 1.5}
    model = image_cnn(activation_density=(0.1, 0.2, 0.3), **settings)
    for layer, density in ((model.act1, 0.1), (model.act2, 0.2), (model.act_linear1, 0.3)):
        assert layer.boost_strength.item() == 1.25
        assert (layer.boost_decay, layer.inference_factor) == (0.75, 1.5)
        assert layer.density == density


def test_activation_density_of_the_sparse_network():
    model, _ = made("speech_cnn_sparse")
    model.eval()
    active = {}
    for name in ("act1", "act2", "act_linear1"):
        layer = model.get_submodule(name)
        layer.register_forward_hook(
            lambda _, __, y, name=name: active.update({name: (y != 0).flatten(1).sum(1)})
        )
    model(torch.randn(2, 1, 32, 32))
    # 9.5 % of 64*14*14, 12.5 % of 64*5*5, 10 % of 1000.
    assert {name: count.tolist() for name, count in active.items()} == {
        "act1": [1192, 1192],
        "act2": [200, 200],
        "act_linear1": [100, 100],
    }


def test_same_seed_same_network():
    one, same, other = (made("image_cnn_sparse", seed=seed)[0] for seed in (1, 1, 2))
    state = same.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    assert not torch.equal(one.linear1.weight != 0, other.linear1.weight != 0)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 15, 32), (3, 32, 4)])
def test_too_small_an_input(shape):
    with pytest.raises(UserError, match=r"is too small for 2 convolutions") as caught:
        speech_cnn(input_shape=shape)
    assert str(shape) in str(caught.value)


def test_smallest_input_works():
    assert speech_cnn(input_shape=(1, 16, 16)).eval()(torch.zeros(1, 1, 16, 16)).shape == (1, 12)


def test_wrong_number_of_densities():
    with pytest.raises(UserError, match=r"activation_density needs one value, or 3, .*; not 2"):
        image_cnn(activation_density=(0.1, 0.1))


def test_density_out_of_range():
    with pytest.raises(UserError, match=r"density must be above 0 and at most 1, not 1\.5"):
        image_cnn(activation_density=(1.5, 1.0, 1.0))


# ---------------------------------------------------------------- by name

OWN = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    hidden: int = 3

def build(*, classes, input_shape, hidden=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], Sizes(hidden).hidden))

number = 3
"""


def test_reference_by_name():
    for name, entry in MODELS.items():
        assert reference(name) is entry


def test_own_model_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    found = reference(f"{path}:build")
    assert found.build(classes=2, input_shape=(4,), hidden=5)[1].weight.shape == (5, 4)
    assert found.summary == f"build of {path}"
    assert not found.settings


def test_own_model_of_a_module():
    assert reference("gossamer.models.convnet:image_cnn").build is image_cnn


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speech_cn", r"unknown model 'speech_cn': did you mean 'speech_cnn'\?.*file.py:function"),
        (":build", "unknown model ':build'"),
        ("{}/missing.py", r"names a Python file; name a function in it: .*missing\.py:FUNCTION"),
        ("{}/net.onnx", r"net\.onnx is no network that can be trained: .*file\.py:function"),
        ("{}/missing.py:build", "no file .*missing.py"),
        ("{}/mine.py:biuld", r"has no function 'biuld': did you mean 'build'\?"),
        ("{}/mine.py:number", "has no function 'number'"),
        ("{}/broken.py:build", r"invalid syntax \(broken.py, line 1\)"),
        ("no_such_package_here:build", "No module named 'no_such_package_here'"),
    ],
)
def test_bad_names(tmp_path, name, message):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def def\n")
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UserError, match=message) as caught:
        reference(name.format(tmp_path))
    assert "\n" not in str(caught.value)
