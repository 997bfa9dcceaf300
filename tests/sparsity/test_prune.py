"""One-shot pruning and the rearrangement of outputs."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import gossamer as gs
from gossamer.errors import UserError
from gossamer.models import image_cnn
from gossamer.sparsity import FanIn, Uniform, rearrange
from gossamer.sparsity.rearrange import chains


def trained(seed: int = 0) -> nn.Sequential:
    """Weights of unequal size and batch norms with statistics, as training leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.BatchNorm1d(64),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            gs.KWinners(32, 0.5),
            nn.Linear(32, 8),
        )
        for _ in range(20):
            model(torch.randn(32, 2, 6, 6) * 2 + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(torch.randn_like(parameter).exp())
    return model.eval()


def example(number: int = 16) -> torch.Tensor:
    return torch.randn(number, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 + 1


# ---------------------------------------------------------------- pruning


def test_prune_keeps_the_largest_of_the_whole_network():
    model = trained()
    before = copy.deepcopy(model)
    sparsifier = gs.prune(model, 0.2)
    total = sum(mask.numel() for mask in sparsifier.masks.values())
    assert sum(kept for kept, _ in sparsifier.counts().values()) == round(0.2 * total)
    kept, gone = [], []
    for name, mask in sparsifier.masks.items():
        old, new = before.get_submodule(name).weight, model.get_submodule(name).weight
        assert torch.equal(new, old * mask), "kept weights as they were"
        best = torch.zeros_like(mask.flatten(1)).scatter_(
            1, old.abs().flatten(1).argmax(1, keepdim=True), True
        )
        kept.append(old[mask & ~best.view(mask.shape)].abs())
        gone.append(old[~mask].abs())
    assert torch.cat(kept).min() >= torch.cat(gone).max()


def test_pruned_networks_are_tuned_with_their_masks():
    model = trained().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    sparsifier = gs.prune(model, 0.2, allocation=Uniform(), pattern=gs.Block(8)).attach(optimizer)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    for _ in range(5):
        optimizer.zero_grad()
        model(example()).square().mean().backward()
        optimizer.step()
    for name, mask in masks.items():
        assert torch.equal(sparsifier.masks[name], mask)
        assert not model.get_submodule(name).weight[~mask].any()


def test_frozen_networks_are_pruned_too():
    model = trained().requires_grad_(False)
    assert list(gs.prune(model, 0.5, exclude=["last"]).masks) == ["0", "6"]


def test_calibration_weighs_by_the_inputs_by_hand():
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    # Root mean squares 8, 1, 1, 0: worth 8, 2, 3, 0.
    x = torch.tensor([[8.0, 1.0, 1.0, 0.0], [-8.0, 1.0, -1.0, 0.0]])
    gs.prune(model, 0.5, calibration=[x])
    assert model[0].weight.tolist() == [[1.0, 0.0, 3.0, 0.0]]


def test_calibration_of_grouped_convolutions():
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2, bias=False))
    nn.init.ones_(model[0].weight)
    x = torch.ones(1, 4, 2, 2) * torch.tensor([1.0, 2.0, 4.0, 3.0]).view(1, 4, 1, 1)
    gs.prune(model, 0.5, pattern=FanIn(), allocation=Uniform(), calibration=[x])
    assert model[0].weight.flatten(1).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_a_model_that_fails_on_the_calibration_without_a_message():
    class Silent(nn.Linear):
        def forward(self, x):
            raise RuntimeError

    with pytest.raises(UserError, match=r"calibration batch \[2, 4\] .*\(RuntimeError\)"):
        gs.prune(nn.Sequential(Silent(4, 4)), 0.5, calibration=[torch.ones(2, 4)])


def test_calibration_renews_batch_norms_and_puts_modes_back():
    model = trained().train()
    model[3].eval()
    momentum = model[1].momentum
    batches = [example(64)]
    gs.prune(model, 0.3, calibration=batches)
    assert model[1].momentum == momentum
    assert model.training
    assert not model[3].training
    out = model[0](batches[0])
    torch.testing.assert_close(model[1].running_mean, out.mean((0, 2, 3)))
    hidden = model[:4].eval()(batches[0]).flatten(1)
    torch.testing.assert_close(model[5].running_mean, hidden.mean(0), rtol=0.2, atol=0.2)


def test_a_model_that_fails_while_batch_norms_are_renewed_does_not_change():
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model(torch.randn(16, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(9, 8)
    with pytest.raises(UserError, match=r"calibration batch \[1, 8\] .*more than 1 value"):
        gs.prune(model, 0.5, calibration=x.split(8))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert model[1].momentum == 0.1
    gs.prune(model, 0.5, calibration=x.split(3))


def test_prune_mistakes():
    with pytest.raises(UserError, match="calibration holds no batch"):
        gs.prune(trained(), 0.5, calibration=[])
    with pytest.raises(UserError, match="leaves fewer weights than there are output units"):
        gs.prune(trained(), 0.001)
    with pytest.raises(UserError, match="2 inputs do not divide into groups of 4"):
        gs.prune(trained(), 0.5, pattern=gs.NM(2, 4), include=["first"])
    assert list(gs.prune(trained(), 0.5, pattern=gs.NM(2, 4)).masks) == ["6", "9"]


# ---------------------------------------------------------------- rearranging


def scrambled() -> nn.Sequential:
    """Units that fit into blocks of 8, mixed up."""
    model = trained()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in (model[0], model[6]):
            rows = layer.weight.flatten(1)
            blocks = torch.rand(len(rows) // 8, rows.shape[1], generator=generator) < 0.2
            factor = torch.where(blocks, 5.0, 0.1).repeat_interleave(8, dim=0)
            factor = factor[torch.randperm(len(rows), generator=generator)]
            layer.weight.copy_(layer.weight.sign() * factor.view(layer.weight.shape))
    return model


def test_rearranging_changes_no_output_and_keeps_more():
    model = scrambled()
    before, x = copy.deepcopy(model), example()
    gains = rearrange(model, 0.25, gs.Block(8))
    assert set(gains) == {"0", "6"}
    assert all(gain > 1.05 for gain in gains.values()), gains
    assert not torch.equal(model[0].weight, before[0].weight)
    torch.testing.assert_close(model(x), before(x), rtol=1e-4, atol=1e-4)
    # In training mode too: state goes along.
    torch.testing.assert_close(model.train()(x), before.train()(x), rtol=1e-3, atol=1e-3)
    error = [
        (functional.linear(x, w) - functional.linear(x, w * m)).norm()
        for w, m, x in (
            (net[6].weight, gs.Block(8).mask(net[6].weight.abs(), 512), torch.eye(64))
            for net in (before, model)
        )
    ]
    assert error[1] < error[0]


def test_rearranging_for_the_reference_networks():
    model = image_cnn(activation_density=(0.1, 0.3, 0.2), channels=(16, 16), hidden=32).eval()
    assert [(c.first, c.second) for c in chains(model)] == [
        ("conv1", "conv2"),
        ("conv2", "linear1"),
        ("linear1", "output"),
    ]
    before, x = copy.deepcopy(model), torch.randn(4, 1, 28, 28)
    assert rearrange(model, 0.1)
    torch.testing.assert_close(model(x), before(x), rtol=1e-4, atol=1e-4)


class Residual(nn.Module):
    """What may not be rearranged: a sum of two ways, a layer used twice, channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.conv, self.last = nn.Conv1d(8, 8, 1), nn.Linear(8, 8)

    def forward(self, x):
        x = torch.relu(self.a(x)) + x
        x = self.b(self.c(self.b(x)))
        return self.last(torch.relu(self.conv(x.unsqueeze(2).repeat(1, 1, 8))))


def test_what_may_not_be_rearranged_is_left():
    model = Residual()
    assert chains(model) == []
    assert rearrange(model, 0.25) == {}


class Dynamic(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.b(self.a(x)) if x.sum() > 0 else x


def test_chains_by_name_where_tracing_fails():
    model = Dynamic()
    with pytest.raises(UserError, match=r"cannot follow Dynamic .*pairs="):
        rearrange(model, 0.25)
    x = torch.ones(2, 4)
    before = model(x)
    assert rearrange(model, 0.25, pairs=[("a", "b")])["a"] > 1.0
    torch.testing.assert_close(model(x), before)
    for pairs, message in (
        ([("a", "c")], "no module 'c'"),
        ([("a",)], "must begin and end"),
        ([("b", "b")], "'b' does not read the outputs of 'b'"),
    ):
        with pytest.raises(UserError, match=message):
            rearrange(model, 0.25, pairs=pairs)


def test_a_good_order_stays():
    model = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2, 4).repeat_interleave(8, dim=0) + 0.01)
    before = model[0].weight.clone()
    assert rearrange(model, 0.25) == {}
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_not_pruned(number):
    """NaN has no magnitude: it would be removed as the least, and a broken network look sound."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[2].weight[1, 3] = number
    before = model[0].weight.clone()
    with pytest.raises(UserError, match="layer '2' are partly NaN or infinite"):
        gs.prune(model, 0.5)
    assert torch.equal(model[0].weight, before)


def test_weights_that_are_one_number_in_memory():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].weight = nn.Parameter(torch.randn(1, 8).expand(8, 8))
    with pytest.raises(UserError, match=r"layer '0': several .* one number in memory"):
        gs.prune(model, 0.5)
