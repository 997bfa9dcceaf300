"""Whatever the order in which states are restored, the restored network is the saved one."""

import copy
from itertools import permutations

import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

import gossamer as gs
from gossamer.errors import UserError
from gossamer.sparsity import NM, PATTERNS, RULES, Block, Global, Sparsifier, Unstructured


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16))


def sparsify(model: nn.Module, rule: str, pattern: str, seed: int = 0) -> Sparsifier:
    kind = PATTERNS[pattern]()
    return fixed(
        model,
        0.5 if isinstance(kind, NM) else 0.3,
        rule=type(RULES[rule]())(interval=2),
        pattern=kind,
        total_steps=12,
        seed=seed,
    )


def train(model: nn.Module, sparsifier: Sparsifier, optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        x = torch.randn(4, 12, generator=torch.Generator().manual_seed(step))
        model(x).square().sum().backward()
        optimizer.step()
        sparsifier.step(optimizer)


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


# The sparsifier is made before its state is restored; beyond that any order.
ORDERS = [
    order
    for order in permutations(["weights", "make", "state", "optimizer"])
    if order.index("make") < order.index("state")
]


@pytest.mark.parametrize("pattern", ["unstructured", "block8", "2:4"])
@pytest.mark.parametrize("rule", RULES)
def test_every_order_gives_the_saved_network_and_the_same_training(rule, pattern):
    model = network(0)
    sparsifier = sparsify(model, rule, pattern)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    train(model, sparsifier, optimizer, range(7))
    saved = copy.deepcopy((model.state_dict(), sparsifier.state_dict(), optimizer.state_dict()))
    whole = copy.deepcopy(model)
    train(model, sparsifier, optimizer, range(7, 12))
    for order in ORDERS:
        fresh = network(1)
        own = torch.optim.SGD(fresh.parameters(), 0.01, momentum=0.9)
        for step in order:
            if step == "weights":
                fresh.load_state_dict(saved[0])
            elif step == "make":
                restored = sparsify(fresh, rule, pattern, seed=3)
            elif step == "state":
                restored.load_state_dict(saved[1])
            else:
                own.load_state_dict(copy.deepcopy(saved[2]))
        assert same(fresh, whole), order
        train(fresh, restored, own, range(7, 12))
        assert same(fresh, model), order


@pytest.mark.parametrize("change", ["nothing", "applied", "bfloat16", "copied"])
def test_what_happens_before_the_state_is_restored_does_not_matter(change):
    model = network(0)
    state = sparsify(model, "static", "unstructured").state_dict()
    fresh = network(1)
    fresh.load_state_dict(model.state_dict())
    sparsifier = sparsify(fresh, "static", "unstructured", seed=3)
    assert not same(fresh, model)
    if change == "applied":
        sparsifier.apply()
    elif change == "bfloat16":
        fresh.bfloat16()
        model.bfloat16()
    elif change == "copied":
        fresh, sparsifier = copy.deepcopy((fresh, sparsifier))
    sparsifier.load_state_dict(state)
    assert same(fresh, model)


def test_weights_that_were_trained_since_are_left():
    """A state restored in the midst of a training masks the weights of that training."""
    model = network(0)
    sparsifier = sparsify(model, "static", "unstructured")
    state = sparsify(network(2), "static", "unstructured", seed=3).state_dict()
    train(model, sparsifier, torch.optim.SGD(model.parameters(), 0.01), range(2))
    before = copy.deepcopy(model)
    sparsifier.load_state_dict(state)
    for name, mask in sparsifier.masks.items():
        old, new = before.get_submodule(name).weight, model.get_submodule(name).weight
        assert torch.equal(new, torch.where(mask, old, 0.0))


def test_a_pruned_network_reports_the_densities_restored():
    model = network(0)
    saved = gs.prune(model, 0.2)
    fresh = network(1)
    fresh.load_state_dict(model.state_dict())
    restored = fixed(fresh, 0.2, allocation=Global(), pattern=Unstructured(), rescale=False)
    restored.load_state_dict(saved.state_dict())
    assert same(fresh, model)
    assert restored.densities == saved.densities


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("pattern", ["unstructured", "fan_in", "block8"])
def test_a_restored_sparsifier_reports_the_saved_densities(pattern, weights_first):
    """Those of a global allocation are chosen from weights, which may be restored later."""

    def make(model: nn.Module) -> Sparsifier:
        options = {"pattern": PATTERNS[pattern](), "rule": RULES["granet"](interval=2)}
        return fixed(model, 0.5, allocation=Global(), total_steps=8, **options)

    model = network(0)
    with torch.no_grad():
        model[2].weight.mul_(3.0)  # so that the two layers differ
    sparsifier = make(model)
    train(model, sparsifier, torch.optim.SGD(model.parameters(), 0.01), range(8))
    fresh = network(1)
    restored = make(fresh)
    if weights_first:
        fresh.load_state_dict(model.state_dict())
    restored.load_state_dict(sparsifier.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert restored.counts() == sparsifier.counts()
    assert restored.densities == sparsifier.densities
    assert {name: kept / size for name, (kept, size) in restored.counts().items()} == (
        restored.densities
    )
    assert restored.settled


def test_static_masks_of_another_density_are_reported_as_they_are():
    saved = fixed(network(0), 0.25, pattern=Unstructured())
    restored = fixed(network(0), 0.5, pattern=Unstructured())
    restored.load_state_dict(saved.state_dict())
    assert restored.densities == saved.densities == {"0": 0.25, "2": 0.25}


# ---------------------------------------------------------------- averages of weights


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_average_of_the_weights_becomes_sparse(kind):
    model = network(0)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.5) if kind == "ema" else None
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
    sparsifier = sparsify(model, "rigl", "block8")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(12):
        train(model, sparsifier, optimizer, range(step, step + 1))
        averaged.update_parameters(model)
    weights = [averaged.module[0].weight, averaged.module[2].weight]
    kept = sum(kept for kept, _ in sparsifier.counts().values())
    assert sum(int(w.count_nonzero()) for w in weights) > kept, "masks have moved"
    before = [w.detach().clone() for w in weights]
    sparsifier.apply_to(averaged)
    for old, weight, mask in zip(before, weights, sparsifier.masks.values(), strict=True):
        assert torch.equal(weight, torch.where(mask, old, 0.0))
    copied = copy.deepcopy(model)
    sparsifier.apply_to(copied)
    assert same(copied, model)


def test_a_model_of_another_shape_is_not_masked():
    sparsifier = fixed(network(0), 0.5, pattern=Block(8))
    other = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
    before = copy.deepcopy(other)
    with pytest.raises(UserError, match=r"no layer '2' with a weight of shape \(16, 16\)"):
        sparsifier.apply_to(other)
    assert same(other, before)
