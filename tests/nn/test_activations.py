"""k-winners in place of the activations of networks that others wrote."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

import gossamer as gs
from gossamer.errors import UserError
from gossamer.nn import (
    KWinners,
    KWinners2d,
    SparseActivation,
    Threshold,
    sparsify_activations,
    to_onnx,
)
from gossamer.training import count

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def kinds(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {
        name: type(m)
        for name, m in model.named_modules()
        if isinstance(m, KWinners | KWinners2d | Threshold | SparseActivation)
    }


def winners(model: nn.Module, x: torch.Tensor) -> dict[str, set[int]]:
    """How many units are active among those that compete, after each k-winners layer."""
    found: dict[str, set[int]] = {}

    def note(name, layer):
        def hook(_, __, y):
            groups = y.flatten(0, -2) if isinstance(layer, KWinners) else y.flatten(1)
            found[name] = set(groups.count_nonzero(1).tolist())

        return layer.register_forward_hook(hook)

    hooks = [
        note(name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, KWinners | KWinners2d)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


class Plain(nn.Module):
    """Modules, each used once."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.act1 = nn.ReLU(inplace=True)
        self.linear = nn.Linear(6 * 36, 20)
        self.act2 = nn.GELU()
        self.output = nn.Linear(20, 4)

    def forward(self, x):
        x = self.act1(self.conv(x))
        return self.output(self.act2(self.linear(x.flatten(1))))


class Functional(Plain):
    """The same with functions."""

    def forward(self, x):
        x = functional.relu(self.conv(x))
        return self.output(functional.gelu(self.linear(x.flatten(1))))


class Block(nn.Module):
    """One ReLU at two places with different units, as in many residual networks."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.conv1(x))
        return self.relu(self.norm(self.conv2(y)) + x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.blocks = nn.Sequential(Block(), Block())
        self.output = nn.Linear(3, 4)

    def forward(self, x):
        x = self.blocks(torch.relu(self.stem(x)))
        return self.output(x.mean(dim=(2, 3)))


# ---------------------------------------------------------------- where they go


def test_modules_are_replaced_in_place():
    model = Plain()
    assert sparsify_activations(model, 0.25, example=IMAGES[:1]) is model
    assert kinds(model) == {
        "act1": KWinners2d,
        "act2": SparseActivation,
        "act2.winners": KWinners,
    }
    assert model.act1.units == 6
    found = winners(model.eval(), IMAGES)
    assert all(count <= 0.25 * 6 * 36 for count in found["act1"])
    assert found["act2.winners"] == {5}


def test_hooks_stay_where_activations_are_replaced():
    model = Residual()
    seen = []

    def note(name, before=False):
        module = model.get_submodule(name)
        if before:
            return module.register_forward_pre_hook(lambda m, x: seen.append(f"{name} before"))
        return module.register_forward_hook(lambda m, x, k, y: seen.append(name), with_kwargs=True)

    note("")
    note("blocks.0")
    removed = note("blocks.1")
    note("blocks.0.relu", before=True)
    plain = Plain()
    outputs = []
    plain.act2.register_forward_hook(lambda m, x, y: outputs.append(y))
    plain.act2.register_full_backward_hook(lambda m, x, y: outputs.append(y[0]))
    sparse = sparsify_activations(model, 0.25, example=IMAGES[:1])
    sparsify_activations(plain, 0.25, example=IMAGES[:1])
    seen.clear()
    outputs.clear()
    removed.remove()
    sparse(IMAGES)
    assert seen == ["blocks.0.relu before"] * 2 + ["blocks.0", ""]
    plain(IMAGES).sum().backward()
    assert [y.shape for y in outputs] == [(4, 20)] * 2
    assert (outputs[0] != 0).float().mean() <= 0.25


def test_functions_are_replaced_by_rewriting_their_caller():
    torch.manual_seed(0)
    model = Functional()
    before = copy.deepcopy(model)
    sparse = sparsify_activations(model, {"relu": 0.25, "gelu": 0.25}, example=IMAGES[:1])
    assert kinds(sparse) == {"relu": KWinners2d, "gelu": SparseActivation, "gelu.winners": KWinners}
    assert set(before.state_dict()) <= set(sparse.state_dict())
    assert winners(sparse.eval(), IMAGES)["gelu.winners"] == {5}
    assert not kinds(before)


def test_a_module_used_twice_gets_one_at_each_place():
    model = Residual()
    sparse = sparsify_activations(model, 0.5, example=IMAGES[:1])
    assert kinds(sparse) == {
        "relu": KWinners2d,
        "blocks.0.relu": KWinners2d,
        "blocks.0.relu_2": KWinners2d,
        "blocks.1.relu": KWinners2d,
        "blocks.1.relu_2": KWinners2d,
    }
    assert sparse.blocks[0].relu.units == 6
    assert sparse.blocks[0].relu_2.units == 3
    sparse(IMAGES).sum().backward()
    assert all(p.grad is not None for p in sparse.parameters())
    copy.deepcopy(sparse)


@pytest.mark.parametrize("build", [Plain, Functional, Residual])
def test_nearly_dense_winners_compute_what_the_network_did(build):
    """With all but no density lost, replaced activations are the activations themselves."""
    torch.manual_seed(1)
    model = build().eval()
    expected = model(IMAGES)
    sparse = sparsify_activations(model, 1.0 - 1e-9, example=IMAGES[:1])
    assert kinds(sparse)
    assert not sparse.training
    torch.testing.assert_close(sparse(IMAGES), expected)


def test_an_object_at_two_names_of_a_sequence():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(8, 6), act, nn.Linear(6, 5), act)
    sparse = sparsify_activations(model, 0.5, example=torch.randn(1, 8))
    assert [m.units for m in sparse.modules() if isinstance(m, KWinners)] == [6, 5]
    assert sparse(torch.randn(3, 8)).shape == (3, 5)


def test_torch_transformer_layers():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(2, 5, 16)
    sparse = sparsify_activations(model, 0.25, example=x[:1]).eval()
    assert [m.units for m in sparse.modules() if isinstance(m, KWinners)] == [32, 32]
    # In evaluation without gradients torch would take a fused path without the winners.
    assert set().union(*winners(sparse, x).values()) <= set(range(9))
    assert len(winners(sparse, x)) == 2


def test_positions_compete_by_themselves_after_a_linear_layer():
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
    sparse = sparsify_activations(model, 0.2, example=torch.randn(1, 3, 6))
    assert isinstance(sparse[1], KWinners)
    conv = nn.Sequential(nn.Conv1d(6, 10, 1), nn.ReLU())
    assert isinstance(sparsify_activations(conv, 0.2, example=torch.randn(1, 6, 3))[1], KWinners2d)


def test_choice_by_layer():
    model = sparsify_activations(Plain(), {"act2": 0.1}, example=IMAGES[:1], boost_strength=0.5)
    assert type(model.act1) is nn.ReLU
    assert model.act2.winners.density == 0.1
    assert float(model.act2.winners.boost_strength) == 0.5
    model = sparsify_activations(Plain(), 0.3, example=IMAGES[:1], exclude=["act2"], local=True)
    assert model.act1.local
    assert type(model.act2) is nn.GELU


def test_frozen_parts_stay_in_their_mode():
    model = Residual().train()
    model.blocks[0].norm.eval()
    sparse = sparsify_activations(model, 0.5, example=IMAGES[:1])
    assert sparse.training
    assert not sparse.blocks[0].norm.training
    assert sparse.blocks[1].norm.training


def test_counted_densities_are_of_the_winners_alone():
    model = sparsify_activations(Plain(), 0.25, example=IMAGES[:1])
    counts = count(model, [IMAGES])
    assert set(counts.activations) == {"act1", "act2.winners"}
    assert counts.activations["act2.winners"] == 0.25


def test_inputs_as_a_tuple_or_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(4, 6), nn.ReLU()

        def forward(self, x, *, bias):
            return self.act(self.linear(x) + bias)

    model = Two()
    sparsify_activations(model, 0.5, example={"x": torch.randn(1, 4), "bias": torch.ones(6)})
    assert isinstance(model.act, KWinners)
    pair = nn.Bilinear(2, 3, 4)
    with pytest.raises(UserError, match="calls no activation"):
        sparsify_activations(pair, 0.5, example=(torch.randn(1, 2), torch.randn(1, 3)))


def test_composes_with_a_sparsifier_and_trains():
    torch.manual_seed(0)
    model = sparsify_activations(Residual(), 0.5, example=IMAGES[:1])
    sparsifier = gs.Sparsifier(model, 0.5, rule=gs.sparsity.Static())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    annealed = gs.nn.AnnealActivations(model, steps=20).attach(optimizer)
    sparsifier.attach(optimizer)
    y = torch.tensor([0, 1, 2, 3])
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(IMAGES), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert set(annealed.densities().values()) == {0.5}
    for name, mask in sparsifier.masks.items():
        assert (model.get_submodule(name).weight[~mask] == 0).all()


# ---------------------------------------------------------------- exported


@pytest.mark.parametrize("threshold", [False, True])
@pytest.mark.parametrize("build", [Plain, Functional, Residual])
def test_exported_and_in_the_engine(build, threshold):
    torch.manual_seed(0)
    model = build().eval()
    sparse = sparsify_activations(model, 0.25, example=IMAGES[:1], threshold=threshold)
    if threshold:
        gs.nn.calibrate(sparse, IMAGES)
    proto = to_onnx(sparse, IMAGES[:2])
    expected = sparse(IMAGES).detach().numpy()
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"input": IMAGES.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    engine = gs.Engine(proto.SerializeToString())
    np.testing.assert_allclose(engine(IMAGES.numpy()), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- mistakes


def test_mistakes_name_the_remedy():
    with pytest.raises(UserError, match="no activation 'act3': did you mean 'act2'"):
        sparsify_activations(Plain(), {"act3": 0.5}, example=IMAGES[:1])
    with pytest.raises(UserError, match="no activation 'acd'"):
        sparsify_activations(Plain(), 0.5, example=IMAGES[:1], exclude=["acd"])
    with pytest.raises(UserError, match=r"exclude is a list of names: write \['act2'\]"):
        sparsify_activations(Plain(), 0.5, example=IMAGES[:1], exclude="act2")
    with pytest.raises(UserError, match=r"call sparsify_activations first and torch\.compile"):
        sparsify_activations(torch.compile(Plain(), backend="eager"), 0.5, example=IMAGES[:1])
    with pytest.raises(UserError, match=r"activation 'act1'.*density must be above 0"):
        sparsify_activations(Plain(), 1.5, example=IMAGES[:1])
    with pytest.raises(UserError, match="Linear calls no activation that can be replaced"):
        sparsify_activations(nn.Linear(2, 2), 0.5, example=torch.randn(1, 2))


class Branching(Plain):
    def forward(self, x):
        y = self.conv(x)
        if y.sum() > 1e9:
            return y
        return functional.relu(y)


class Dropping(Plain):
    def forward(self, x):
        return functional.dropout(functional.relu(self.conv(x)), 0.5, self.training)


class SideEffect(Plain):
    def forward(self, x):
        y = self.conv(x)
        y.relu_()
        return y


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Branching, r"torch\.fx cannot trace it .*make each a module.*exclude '0.relu'"),
        (Dropping, "something else in training than in evaluation"),
        (SideEffect, "side effect"),
    ],
)
def test_what_cannot_be_rewritten_is_left_alone(build, message):
    model = nn.Sequential(build(), nn.ReLU())
    before = copy.deepcopy(model)
    with pytest.raises(UserError, match=message) as caught:
        sparsify_activations(model, 0.5, example=IMAGES[:1])
    assert "'0' (" in str(caught.value)
    assert repr(model) == repr(before), "an error changes nothing"
    sparsify_activations(model, 0.5, example=IMAGES[:1], exclude=["0.relu"])
    assert isinstance(model[1], KWinners2d)


def test_transformers_library():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = transformers.BertModel(config).eval()
    tokens = {"input_ids": torch.randint(0, 50, (2, 7))}
    names = [f"encoder.layer.{i}.intermediate.intermediate_act_fn" for i in range(2)]
    sparse = sparsify_activations(model, 0.25, example=tokens)
    found = [n for n, m in sparse.named_modules() if isinstance(m, KWinners)]
    assert [name.rpartition(".act")[0] for name in found] == names
    sparsifier = gs.Sparsifier(sparse, 0.2, rule=gs.sparsity.Static())
    assert sparse(**tokens).last_hidden_state.shape == (2, 7, 16)
    assert sparsifier.counts()
