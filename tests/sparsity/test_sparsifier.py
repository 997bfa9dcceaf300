"""The sparsifier: exact counts, zeros that stay zero, masks that can be saved."""

import copy
import itertools
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sparsity.fixed import fixed
from torch import nn
from torch.nn.utils import prune as torch_prune

import gossamer as gs
from gossamer.errors import UserError
from gossamer.sparsity import (
    NM,
    SET,
    Global,
    GraNet,
    Magnitude,
    PerLayer,
    RigL,
    Rule,
    Sparsifier,
    SparsitySettings,
    Static,
    TopK,
    Uniform,
    Unstructured,
    prune,
    sparsifiable_layers,
)

QUICK = settings(max_examples=50, deadline=None)


def small(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10), nn.Linear(10, 3)
        )


def is_plus_zero(x: torch.Tensor) -> bool:
    return bool((x == 0).all() and not torch.signbit(x).any())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, after=None) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 2, 4, 4, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if after is not None:
            after()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}

# ---------------------------------------------------------------- counts


@st.composite
def layers(draw) -> nn.Module:
    groups = draw(st.integers(1, 3))
    inputs, outputs = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 5))
    kernel = draw(st.integers(1, 3))
    return draw(
        st.sampled_from(
            [
                nn.Linear(inputs, outputs),
                nn.Conv1d(inputs, outputs, kernel, groups=groups),
                nn.Conv2d(inputs, outputs, (kernel, 2), groups=groups),
            ]
        )
    )


@QUICK
@given(layer=layers(), density=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_every_output_unit_keeps_the_same_exact_count(layer, density, seed):
    before = layer.weight.detach().clone()
    fan_in = before[0].numel()
    keep = round(fan_in * density)
    model = nn.Sequential(layer)
    if keep == 0:
        with pytest.raises(UserError, match=r"layer '0': .*without any of their"):
            fixed(model, density, include=["depthwise"], seed=seed)
        assert torch.equal(layer.weight, before)
        return
    sparsifier = fixed(model, density, include=["depthwise"], seed=seed)
    mask = sparsifier.masks["0"]
    assert mask.shape == before.shape
    assert mask.flatten(1).sum(1).tolist() == [keep] * len(before)
    assert sparsifier.counts() == {"0": (keep * len(before), before.numel())}
    assert sparsifier.masked is (keep < fan_in)
    assert is_plus_zero(layer.weight[~mask])
    # The kept weights are scaled for the sparse fan-in, by one number for the layer.
    torch.testing.assert_close(layer.weight[mask], before[mask] * math.sqrt(fan_in / keep))


def test_rescale_by_hand_and_switched_off():
    for rescale, expected in ((True, 2.0), (False, 1.0)):
        layer = nn.Linear(8, 3)
        nn.init.ones_(layer.weight)
        bias = layer.bias.detach().clone()
        fixed(layer, 0.25, rescale=rescale)
        assert sorted(layer.weight[0].tolist()) == [0.0] * 6 + [expected] * 2
        assert torch.equal(layer.bias, bias)


def test_density_one_changes_nothing():
    model, before = small(), small().state_dict()
    sparsifier = fixed(model, 1.0)
    assert not sparsifier.masked
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- zeros stay zero


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_stay_exactly_zero(name):
    model = small()
    sparsifier = fixed(model, 0.3)
    masks = {layer: mask.clone() for layer, mask in sparsifier.masks.items()}
    start = model[3].weight.detach().clone()

    def check() -> None:
        sparsifier.step()
        for layer, mask in masks.items():
            assert torch.equal(sparsifier.masks[layer], mask)
            assert is_plus_zero(model.get_submodule(layer).weight[~mask])

    train(model, OPTIMIZERS[name](model.parameters()), 4, after=check)
    assert sparsifier.steps == 4
    moved = (model[3].weight != start)[masks["3"]]
    assert moved.float().mean() > 0.5, "kept weights must still learn"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_attach_equals_step(name):
    by_hand, attached = small(), small()
    one = fixed(by_hand, 0.3)
    optimizer = OPTIMIZERS[name](attached.parameters())
    two = fixed(attached, 0.3).attach(optimizer)
    train(by_hand, OPTIMIZERS[name](by_hand.parameters()), 3, after=one.step)
    train(attached, optimizer, 3)
    assert one.steps == two.steps == 3
    for key, value in by_hand.state_dict().items():
        assert torch.equal(value, attached.state_dict()[key]), key


def test_a_loop_that_steps_beside_an_attached_optimizer_is_refused():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = fixed(model, 0.3).attach(optimizer)
    with pytest.raises(UserError, match=r"training counts twice; leave out sparsifier\.step"):
        train(model, optimizer, 3, after=sparsifier.step)


def test_a_loop_after_an_attached_optimizer_and_another_optimizer_after_it():
    model = small()
    sparsifier = fixed(model, 0.3)
    for after in (None, sparsifier.step, None):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if after is None:
            sparsifier.attach(optimizer)
            train(model, optimizer, 2)
        else:
            train(model, optimizer, 2, after=after)
    assert sparsifier.steps == 6


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))


def two_optimizers(model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    first, _, last = model
    adam = torch.optim.AdamW(first.parameters(), 0.01, weight_decay=0.1)
    return adam, torch.optim.SGD(last.parameters(), 0.1, momentum=0.9)


def step_both(model: nn.Module, optimizers, steps: int) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(torch.randn(8, 12)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("reverse", [False, True])
def test_two_optimizers_of_one_loop_count_once_and_every_mask_is_applied(reverse):
    model = two_layers()
    optimizers = two_optimizers(model)
    order = optimizers[::-1] if reverse else optimizers
    sparsifier = fixed(model, 0.5, rule=RigL(interval=2), total_steps=10).attach(*optimizers)
    for step in range(1, 5):
        before = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        step_both(model, order, 1)
        assert sparsifier.steps == step
        moved = 0
        for name, mask in sparsifier.masks.items():
            weight = model.get_submodule(name).weight
            assert is_plus_zero(weight[~mask])
            grown = mask & ~before[name]
            moved += int(grown.sum())
            for optimizer in optimizers:
                for value in optimizer.state.get(weight, {}).values():
                    assert value.dim() == 0 or not value[grown].any()
        assert bool(moved) == (step % 2 == 0)


def test_optimizers_attached_one_after_the_other_must_not_step_in_turns():
    model = two_layers()
    optimizers = two_optimizers(model)
    fixed(model, 0.5).attach(optimizers[0]).attach(optimizers[1])
    with pytest.raises(UserError, match=r"together: attach\(first, second\)"):
        step_both(model, optimizers, 1)


def test_an_optimizer_that_is_attached_again_counts_once():
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = fixed(model, 0.5).attach(optimizer).attach(optimizer)
    step_both(model, [optimizer], 3)
    assert sparsifier.steps == 3


def test_an_optimizer_that_is_not_attached_is_reported():
    model = two_layers()
    optimizers = two_optimizers(model)
    fixed(model, 0.5).attach(optimizers[0])
    with pytest.warns(UserWarning, match="layer '2': its masked weights are not zero"):
        step_both(model, optimizers, 2)


def test_layers_that_no_optimizer_trains_are_not_reported():
    model = two_layers()
    optimizers = two_optimizers(model)
    sparsifier = fixed(model, 0.5).attach(optimizers[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step_both(model, optimizers[:1], 3)
    assert sparsifier.steps == 3


def test_an_optimizer_of_a_copy_of_the_model_is_reported():
    model = two_layers()
    sparsifier = fixed(model, 0.5)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), 0.1)
    sparsifier.attach(optimizer)
    with pytest.warns(UserWarning, match="trains none of the sparse weights"):
        step_both(trained, [optimizer], 2)


def test_a_weight_parametrized_after_it_became_sparse_is_refused():
    model = two_layers()
    sparsifier = fixed(model, 0.5)
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(UserError, match="'weight' of a ParametrizedLinear was made sparse and is"):
        sparsifier.step()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex128])
def test_numbers_of_another_width_are_refused(dtype):
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(layer.weight.detach().to(dtype))
    with pytest.raises(UserError, match="layer '' has weights of torch"):
        fixed(layer, 0.5)


def test_a_rule_that_sees_masked_weights_takes_one_optimizer():
    model = two_layers()
    sparsifier = fixed(model, 0.5, rule=TopK(), total_steps=10)
    with pytest.raises(UserError, match="TopK compares"):
        sparsifier.attach(*two_optimizers(model))
    with pytest.raises(UserError, match="takes the optimizer"):
        sparsifier.attach()


@pytest.mark.parametrize("part", ["pattern", "allocation", "schedule", "rule"])
def test_texts_are_no_parts_of_a_sparsifier(part):
    with pytest.raises(UserError, match=rf"{part}='rigl'; pass an instance of gs\.sparsity\."):
        Sparsifier(small(), 0.3, **{part: "rigl"})


def test_apply_removes_nan_and_negative_zero():
    layer = nn.Linear(4, 2)
    sparsifier = fixed(layer, 0.5)
    mask = sparsifier.masks[""]
    with torch.no_grad():
        layer.weight[~mask] = torch.tensor([math.nan, -0.0, math.inf, -3.0])
    sparsifier.apply()
    assert is_plus_zero(layer.weight[~mask])


@pytest.mark.cuda
def test_masks_follow_the_model_to_another_device():
    model = small()
    sparsifier = fixed(model, 0.3)
    model.cuda()
    sparsifier.step()
    assert sparsifier.masks["3"].is_cuda
    there = fixed(small().cuda(), 0.3)
    assert torch.equal(there.masks["3"].cpu(), sparsifier.masks["3"].cpu())


# ---------------------------------------------------------------- which layers


def test_exclude_and_allocation():
    model = small()
    dense = model[4].weight.detach().clone()
    sparsifier = fixed(model, 0.5, allocation=PerLayer({"3": 0.25}), exclude=["4"])
    assert sparsifier.counts() == {"0": (4 * 9, 72), "3": (10 * 4, 160)}
    assert torch.equal(model[4].weight, dense)


def test_only_sparsifiable_layers_in_model_order():
    model = nn.Sequential(
        nn.Embedding(4, 4), nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.ModuleDict({"a": small()})
    )
    assert list(sparsifiable_layers(model)) == ["1", "3.a.0", "3.a.3", "3.a.4"]


def test_shared_weights_appear_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    nn.init.ones_(model[0].weight)
    sparsifier = fixed(model, 0.25)
    assert list(sparsifier.masks) == ["0", "1"]
    assert model[2].weight is model[0].weight
    assert model[0].weight.max().item() == 2.0, "rescaled once"


# ---------------------------------------------------------------- randomness


def test_seed_decides_the_masks():
    one, same, other = (fixed(small(w), 0.3, seed=s) for w, s in ((0, 5), (1, 5), (0, 6)))
    for name, mask in one.masks.items():
        assert torch.equal(mask, same.masks[name]), "whatever the weights are"
    assert not torch.equal(one.masks["3"], other.masks["3"])


def test_layers_of_one_shape_get_masks_of_their_own():
    masks = fixed(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32)), 0.5).masks
    assert not torch.equal(masks["0"], masks["1"])


def test_global_generators_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    sparsifier = fixed(small(), 0.3, seed=3)
    sparsifier.step()
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("seed", [0, 1, 42, 1234])
def test_masks_are_independent_of_weights_drawn_with_the_same_seed(seed):
    """Masks of ``Generator().manual_seed(seed)`` would keep the largest weights alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(400, 100, bias=False)
    weight = layer.weight.detach().clone()
    kept = weight[fixed(layer, 0.1, seed=seed).masks[""]]
    # 4,000 signs: the standard deviation of their mean is 0.016.
    assert abs(kept.sign().mean().item()) < 0.08
    assert kept.abs().mean().item() == pytest.approx(weight.abs().mean().item(), rel=0.08)
    # The figure for the mistake itself, so that this test is known to see it.
    bare = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
    repeated = weight[bare >= bare.quantile(0.9)] if bare.numel() < 2**24 else weight
    assert abs(repeated.sign().mean().item()) > 0.9


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_positions_are_drawn_evenly(density):
    mask = fixed(nn.Linear(50, 4000), density).masks[""]
    share = mask.float().mean(0)
    assert (share - density).abs().max().item() < 6 * math.sqrt(density * (1 - density) / 4000)


# ---------------------------------------------------------------- saved and copied


def test_masks_are_saved_and_restored(tmp_path):
    model = small()
    saved = fixed(model, 0.3, seed=1)
    train(model, OPTIMIZERS["sgd"](model.parameters()), 3, after=saved.step)
    torch.save({"model": model.state_dict(), "sparsifier": saved.state_dict()}, tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=True)

    fresh = small(7)
    fresh.load_state_dict(state["model"])
    restored = fixed(fresh, 0.3, rescale=False, seed=2)
    fresh.load_state_dict(state["model"])
    restored.load_state_dict(state["sparsifier"])
    assert restored.steps == 3
    for name, mask in saved.masks.items():
        assert torch.equal(restored.masks[name], mask)
    for key, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)
    assert torch.equal(restored.state_dict()["generator"], saved.state_dict()["generator"])


def test_restoring_applies_the_masks():
    saved = fixed(small(), 0.3, seed=1).state_dict()
    model = small()
    sparsifier = fixed(model, 1.0, seed=2)
    sparsifier.load_state_dict(saved)
    for name, mask in sparsifier.masks.items():
        assert is_plus_zero(model.get_submodule(name).weight[~mask])


def _without(key):
    return lambda state: {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("mask.3"), "they differ in layer '3'"),
        (lambda s: {**s, "mask.9": s["mask.3"]}, "they differ in layer '9'"),
        (lambda s: {**s, "mask.4": s["mask.3"]}, r"layer '4' has shape \(3, 10\), its mask"),
        (_without("step"), "another network"),
        (_without("generator"), "another network"),
        (lambda s: {**s, "mask.3": s["mask.3"] * 0.5}, "mask of layer '3' is not one of zeros"),
        (lambda s: {**s, "mask.3": "a text"}, "mask of layer '3' is not one of zeros"),
        (lambda s: {**s, "step": -1}, "damaged .step must be a whole number of at least 0, not -1"),
        (lambda s: {**s, "generator": torch.zeros(3)}, "damaged"),
        (lambda s: {**s, "generator": None}, "damaged"),
        (lambda s: {**s, "final": torch.tensor([1])}, "damaged"),
        (lambda s: {**s, "final": torch.tensor([])}, "damaged"),
        (lambda s: None, "takes what state_dict returned, not NoneType"),
    ],
)
def test_masks_of_another_network_change_nothing(spoil, message):
    model = small()
    sparsifier = fixed(model, 0.3, seed=1)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    weights = copy.deepcopy(model.state_dict())
    other = fixed(small(), 0.6, seed=2)
    other.step()
    with pytest.raises(UserError, match=message) as caught:
        sparsifier.load_state_dict(spoil(other.state_dict()))
    assert "\n" not in str(caught.value)
    assert sparsifier.steps == 0
    assert all(torch.equal(masks[name], mask) for name, mask in sparsifier.masks.items())
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_the_model_can_be_copied():
    model = small()
    sparsifier = fixed(model, 0.3)
    twin = copy.deepcopy(model)
    train(model, OPTIMIZERS["sgd"](model.parameters()), 1, after=sparsifier.step)
    assert not torch.equal(twin[3].weight, model[3].weight)
    assert is_plus_zero(twin[3].weight[~sparsifier.masks["3"]])


def test_model_and_sparsifier_can_be_copied_together():
    model = small()
    sparsifier = fixed(model, 0.3)
    twin, its = copy.deepcopy((model, sparsifier))
    train(twin, OPTIMIZERS["sgd"](twin.parameters()), 1, after=its.step)
    assert (sparsifier.steps, its.steps) == (0, 1)
    assert is_plus_zero(twin[3].weight[~its.masks["3"]])
    assert torch.equal(model[3].weight != 0, twin[3].weight != 0)
    assert not torch.equal(model[3].weight, twin[3].weight)


# ---------------------------------------------------------------- rules that change masks


class KeepLargest(Rule):
    """Chooses by magnitude, masked weights taking part: a rule of somebody's own."""

    sees_masked = True


def test_a_rule_changes_the_masks_when_due():
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    sparsifier = fixed(model, 0.5, rule=KeepLargest(interval=2), rescale=False, total_steps=4)
    first = sparsifier.masks["0"].clone()
    values = torch.where(first, 1.0, 5.0)
    for due in (False, True):
        with torch.no_grad():
            model[0].weight.copy_(values)
        sparsifier.step()
        expected = ~first if due else first
        assert torch.equal(sparsifier.masks["0"], expected)
        assert torch.equal(model[0].weight, values * expected)


def changes(rule: Rule, steps: int) -> list[int]:
    """The steps before the last one of a training after which its masks change."""
    sparsifier = Sparsifier(nn.Sequential(nn.Linear(64, 64)), 0.1, rule=rule, total_steps=steps)
    return [step for step in range(1, steps) if sparsifier.due(step)]


def test_masks_change_as_often_in_a_short_training_as_in_a_long_one():
    for rule in (Magnitude(), GraNet(), RigL(), SET()):  # for three quarters of the training
        assert changes(rule, 320) == list(range(10, 241, 10))
        assert changes(rule, 3_200) == list(range(100, 2_401, 100))
        assert changes(rule, 10_000) == list(range(100, 7_501, 100))  # never more seldom
        assert changes(rule, 8) == [1, 2, 3, 4, 5, 6]  # fewer steps than changes: after each
    assert changes(Static(), 320) == []
    assert changes(RigL(interval=100), 320) == [100, 200]
    assert changes(Magnitude(interval=100), 320) == [100, 200, 300]


def test_a_resumed_training_changes_masks_at_the_same_steps():
    def ended(stops: list[int]) -> list[torch.Tensor]:
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        sparsifier = Sparsifier(model, 0.3, total_steps=96)
        counts = []
        for begin, end in itertools.pairwise([0, *stops, 96]):
            weights, state = model.state_dict(), sparsifier.state_dict()
            model = small(seed=1)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            sparsifier = Sparsifier(model, 0.3, total_steps=96)
            model.load_state_dict(weights)
            sparsifier.load_state_dict(state)
            for step in range(begin, end):
                x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(step))
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
                sparsifier.step(optimizer)
                counts.append(sum(kept for kept, _ in sparsifier.counts().values()))
        # The density falls every 96 // 32 steps in the first half, the last two times by no weight.
        assert [i for i in range(1, 96) if counts[i] != counts[i - 1]] == list(range(2, 42, 3))
        return list(model.parameters())

    whole, resumed = ended([]), ended([4, 32, 60])
    assert all(torch.equal(one, two) for one, two in zip(whole, resumed, strict=True))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "density", [0, 0.0, -0.1, 1.0001, 2, math.nan, math.inf, True, "0.5", None]
)
def test_bad_density(density):
    for make in (
        lambda: fixed(small(), density),
        lambda: PerLayer({"conv": density}),
    ):
        with pytest.raises(UserError, match="density must be above 0 and at most 1") as caught:
            make()
        assert repr(density) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unknown_names_get_a_suggestion():
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, 1, 1))
    model.add_module("linear", nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"no sparsifiable layer 'conv2': did you mean 'conv1'\?"):
        fixed(model, allocation=PerLayer({"conv2": 0.5}))
    with pytest.raises(UserError, match=r"exclude: .*'linea': did you mean 'linear'\?"):
        fixed(model, 0.5, exclude=["linea"])


def test_too_sparse_names_the_layer_and_leaves_the_model():
    model, before = small(), small().state_dict()
    with pytest.raises(UserError, match=r"layer '4': density 0.04 .* 10 inputs; use at least 0.1"):
        fixed(model, 0.5, allocation=PerLayer({"4": 0.04}))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_second_sparsifier_of_the_same_weights():
    model = small()
    first = Sparsifier(model, 0.5, rule=Static())
    before = copy.deepcopy(model)
    with pytest.raises(UserError) as caught:
        Sparsifier(model, 0.4)
    assert str(caught.value) == (
        "layer '0' has another sparsifier already (density 0.5, Static), and the masks of both "
        "would multiply; call detach() of that one first, which keeps the zeros, or exclude the "
        "layer"
    )
    with pytest.raises(UserError, match="layer '0' has another sparsifier"):
        prune(model, 0.4)
    same = zip(model.parameters(), before.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)
    Sparsifier(copy.deepcopy(model), 0.4)  # other weights
    shared = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 10))
    shared[1].weight = model[3].weight
    with pytest.raises(UserError, match="layer '1' has another"):
        Sparsifier(shared, 0.4)
    del first
    Sparsifier(model, 0.4)  # nothing applies the first one's masks any more


def test_two_sparsifiers_of_different_weights():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first = Sparsifier(model, 0.5, rule=Static(), exclude=["3", "4"]).attach(optimizer)
    second = Sparsifier(model, 0.25, rule=Static(), exclude=["0"]).attach(optimizer)
    train(model, optimizer, 3)
    assert (first.steps, second.steps) == (3, 3)
    assert int(model[0].weight.count_nonzero()) == 36  # of 72
    assert int(model[3].weight.count_nonzero() + model[4].weight.count_nonzero()) == 48  # of 190


def test_another_sparsifier_after_one_was_detached():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first = Sparsifier(model, 0.25, rule=Static()).attach(optimizer)
    train(model, optimizer, 2)
    zeros = [parameter == 0 for parameter in model.parameters()]
    first.detach()
    assert all(torch.equal(p == 0, z) for p, z in zip(model.parameters(), zeros, strict=True))
    train(model, optimizer, 2)
    assert first.steps == 2
    assert all(bool((layer.weight != 0).all()) for layer in (model[0], model[3], model[4]))
    for use in (first.step, first.apply, lambda: first.load_state_dict(first.state_dict())):
        with pytest.raises(UserError, match=r"was detached .*; make another one"):
            use()
    second = Sparsifier(model, 0.5, rule=Static()).attach(optimizer)
    first.detach()  # again: nothing happens
    train(model, optimizer, 2)
    assert second.steps == 2
    weights = [model[i].weight for i in (0, 3, 4)]
    assert sum(int(weight.count_nonzero()) for weight in weights) == 131  # half of 262


def test_a_sparsifier_that_is_gone_with_its_optimizer_is_in_nobodys_way():
    model = small()

    def trained(density: float) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        sparsifier = prune(model, density).attach(optimizer)
        train(model, optimizer, 2)
        assert sparsifier.steps == 2

    trained(0.5)
    trained(0.25)


def test_a_weight_that_was_replaced_is_free():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    first = Sparsifier(model, 0.5)
    for layer in model:
        layer.weight = nn.Parameter(torch.randn(8, 8))
    Sparsifier(model, 0.5)
    assert first.masks


def test_nothing_to_make_sparse():
    with pytest.raises(UserError, match="Sequential has no layer whose weights can be sparse"):
        fixed(nn.Sequential(nn.ReLU()), 0.5)


def test_the_default_is_the_same_everywhere():
    by_class, by_name = Sparsifier(small(), 0.5), SparsitySettings().sparsifier(small(), 0.5)
    assert repr(by_class) == repr(by_name)
    assert repr(by_class).endswith(
        "pattern=Unstructured(), allocation=ERK(), schedule=Cubic(until=0.5, start=0.0, "
        "initial=1.0), rule=GraNet(interval=None, until=0.75, fraction=0.5))"
    )
    pruned = prune(small(), 0.5)
    assert (pruned.pattern, pruned.allocation) == (Unstructured(), Global())
    nm = (
        Sparsifier(small(), 0.5, pattern=NM(), exclude=["0", "4"]),
        SparsitySettings(pattern="2:4").parts()[1],
    )
    assert nm[0].allocation == nm[1] == Uniform()


# ---------------------------------------------------------------- any network


class Anything(nn.Module):
    """A depthwise convolution, a tied embedding, attention, and a head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(32, 8)
        self.stem = nn.Conv1d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.blocks = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 8)])
        self.decoder = nn.Linear(8, 32, bias=False)
        self.decoder.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        x = self.depthwise(self.stem(x.transpose(1, 2))).transpose(1, 2)
        return self.decoder(self.blocks[1](torch.relu(self.blocks[0](x))))


@pytest.mark.parametrize(
    ("exclude", "include", "expected"),
    [
        ([], [], ["stem", "blocks.0", "blocks.1"]),
        (["first"], [], ["blocks.0", "blocks.1"]),
        (["blocks.*"], [], ["stem"]),
        (["blocks.1", "last"], [], ["stem", "blocks.0"]),
        ([], ["depthwise"], ["stem", "depthwise", "blocks.0", "blocks.1"]),
        ([], ["decoder"], ["stem", "blocks.0", "blocks.1", "decoder"]),
        (["depthwise"], ["depthwise"], ["stem", "blocks.0", "blocks.1"]),
    ],
)
def test_layers_by_name_pattern_and_rule(exclude, include, expected):
    model = Anything()
    table = model.embed.weight.detach().clone()
    sparsifier = fixed(model, 0.5, exclude=exclude, include=include)
    assert list(sparsifier.masks) == expected
    assert torch.equal(model.embed.weight, table) is ("decoder" not in expected)


def test_a_shared_weight_is_excluded_by_any_of_its_names():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    assert list(fixed(model, 0.5, exclude=["2"]).masks) == ["1"]


def test_frozen_layers_stay_dense():
    model = small()
    model[3].requires_grad_(False)
    before = model[3].weight.clone()
    assert list(fixed(model, 0.5).masks) == ["0", "4"]
    assert torch.equal(model[3].weight, before)
    assert "3" in fixed(small().requires_grad_(False), 0.5, include=["frozen"]).masks
    with pytest.raises(UserError, match=r"requires_grad_\(True\).* include=\['frozen'\]"):
        fixed(small().requires_grad_(False), 0.5)
    with pytest.raises(UserError, match=r"every layer stays dense: .*excluded.*out of exclude$"):
        fixed(small(), 0.5, exclude=["*"])


def test_a_list_is_wanted():
    with pytest.raises(UserError, match=r"exclude is a list of names: write \['3'\]"):
        fixed(small(), 0.5, exclude="3")


@pytest.mark.parametrize(
    "change",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: torch_prune.l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_parametrized_weights_are_refused_and_can_be_excluded(change):
    model = small()
    change(model[3])
    with pytest.raises(UserError, match=r"layer '3': its weight is computed .*exclude the layer"):
        fixed(model, 0.5)
    assert list(fixed(model, 0.5, exclude=["3"]).masks) == ["0", "4"]


def test_lazy_layers_are_refused_until_they_have_a_weight():
    model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(UserError, match="layer '0' has no weight yet"):
        fixed(model, 0.5)
    model(torch.ones(1, 8))
    assert fixed(model, 0.5).counts() == {"0": (16, 32)}


@pytest.mark.parametrize("model", [None, [nn.Linear(8, 4)], nn.Linear], ids=str)
def test_what_is_no_module_is_named(model):
    with pytest.raises(UserError, match=r"the model is \w+, not a torch\.nn\.Module"):
        fixed(model, 0.5)


def test_weights_that_cannot_change_are_refused():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(8, 4))
    with pytest.raises(UserError, match=r"layer '0' was made in torch\.inference_mode"):
        fixed(model, 0.5)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_weights_are_left_out():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 0))
    assert fixed(model, 0.5).counts() == {"0": (16, 32)}


def test_wrapped_models_have_the_names_of_the_model_inside():
    model = small()
    wrapped = torch.nn.DataParallel(torch.compile(model, backend="eager"))
    sparsifier = fixed(wrapped, 0.5)
    assert list(sparsifier.masks) == ["0", "3", "4"]
    assert model[3].weight.count_nonzero() == sparsifier.counts()["3"][0]


def test_a_compiled_model_trains_with_exact_masks():
    torch._dynamo.reset()
    model = small()
    compiled = torch.compile(model, backend="aot_eager")
    sparsifier = fixed(compiled, 0.4, rule=RigL(interval=2), total_steps=8)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    first = sparsifier.masks["3"].clone()
    train(compiled, optimizer, 8, after=lambda: sparsifier.step(optimizer))
    assert not torch.equal(sparsifier.masks["3"], first)
    x = torch.randn(8, 2, 4, 4)
    torch.testing.assert_close(compiled(x), model(x))
    for name, mask in sparsifier.masks.items():
        assert is_plus_zero(model.get_submodule(name).weight[~mask])


def test_channels_last_and_half_precision():
    model = small().to(torch.bfloat16).to(memory_format=torch.channels_last)
    sparsifier = fixed(model, 0.4, rule=RigL(interval=1), total_steps=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
            parameter.add_(1.0)
    sparsifier.step()
    for name, mask in sparsifier.masks.items():
        weight = model.get_submodule(name).weight
        assert is_plus_zero(weight[~mask])
        assert mask.stride() == weight.stride()


# ---------------------------------------------------------------- other training loops


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_optimizer_remembers_of_grown_weights_is_reset(name):
    model = small()
    optimizer = OPTIMIZERS[name](model.parameters())
    sparsifier = fixed(model, 0.4, rule=RigL(interval=3), total_steps=30).attach(optimizer)
    before = sparsifier.masks["3"].clone()
    train(model, optimizer, 3)
    grown = sparsifier.masks["3"] & ~before
    assert grown.any()
    assert is_plus_zero(model[3].weight[grown])
    kept = sparsifier.masks["3"] & before
    state = {k: v for k, v in optimizer.state[model[3].weight].items() if v.dim()}
    assert state
    for value in state.values():
        assert not value[grown].any()
        assert value[kept].any()


def test_growth_needs_the_gradients():
    model = small()
    sparsifier = fixed(model, 0.4, rule=RigL(interval=1), total_steps=8)
    with pytest.raises(
        UserError, match=r"no sparse layer has a gradient.*before optimizer.zero_grad"
    ):
        sparsifier.step()
    fixed(small(), 0.4, rule=RigL(interval=2), total_steps=8).step()  # changes no mask


def test_gradients_that_are_not_finite_move_no_mask():
    model = small()
    sparsifier = fixed(model, 0.4, rule=RigL(interval=1), total_steps=8)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    sparsifier.step()
    for name, mask in masks.items():
        assert torch.equal(sparsifier.masks[name], mask)


def test_steps_that_a_gradient_scaler_skips_do_not_count():
    model = small()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    sparsifier = fixed(model, 0.4, rule=RigL(interval=1), total_steps=8).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (False, True, False):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.randn(8, 2, 4, 4)).float().square().mean()
        scaler.scale(loss * (math.inf if overflow else 1.0)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        for name, mask in sparsifier.masks.items():
            assert is_plus_zero(model.get_submodule(name).weight[~mask])
    assert sparsifier.steps == 2


def test_accumulated_gradients_decide_as_one_large_batch():
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    masks = []
    for parts in (1, 4):
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        sparsifier = fixed(model, 0.4, rule=RigL(interval=1), total_steps=8).attach(optimizer)
        for part in x.chunk(parts):
            (model(part).square().mean() / parts).backward()
        optimizer.step()
        masks.append(dict(sparsifier.masks))
    for name, mask in masks[0].items():
        assert torch.equal(masks[1][name], mask)


def test_without_the_length_of_training_it_says_what_it_takes():
    sparsifier = fixed(small(), 0.4, rule=SET(interval=100))
    with pytest.warns(UserWarning, match="takes 10,000 steps; give total_steps="):
        sparsifier.step()
    assert sparsifier.total_steps == 10_000
    falling = fixed(small(), 0.4, rule=Magnitude(interval=100))
    with pytest.raises(
        UserError, match=r"density falls .* give total_steps=.*gs\.sparsity\.Static\(\)"
    ):
        falling.step()
    fixed(small(), 0.4).step()  # nothing to know, nothing to say
    with pytest.raises(UserError, match="total_steps must be a whole number of at least 1"):
        fixed(small(), 0.4, total_steps=0)


def test_the_layer_that_the_classes_size_stays_dense_where_blocks_do_not_divide_it():
    """The contract's own lines, with 12 classes and blocks of 8."""
    model = gs.models.speech_cnn(classes=12, activation_density=(0.095, 0.125, 0.10))
    sparsifier = fixed(
        model,
        density=0.05,
        pattern=gs.Block(8),
        allocation=gs.ERK(),
        schedule=gs.Cubic(until=0.5),
        rule=gs.RigL(interval=100),
    )
    assert list(sparsifier.masks) == ["conv1", "conv2", "linear1"]
    with pytest.raises(UserError, match="layer 'output': its 12 outputs do not divide"):
        fixed(model, 0.05, pattern=gs.Block(8), include=["last"])
    with pytest.raises(UserError, match="layer 'linear1': its 12 outputs do not divide"):
        fixed(gs.models.speech_cnn(hidden=12), 0.05, pattern=gs.Block(8))


def test_training_in_blocks():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
    sparsifier = fixed(
        model,
        density=0.05,
        pattern=gs.Block(8),
        allocation=gs.ERK(),
        schedule=gs.Cubic(until=0.5),
        rule=gs.RigL(interval=10),
        total_steps=60,
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        model(torch.randn(16, 64)).square().mean().backward()
        optimizer.step()
        sparsifier.step()
    kept = sum(kept for kept, _ in sparsifier.counts().values())
    assert kept == 128, "of 2,560 weights 5 %, in blocks"
    assert sum(int(layer.weight.count_nonzero()) for layer in (model[0], model[2])) <= 128


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_a_layer_that_was_replaced_is_an_error_at_the_next_step(attached, inner):
    """Its masks would be applied to a layer that nobody trains, and the new one stays dense."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
    sparsifier = gs.Sparsifier(model, 0.5, rule=gs.sparsity.Static())
    if inner:
        model[1][0] = nn.Linear(8, 8)
    else:
        model[1] = nn.Sequential(nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if attached:
        sparsifier.attach(optimizer)
    model(torch.randn(2, 8)).sum().backward()
    last = optimizer if attached else sparsifier
    with pytest.raises(UserError, match=r"layer '1\.0' was replaced or removed"):
        last.step()


def test_a_layer_may_move_into_another_module():
    """As adapters wrap it, and quantization in training takes its parameter over."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    sparsifier = gs.Sparsifier(model, 0.5, rule=gs.sparsity.Static())
    first, model[0] = model[0], nn.Sequential(model[0], nn.ReLU())
    taken, model[1] = model[1].weight, nn.Linear(8, 8)
    model[1].weight = taken
    for weight in (first.weight, taken):
        weight.data.fill_(1.0)
    for _ in range(2):
        sparsifier.step()
        for weight in (first.weight, taken):
            assert int((weight != 0).sum()) == 32
