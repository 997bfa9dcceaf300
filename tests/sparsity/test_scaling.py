"""SµPar: the exponents by hand, and a coordinate check over widths and densities."""

import math

import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

from gossamer.errors import UserError
from gossamer.models import mlp
from gossamer.sparsity import mu_parametrize, scale


def build(hidden: int, seed: int = 0, **given) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp(4, input_shape=(20,), hidden=hidden, layers=2, norm=False, **given)


@pytest.mark.parametrize(
    ("inputs", "outputs", "density", "init", "adam", "sgd"),
    [
        (1, 1, 1, 1.0, 1.0, 1.0),
        # A hidden layer 4 times as wide: a quarter of Adam's rate, SGD's stays.
        (4, 4, 1, 0.5, 0.25, 1.0),
        # The same width at a sixteenth of the weights.
        (1, 1, 1 / 16, 4.0, 16.0, 16.0),
        # Width and density cancel for Adam, as many non-zeros a unit as before.
        (4, 4, 1 / 4, 1.0, 1.0, 4.0),
        # First layer: the units grow alone. Last layer: the inputs do.
        (1, 4, 1, 1.0, 1.0, 4.0),
        (4, 1, 1, 0.25, 0.25, 0.25),
    ],
)
def test_exponents_by_hand(inputs, outputs, density, init, adam, sgd):
    assert scale(inputs, outputs, density).init == pytest.approx(init)
    assert scale(inputs, outputs, density, "adam").learning_rate == pytest.approx(adam)
    assert scale(inputs, outputs, density, "sgd").learning_rate == pytest.approx(sgd)


def test_factors_of_a_network_by_hand():
    model, base = build(64), build(16, seed=1)
    fixed(model, 0.25, exclude=["output"])
    found = {n: s.learning_rate for n, s in mu_parametrize(model, base).scales.items()}
    assert found == {
        "linear1.weight": 4.0,
        "linear1.bias": 1.0,
        "linear2.weight": 1.0,
        "linear2.bias": 1.0,
        "output.weight": 0.25,
        "output.bias": 1.0,
    }
    found = {
        n: s.learning_rate for n, s in mu_parametrize(model, base, optimizer="sgd").scales.items()
    }
    assert found == {
        "linear1.weight": 16.0,
        "linear1.bias": 4.0,
        "linear2.weight": 4.0,
        "linear2.bias": 4.0,
        "output.weight": 0.25,
        "output.bias": 1.0,
    }


@pytest.mark.parametrize("rescale", [True, False])
def test_weights_get_their_deviation_however_they_were_made(rescale):
    model, base = build(64), build(16, seed=1)
    sparsifier = fixed(model, 0.25, rescale=rescale)
    mu_parametrize(model, base)
    for name, factor in (("linear1", 2.0), ("linear2", 1.0), ("output", 0.5)):
        weight, mask = model.get_submodule(name).weight, sparsifier.masks[name]
        rms = weight[mask].square().mean().sqrt()
        wanted = base.get_submodule(name).weight.square().mean().sqrt() * factor
        torch.testing.assert_close(rms, wanted)
        assert (weight[~mask] == 0).all(), "zeros stay zeros"


def test_a_base_beside_itself_changes_nothing():
    model, base = build(16), build(16)
    before = {name: p.clone() for name, p in model.named_parameters()}
    scaling = mu_parametrize(model, base)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name])
    assert {s.learning_rate for s in scaling.scales.values()} == {1.0}


def test_densities_may_be_named_where_masks_still_change():
    model, base = build(16), build(16)
    assert mu_parametrize(model, base, density=0.125).scales["linear2.weight"].learning_rate == 8.0
    scales = mu_parametrize(model, base, density={"linear1": 0.5}).scales
    assert scales["linear1.weight"].learning_rate == 2.0
    assert scales["linear2.weight"].learning_rate == 1.0
    assert scales["linear1.weight"].init == pytest.approx(2**0.5)
    torch.testing.assert_close(model.linear1.weight, base.linear1.weight), "dense as yet"


def test_groups_hold_every_parameter_once_with_its_rate():
    model, base = build(64), build(16)
    model.linear1.bias.requires_grad_(False)
    groups = mu_parametrize(model, base).groups(0.1, weight_decay=0.01)
    optimizer = torch.optim.AdamW(groups)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.1 * group["lr_scale"])
        assert group["weight_decay"] == (0.01 if group["params"][0].dim() > 1 else 0.0)


def test_schedulers_of_torch_keep_the_ratios():
    optimizer = torch.optim.SGD(mu_parametrize(build(64), build(16)).groups(0.1))
    ratios = [group["lr"] / group["lr_scale"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    optimizer.step()
    scheduler.step()
    after = [group["lr"] / group["lr_scale"] for group in optimizer.param_groups]
    assert len({round(r, 9) for r in ratios}) == len({round(r, 9) for r in after}) == 1
    assert after[0] < ratios[0]


class Tables(nn.Module):
    """An embedding, a position table and a depthwise convolution: units without inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(9, width)
        self.position = nn.Parameter(torch.randn(1, 5, width))
        self.depthwise = nn.Conv1d(width, width, 3, groups=width)


def test_tables_and_depthwise_layers_have_no_inputs_to_scale_by():
    scales = mu_parametrize(Tables(32), Tables(8), optimizer="sgd").scales
    found = {name: (s.inputs, s.outputs) for name, s in scales.items()}
    assert found == dict.fromkeys(found, (1.0, 4.0))


# ---------------------------------------------------------------- coordinate check


def sizes(hidden: int, density: float, scaled: bool, optimizer: str) -> dict[str, float]:
    """Size of each layer's output before training, and of its change in a few steps."""
    model, base = build(hidden), build(64, seed=1)
    # Independent inputs do not add up in one direction, as hidden units do: the first is dense.
    exclude = ["linear1", "output"]
    sparsifier = fixed(model, density, exclude=exclude, rescale=scaled)
    rate = 0.003 if optimizer == "adam" else 0.2
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    groups = (
        mu_parametrize(model, base, optimizer=optimizer).groups(rate)
        if scaled
        else model.parameters()
    )
    sparsifier.attach(steps := kind(groups, lr=rate))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(256, 20, generator=generator)
    y = x[:, :4].argmax(dim=1)
    outputs: dict[str, torch.Tensor] = {}
    for name in ("linear1", "linear2", "output"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: outputs.update({name: out.detach().clone()})
        )
    model(x)
    first = dict(outputs)
    for _ in range(5):
        steps.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        steps.step()
    model(x)
    rms = {f"{n} at first": float(v.square().mean().sqrt()) for n, v in first.items()}
    return rms | {
        f"{n} change": float((outputs[n] - first[n]).square().mean().sqrt()) for n in first
    }


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_activations_and_updates_keep_their_size(optimizer):
    """Within a factor of 2 over 16 times the width and a 16th of the weights.

    But for the logits at the start, which vanish with the width as they should.
    """
    base = sizes(64, 1.0, True, optimizer)
    for hidden, density in ((256, 1.0), (1024, 1.0), (256, 1 / 8), (1024, 1 / 8), (1024, 1 / 16)):
        for name, size in sizes(hidden, density, True, optimizer).items():
            if name == "output at first":
                assert size < 1.5 * base[name]
            else:
                assert 0.5 < size / base[name] < 2.0, (hidden, density, name)


def test_without_scaling_they_do_not():
    base = sizes(64, 1.0, False, "adam")
    wide, sparse = sizes(1024, 1.0, False, "adam"), sizes(64, 1 / 8, False, "adam")
    assert wide["output change"] / base["output change"] > 4.0
    assert sparse["linear2 change"] / base["linear2 change"] < 0.25


# ---------------------------------------------------------------- mistakes


def test_mistakes_name_the_remedy():
    with pytest.raises(UserError, match=r"'linear3\.weight' has no counterpart"):
        mu_parametrize(mlp(4, input_shape=(20,), layers=3), mlp(4, input_shape=(20,), layers=2))
    with pytest.raises(UserError, match="no optimizer 'adma': did you mean 'adam'"):
        mu_parametrize(build(16), build(16), optimizer="adma")
    with pytest.raises(UserError, match="no sparsifiable layer 'linaer1': did you mean 'linear1'"):
        mu_parametrize(build(16), build(16), density={"linaer1": 0.5})
    with pytest.raises(UserError, match="density must be above 0"):
        mu_parametrize(build(16), build(16), density=math.nan)
    tied = nn.ModuleDict({"table": nn.Embedding(8, 4), "output": nn.Linear(4, 8, bias=False)})
    tied["output"].weight = tied["table"].weight
    with pytest.raises(UserError, match=r"'output' and 'table' share their weights.*untie"):
        mu_parametrize(tied, tied)


def test_an_error_leaves_the_model_as_it_was():
    model = build(64)
    before = model.linear1.weight.clone()
    with pytest.raises(UserError):
        mu_parametrize(model, mlp(4, input_shape=(20,), layers=1))
    assert torch.equal(model.linear1.weight, before)
