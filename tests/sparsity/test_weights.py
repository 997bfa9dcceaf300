"""Weights of every kind of layer: recurrent ones, attention, transposed convolutions."""

import copy

import onnx
import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

import gossamer as gs
from gossamer import nn as gnn
from gossamer.errors import UserError
from gossamer.sparsity import (
    ERK,
    NM,
    Block,
    Global,
    PerLayer,
    Unstructured,
    choose_weights,
    sparsifiable_weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.rnn = kind(8, 16, batch_first=True, **options)
        self.output = nn.Linear(self.rnn(torch.ones(1, 1, 8))[0].shape[-1], 8)

    def forward(self, x):
        return self.output(self.rnn(x)[0])


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.output = nn.Linear(8, 8)

    def forward(self, x):
        width = self.attention.kdim
        return self.output(self.attention(x, x[..., :width], x[..., :width])[0])


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 16)
        self.output = nn.Linear(16, 8)

    def forward(self, x):
        return self.output(self.cell(x[:, 0]))


def upward(groups):
    return lambda: nn.Sequential(
        nn.ConvTranspose1d(8, 16, 3, groups=groups), nn.ReLU(), nn.Conv1d(16, 8, 1)
    )


# Network, names of its weights, shape of an input.
NETWORKS = {
    "lstm": (Recurrent, ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "output"], (3, 5, 8)),
    "gru": (
        lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True),
        [f"rnn.weight_{w}_l{n}{r}" for n in "01" for r in ("", "_reverse") for w in ("ih", "hh")]
        + ["output"],
        (3, 5, 8),
    ),
    "projected": (
        lambda: Recurrent(nn.LSTM, proj_size=8),
        ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_hr_l0", "output"],
        (3, 5, 8),
    ),
    "cell": (Cell, ["cell.weight_ih", "cell.weight_hh", "output"], (3, 5, 8)),
    "attention": (
        Attention,
        ["attention.in_proj_weight", "attention.out_proj", "output"],
        (3, 5, 8),
    ),
    "keys of their own": (
        lambda: Attention(kdim=4, vdim=4),
        [f"attention.{p}_proj_weight" for p in "qkv"] + ["attention.out_proj", "output"],
        (3, 5, 8),
    ),
    "transposed": (upward(1), ["0", "2"], (3, 8, 5)),
    "transposed groups": (upward(2), ["0", "2"], (3, 8, 5)),
}


def made(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name][0]()


def train(model, sparsifier, optimizer, shape, steps):
    for step in steps:
        optimizer.zero_grad()
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()
        sparsifier.step(optimizer)


@pytest.mark.parametrize("pattern", [Unstructured(), Block(8), NM(2, 4)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_every_layer_train_sparse(name, pattern):
    """Counts exact, zeros exact, masks by output unit; saved and resumed bit for bit."""
    _, names, shape = NETWORKS[name]
    density = 0.5 if isinstance(pattern, NM) else 0.4

    def fresh(seed):
        model = made(name)
        options = {"rule": gs.RigL(interval=1, fraction=0.6), "total_steps": 12, "seed": seed}
        sparsifier = fixed(model, density, pattern=pattern, include=["first", "last"],
                                **options)  # fmt: skip
        return model, sparsifier, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    model, sparsifier, optimizer = fresh(0)
    assert list(sparsifier.masks) == list(sparsifiable_weights(model)) == names
    first = {n: mask.clone() for n, mask in sparsifier.masks.items()}
    train(model, sparsifier, optimizer, shape, range(6))
    saved = copy.deepcopy([thing.state_dict() for thing in (model, sparsifier, optimizer)])
    train(model, sparsifier, optimizer, shape, range(6, 12))
    assert any(not torch.equal(first[n], mask) for n, mask in sparsifier.masks.items())
    total = sum(mask.numel() for mask in first.values())
    kept = sum(kept for kept, _ in sparsifier.counts().values())
    assert kept == pytest.approx(density * total, abs=8)
    for n, mask in sparsifier.masks.items():
        weight = sparsifier.weights[n]
        assert mask.shape == weight.parameter.shape
        assert not weight.parameter[~mask].any()
        rows = weight.by_output(mask)
        assert rows.flatten(1).any(dim=1).all(), "every output unit keeps an input"
        assert torch.equal(weight.as_stored(rows), mask)
        if isinstance(pattern, Block):
            blocks = rows.reshape(len(rows) // 8, 8, -1)
            assert (blocks == blocks[:, :1]).all()
    other, its, own = fresh(1)
    for thing, state in zip((other, its, own), saved, strict=True):
        thing.load_state_dict(state)
    train(other, its, own, shape, range(6, 12))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_outputs_of_a_transposed_convolution_are_its_units():
    layer = nn.ConvTranspose2d(6, 4, 3, groups=2)
    weight = sparsifiable_weights(nn.Sequential(layer))["0"]
    rows = weight.by_output(layer.weight)
    assert rows.shape == (4, 3, 3, 3)
    x = torch.zeros(1, 6, 1, 1)
    for channel in range(6):  # an impulse at each input shows its weights to each output
        x.zero_()[0, channel] = 1.0
        y = layer(x)[0] - layer.bias.view(-1, 1, 1)
        for output in range(4):
            same = output // 2 == channel // 3
            expected = rows[output, channel % 3] if same else torch.zeros(3, 3)
            torch.testing.assert_close(y[output], expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_pruning_rescales_nothing_and_keeps_the_largest(name):
    model = made(name)
    before = copy.deepcopy(model.state_dict())
    sparsifier = gs.prune(model, 0.3)
    for n, mask in sparsifier.masks.items():
        parameter = sparsifier.weights[n].parameter
        key = next(k for k, p in model.named_parameters() if p is parameter)
        assert torch.equal(parameter, torch.where(mask, before[key], 0.0))
        assert before[key][mask].abs().mean() > before[key][~mask].abs().mean()
    calibrated = made(name)
    gs.prune(calibrated, 0.3, calibration=[torch.randn(NETWORKS[name][2])])
    assert isinstance(sparsifier.allocation, Global)


def test_names_exclude_and_allocate():
    lstm = made("lstm")
    assert list(choose_weights(lstm, exclude=["rnn"])) == ["output"]
    assert list(choose_weights(lstm, exclude=["*hh*"])) == ["rnn.weight_ih_l0", "output"]
    named = fixed(lstm, 0.5, allocation=PerLayer({"rnn.weight_hh_l0": 0.25}))
    assert named.counts()["rnn.weight_hh_l0"] == (16 * 16, 64 * 16)
    erk = fixed(made("lstm"), 0.4, pattern=Unstructured(), allocation=ERK()).densities
    # In proportion to the sum of the sides over their product.
    ratio = (64 + 8) / (64 * 8) / ((64 + 16) / (64 * 16))
    assert erk["rnn.weight_ih_l0"] / erk["rnn.weight_hh_l0"] == pytest.approx(ratio, rel=0.01)
    with pytest.raises(UserError, match=r"did you mean 'rnn\.weight_hh_l0'"):
        choose_weights(lstm, exclude=["rnn.weight_hh_l1"])


def test_depthwise_and_frozen_weights_stay_dense():
    model = nn.Sequential(nn.ConvTranspose1d(8, 8, 3, groups=8), nn.Conv1d(8, 8, 1))
    assert list(choose_weights(model)) == ["1"]
    lstm = made("lstm")
    lstm.rnn.weight_hh_l0.requires_grad_(False)
    assert list(choose_weights(lstm)) == ["rnn.weight_ih_l0", "output"]


def test_parametrized_attention_is_refused():
    model = made("attention")
    nn.utils.parametrizations.weight_norm(model.attention, "in_proj_weight")
    with pytest.raises(UserError, match="in_proj_weight': its weight is computed"):
        choose_weights(model)


class Own(nn.Module):
    """A layer that computes with a parameter of its own."""

    def __init__(self, inputs, outputs, name="weight"):
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.ones(inputs, outputs)))


def test_what_stays_dense_is_listed_with_its_share():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 30), nn.Linear(30, 10))
    sparsifier = fixed(model, 0.5, exclude=["2"])
    assert sparsifier.summary() == (
        "1: 120 of 240 weights\n"
        "0.weight: dense, 12.9% of all weights\n"
        "2.weight: dense, 48.4% of all weights"
    )
    with pytest.warns(UserWarning, match=r"'1.weight' \(67%\) of the model's weights stay dense"):
        fixed(nn.Sequential(nn.Linear(8, 4), Own(8, 8)), 0.5)
    listed = nn.ParameterList([nn.Parameter(torch.ones(8, 8))])
    with pytest.warns(UserWarning, match=r"'1.0' \(67%\) of the model's weights stay dense"):
        fixed(nn.Sequential(nn.Linear(8, 4), listed), 0.5)


@pytest.mark.parametrize("name", ["kernel", "W", "codebook"])
def test_weights_of_any_name_do_not_stay_dense_silently(name):
    model = nn.Sequential(nn.Linear(8, 4), Own(8, 8, name))
    with pytest.warns(UserWarning, match=rf"'1.{name}' \(67%\) of the model's weights stay dense"):
        fixed(model, 0.5)


def test_tables_of_positions_are_no_weights(recwarn):
    fixed(nn.Sequential(nn.Linear(8, 4), Own(8, 8, "position"), Own(8, 8, "pos_embed")), 0.5)
    assert not list(recwarn)


def test_acceleration_leaves_weights_of_other_layers_as_they_are():
    model = made("lstm")
    sparsifier = fixed(model, 0.25, total_steps=20)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    accelerator = gs.accelerate_sparse(model, sparsifier, optimizer, layers=["output"])
    train(model, sparsifier, optimizer, (3, 5, 8), range(4))
    assert sparsifier.packed == {"output"}
    accelerator.close()
    for n, mask in sparsifier.masks.items():
        assert not sparsifier.weights[n].parameter[~mask].any()
    with pytest.raises(UserError, match=r"layer 'rnn\.weight_hh_l0' has no kernel"):
        gs.accelerate_sparse(model, sparsifier, optimizer, layers=["rnn.weight_hh_l0"])


def test_zeros_of_transposed_convolutions_are_exported():
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 6, 3, groups=2))
    sparsifier = fixed(model, 0.25, pattern=Unstructured())
    x = torch.randn(2, 4, 9)
    proto = gnn.to_onnx(model, x)
    found = sorted(
        int((onnx.numpy_helper.to_array(t) != 0).sum())
        for t in proto.graph.initializer
        if len(t.dims) == 3
    )
    assert found == sorted(kept for kept, _ in sparsifier.counts().values())
