"""The contract of every pattern, allocation, schedule and rule of the package.

They are those of the tables that settings name them by, and those that need arguments.
"""

import inspect
import math
from itertools import pairwise

import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

import gossamer.sparsity
from gossamer.errors import UserError
from gossamer.sparsity import (
    ALLOCATIONS,
    ERK,
    NM,
    PATTERNS,
    RULES,
    SCHEDULES,
    Allocation,
    Block,
    Constant,
    Cubic,
    FanIn,
    FittedBlock,
    Layer,
    Pattern,
    PerLayer,
    Phases,
    RigL,
    Rule,
    Schedule,
    Static,
    TopK,
    Unstructured,
)

MORE_ALLOCATIONS = {"per_layer": lambda: PerLayer({"1": 0.75}, rest=ERK())}
SHAPES = ((16, 16), (16, 8, 4), (16, 4, 4, 4))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def each(table):
    return pytest.mark.parametrize("make", [pytest.param(v, id=k) for k, v in table.items()])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("base", "table"),
    [
        (Pattern, PATTERNS),
        (Allocation, ALLOCATIONS | MORE_ALLOCATIONS),
        (Schedule, SCHEDULES),
        (Rule, RULES),
    ],
)
def test_every_implementation_is_public_documented_and_in_its_table(base, table):
    kinds, waiting = set(), [base]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        own = {k for k in below if k.__module__.startswith("gossamer.sparsity.")}
        kinds |= {k for k in own if not k.__name__.startswith("_")}
    assert kinds == {type(make()) for make in table.values()}
    assert kinds
    for kind in kinds:
        assert kind.__name__ in gossamer.sparsity.__all__
        assert inspect.getdoc(kind) != inspect.getdoc(base)


# ---------------------------------------------------------------- patterns


def densities(pattern):
    return (0.5, 1.0) if isinstance(pattern, NM) else (0.25, 0.5, 0.8, 1.0)


@each(PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("device", DEVICES)
class TestPattern:
    def test_counts_are_exact_whatever_the_scores(self, make, shape, device):
        pattern = make()
        for density in densities(pattern):
            pattern.check(shape, density)
            keep = pattern.keep(shape, density)
            assert keep == pytest.approx(math.prod(shape) * density, abs=shape[0] / 2)
            for scores in (torch.randn(shape, generator=generator()), torch.zeros(shape)):
                mask = pattern.mask(scores.to(device), keep)
                assert mask.dtype == torch.bool
                assert mask.shape == shape
                assert mask.device.type == device
                assert int(mask.sum()) == keep
                assert mask.flatten(1).any(1).all(), "every output unit has an input"

    def test_fewer_survive_where_less_is_asked_for(self, make, shape, device):
        """Rules keep a part first; any number is taken as the nearest possible."""
        pattern, scores = make(), torch.rand(shape, generator=generator()).to(device)
        keep = pattern.keep(shape, 0.5)
        for wanted in range(pattern.least(shape), keep + 1, 7):
            count = int(pattern.mask(scores, wanted).sum())
            assert pattern.least(shape) <= count <= keep

    def test_keeps_what_must_stay(self, make, shape, device):
        """Infinite scores at positions that follow the pattern are all kept."""
        pattern, scores = make(), torch.rand(shape, generator=generator()).to(device)
        keep = pattern.keep(shape, 0.5)
        part = pattern.mask(scores, max(keep // 2, pattern.least(shape)))
        others = torch.rand(shape, generator=generator(1)).to(device)
        mask = pattern.mask(others.masked_fill(part, torch.inf), keep)
        assert mask[part].all()
        assert int(mask.sum()) == keep
        assert torch.equal(pattern.mask(mask.float(), keep), mask)

    def test_better_scores_stay(self, make, shape, device):
        scores = torch.rand(shape, generator=generator()).to(device)
        mask = make().mask(scores, make().keep(shape, 0.5))
        assert scores[mask].mean() > scores[~mask].mean()

    def test_neither_scores_nor_global_generator_change(self, make, shape, device):
        scores = torch.rand(shape, generator=generator()).to(device)
        before, state = scores.clone(), torch.get_rng_state()
        make().mask(scores, make().keep(shape, 0.5))
        assert torch.equal(scores, before)
        assert torch.equal(torch.get_rng_state(), state)


@each({name: make for name, make in PATTERNS.items() if name != "2:4"})
def test_pattern_refuses_units_without_inputs(make):
    with pytest.raises(UserError, match=r"0.01 leaves .* 10 inputs; use at least 0.1"):
        make().check((16, 10), 0.01)


def test_fan_in_by_hand():
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [[False, True, False, True], [True, True, False, False]]
    assert FanIn().mask(scores, 4).tolist() == expected


def test_unstructured_by_hand():
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0], [0.5, 0.5, 0.0, 0.0]])
    # The second unit's best comes before the first unit's better ones; ties by lowest index.
    expected = [[False, True, False, True], [True, False, False, False]]
    assert Unstructured().mask(scores, 3).tolist() == expected
    assert Unstructured().mask(torch.zeros(2, 4), 3).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
    ]


def test_each_layer_has_the_largest_blocks_that_divide_it():
    pattern = FittedBlock(16)
    sizes = {64: 16, 1000: 8, 12: 4, 30: 2, 7: 1}
    assert {rows: pattern.fitted((rows, 9)).size for rows in sizes} == sizes
    for rows, size in sizes.items():
        scores = torch.rand(rows, 20, generator=generator())
        keep = pattern.keep((rows, 20), 0.3)
        assert pattern.mask(scores, keep).equal(Block(size).mask(scores, keep))
    with pytest.raises(UserError, match="4 outputs in each of 4 groups do not divide"):
        pattern.check((16, 10), 0.5, 4)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Flatten(), nn.Linear(32, 40), nn.Linear(40, 10))
    sparsifier = fixed(model, 0.25, pattern=pattern)
    for (name, mask), size in zip(sparsifier.masks.items(), (16, 8, 2), strict=True):
        blocks = mask.flatten(1).unflatten(0, (-1, size))
        assert (blocks == blocks[:, :1]).all(), name


def test_block_by_hand():
    scores = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 0.5], [1.0, 0.0, 0.0], [1.0, 9.0, 0.0]])
    expected = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert Block(2).mask(scores, 4).int().tolist() == expected
    # Sums of blocks: 3, 2, 1.5 and 2, 9, 0: the third block is the first 2.
    expected = [[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert Block(2).mask(scores, 6).int().tolist() == expected


@pytest.mark.parametrize("size", [4, 8, 16])
def test_blocks_share_their_inputs(size):
    mask = Block(size).mask(torch.rand(32, 3, 3, 3, generator=generator()), 8 * size * 3)
    blocks = mask.view(32 // size, size, -1)
    assert (blocks == blocks[:, :1]).all()


def test_n_of_m_by_hand():
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 9.0, 0.0]])
    expected = [[0, 0, 1, 1, 1, 0, 1, 0]]
    assert NM(2, 4).mask(scores, 4).int().tolist() == expected
    kernel = NM(1, 2).mask(torch.rand(3, 4, 2, 2, generator=generator()), 24)
    assert (kernel.view(3, 2, 2, 2, 2).sum(2) == 1).all(), "one of two channels at every tap"


@pytest.mark.parametrize(
    ("pattern", "shape", "density", "groups", "message"),
    [
        (Block(8), (12, 10), 0.5, 1, r"12 outputs do not divide into blocks of 8; use Block\(4\)"),
        (Block(8), (7, 10), 0.5, 1, "7 outputs do not divide into blocks of 8; keep it dense"),
        (Block(8), (16, 10), 0.5, 4, "4 outputs in each of 4 groups do not divide"),
        (NM(2, 4), (8, 6), 0.5, 1, "6 inputs do not divide into groups of 4; use a group of 2"),
        (NM(2, 4), (8, 8), 0.1, 1, "density 0.1 is not that of 2:4; give 0.5, or 1"),
    ],
)
def test_pattern_that_does_not_fit_says_what_would(pattern, shape, density, groups, message):
    with pytest.raises(UserError, match=message):
        pattern.check(shape, density, groups)
    pattern.check(shape, 1.0, groups)


@pytest.mark.parametrize(
    "make", [lambda: Block(0), lambda: Block(1.5), lambda: NM(3, 2), lambda: NM(0, 2)]
)
def test_patterns_that_are_none(make):
    with pytest.raises(UserError, match=r"Block|NM"):
        make()


# ---------------------------------------------------------------- allocations


def weights() -> dict[str, torch.Tensor]:
    numbers = generator()
    return {
        "0": torch.randn(8, 4, 3, 3, generator=numbers),
        "1": torch.randn(16, 32, generator=numbers),
        "2": 3 * torch.randn(8, 16, generator=numbers),
    }


@each(ALLOCATIONS | MORE_ALLOCATIONS)
@pytest.mark.parametrize("density", [0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("device", DEVICES)
def test_allocation_gives_every_layer_a_density(make, density, device):
    layers = {name: weight.to(device) for name, weight in weights().items()}
    found = make().densities(layers, density)
    assert list(found) == list(layers)
    assert all(isinstance(d, float) and 0.0 < d <= 1.0 for d in found.values())
    assert make().densities(weights(), density) == found, "on every device the same"


@each(ALLOCATIONS)
@pytest.mark.parametrize("density", [0.1, 0.25, 0.333, 0.5, 0.8, 0.99, 1.0])
def test_network_keeps_its_density_to_the_weight(make, density):
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(32, 16), nn.Linear(16, 8))
    total = sum(layer.weight.numel() for layer in model)
    sparsifier = fixed(model, density, pattern=Unstructured(), allocation=make())
    assert sum(kept for kept, _ in sparsifier.counts().values()) == round(total * density)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(32, 16), nn.Linear(16, 8))
    sparsifier = fixed(model, density, pattern=Block(4), allocation=make())
    kept = sum(kept for kept, _ in sparsifier.counts().values())
    assert kept == pytest.approx(total * density, abs=2.5)


def test_allocations_by_hand():
    layers = {"conv": torch.ones(4, 4), "linear": torch.ones(4, 4)}
    assert gossamer.sparsity.Uniform().densities(layers, 0.3) == {"conv": 0.3, "linear": 0.3}
    found = PerLayer({"linear": 0.1}).densities(layers, 0.3)
    assert found == {"conv": 0.3, "linear": 0.1}
    assert repr(PerLayer({"linear": 0.1})) == "PerLayer({'linear': 0.1})"
    assert repr(PerLayer({"linear": 0.1}, ERK())) == "PerLayer({'linear': 0.1}, rest=ERK())"


def test_erk_by_hand():
    # (10 + 10) / 100 = 0.2 and (100 + 10) / 1000 = 0.11: in this proportion.
    layers = {"small": torch.ones(10, 10), "large": torch.ones(100, 10)}
    found = ERK().densities(layers, 0.1)
    assert found["small"] / found["large"] == pytest.approx(0.2 / 0.11)
    assert 100 * found["small"] + 1000 * found["large"] == pytest.approx(110)
    # At 0.7 the small layer is full and the large one takes the rest of 770.
    found = ERK().densities(layers, 0.7)
    assert found == {"small": 1.0, "large": pytest.approx(0.67)}
    kernel = ERK().densities({"a": torch.ones(2, 3, 5, 7), "b": torch.ones(2, 3)}, 0.1)
    assert kernel["a"] / kernel["b"] == pytest.approx((17 / 210) / (5 / 6))


def test_global_keeps_the_largest_wherever_they_are():
    layers = {
        "a": torch.tensor([[1.0, 2.0], [0.1, 0.2]]),
        "b": torch.tensor([[9.0, 8.0, -7.0, 0.0]]),
    }
    # One for each output unit: 2, 0.2, 9; of the rest the largest is 8, then 7.
    found = gossamer.sparsity.Global().densities(layers, 5 / 8)
    assert found == {"a": 2 / 4, "b": 3 / 4}
    with pytest.raises(UserError, match=r"use at least 0.38"):
        gossamer.sparsity.Global().densities(layers, 2 / 8)


# ---------------------------------------------------------------- schedules


@each(SCHEDULES)
@pytest.mark.parametrize("final", [0.05, 0.5, 1.0])
def test_schedule_ends_at_the_final_density(make, final):
    schedule = make()
    found = [schedule.density(final, step / 100) for step in range(101)]
    assert all(final <= density <= 1.0 for density in found)
    assert found[-1] == final
    assert schedule.density(final, 0.0) == found[0], "asked again, says the same"


def test_schedules_by_hand():
    assert [Constant().density(0.2, share) for share in (0.0, 0.1, 1.0)] == [0.2, 0.2, 0.2]
    cubic = Cubic(until=0.6, start=0.2)
    found = [cubic.density(0.2, share) for share in (0.0, 0.2, 0.4, 0.6, 0.9)]
    assert found == pytest.approx([1.0, 1.0, 0.2 + 0.8 / 8, 0.2, 0.2])
    assert Cubic(initial=0.5).density(0.1, 0.0) == 0.5
    assert Cubic(initial=0.5).density(0.8, 0.0) == 0.8, "nothing grows first"
    phases = Phases(pairs=2, start=0.2, until=0.6)
    found = [phases.density(0.1, share) for share in (0.1, 0.25, 0.35, 0.45, 0.55, 0.65, 1.0)]
    assert found == [1.0, 0.1, 1.0, 0.1, 1.0, 0.1, 0.1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cubic(until=1.5),
        lambda: Cubic(until="half"),
        lambda: Cubic(start=0.5, until=0.5),
        lambda: Cubic(initial=0.0),
        lambda: Phases(pairs=0),
        lambda: Phases(start=0.9),
    ],
)
def test_schedules_that_are_none(make):
    with pytest.raises(UserError, match=r"Cubic|Phases"):
        make()


# ---------------------------------------------------------------- rules


def mlp(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16))


def steps(model, optimizer, sparsifier, count, start=0):
    """``count`` optimizer steps on data that depend on the step alone."""
    device = next(model.parameters()).device
    for step in range(start, start + count):
        x = torch.randn(4, 12, generator=generator(step)).to(device)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        sparsifier.step(optimizer)
        yield step


def quick(make):
    """The rule with changes often enough for a short training."""
    kind = make().__class__
    return kind(interval=min(make().interval or 3, 3))


@each(RULES)
@pytest.mark.parametrize("device", DEVICES)
class TestRule:
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_counts_are_exact_and_zeros_stay_zero(self, make, pattern, device):
        pattern = PATTERNS[pattern]()
        density = 0.5 if isinstance(pattern, NM) else 0.4
        model = mlp().to(device)
        rule = quick(make)
        sparsifier = fixed(model, density, rule=rule, pattern=pattern, total_steps=20)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=0.1)
        before = sum(kept for kept, _ in sparsifier.counts().values())
        for _ in steps(model, optimizer, sparsifier, 20):
            for name, mask in sparsifier.masks.items():
                weight = model.get_submodule(name).weight
                assert (weight[~mask] == 0).all()
                assert mask.flatten(1).any(1).all()
                blocks = mask.numel() == pattern.mask(mask.float(), int(mask.sum())).eq(mask).sum()
                assert blocks, "the mask follows its pattern"
            kept = sum(kept for kept, _ in sparsifier.counts().values())
            if make is not RULES["acdc"]:
                assert kept <= before, "densities fall"
            before = kept
        assert sparsifier.settled
        step = pattern.granularity or 0
        for name, (kept, size) in sparsifier.counts().items():
            nominal = pattern.keep(sparsifier.masks[name].shape, density)
            assert abs(kept - nominal) <= step, name
            assert kept < size
        if step:
            assert before == pytest.approx(density * (12 + 16) * 16, abs=step / 2)

    def test_learning_reaches_every_remaining_weight(self, make, device):
        model = mlp().to(device)
        sparsifier = fixed(model, 0.4, rule=quick(make), total_steps=12)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for _ in steps(model, optimizer, sparsifier, 12):
            pass
        before = {name: model.get_submodule(name).weight.clone() for name in sparsifier.masks}
        masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        for _ in steps(model, optimizer, sparsifier, 1, start=12):
            pass
        for name, mask in masks.items():
            moved = model.get_submodule(name).weight != before[name]
            assert moved[mask].float().mean() > 0.5

    @pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
    def test_resumed_training_is_the_same_bit_for_bit(self, make, kind, device):
        def fresh(seed):
            model = mlp(seed).to(device)
            sparsifier = fixed(
                model, 0.4, rule=quick(make), pattern=Unstructured(), total_steps=20, seed=seed
            )
            options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
            return model, sparsifier, kind(model.parameters(), 0.01, **options)

        whole, whole_sparsifier, optimizer = fresh(0)
        for _ in steps(whole, optimizer, whole_sparsifier, 20):
            pass
        model, sparsifier, optimizer = fresh(0)
        for _ in steps(model, optimizer, sparsifier, 8):
            pass
        saved = [thing.state_dict() for thing in (model, sparsifier, optimizer)]
        model, sparsifier, optimizer = fresh(1)
        for thing, state in zip((model, sparsifier, optimizer), saved, strict=True):
            thing.load_state_dict(state)
        for _ in steps(model, optimizer, sparsifier, 12, start=8):
            pass
        for name, value in whole.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name
        for name, value in whole_sparsifier.state_dict().items():
            assert torch.equal(sparsifier.state_dict()[name], value), name

    def test_equal_seeds_give_equal_masks_and_the_global_generator_is_left_alone(
        self, make, device
    ):
        found = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            state = torch.get_rng_state()
            model = mlp().to(device)
            sparsifier = fixed(model, 0.4, rule=quick(make), total_steps=20, seed=5)
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
            for _ in steps(model, optimizer, sparsifier, 20):
                pass
            assert torch.equal(torch.get_rng_state(), state)
            found.append(sparsifier.state_dict())
        for name, value in found[0].items():
            assert torch.equal(found[1][name], value), name

    def test_scores_are_finite_and_leave_the_weight(self, make, device):
        weight = torch.randn(8, 4, 3, generator=generator()).to(device)
        weight[0, 0, 0], weight[1, 0, 0] = math.nan, math.inf
        before = weight.clone()
        mask = torch.rand(8, 4, 3, generator=generator()).to(device) < 0.5
        layer = Layer(weight, mask, weight.clone(), generator())
        for scores in (
            make().initial_scores(weight, generator()),
            make().importance(layer),
            make().growth(layer),
        ):
            assert scores.shape == weight.shape
            assert scores.isfinite().all()
            assert (scores >= 0).all()
        assert torch.equal(weight.nan_to_num(), before.nan_to_num())

    def test_refuses_what_makes_no_sense(self, make, device):
        kind = make().__class__
        for bad in ({"interval": 0}, {"interval": 1.5}, {"until": -0.1}, {"until": 2}):
            with pytest.raises(UserError, match=kind.__name__):
                kind(**bad)


def updated(rule, weight, mask, keep, share=0.0, gradient=None, pattern=None):
    layer = Layer(torch.tensor([weight]), torch.tensor([mask]) > 0, gradient, generator())
    return rule.update(layer, pattern or Unstructured(), keep, share).int().tolist()[0]


def test_static_by_hand():
    rule = Static()
    assert not any(rule.due(step, 1000) for step in range(1000))
    assert updated(rule, [0.0, 9.0, 1.0], [1, 0, 1], 2) == [1, 0, 1]
    assert updated(Static(by="magnitude"), [3.0, 0.0, -4.0], [1, 0, 1], 1) == [0, 0, 1]


def test_rigl_by_hand():
    # Of 4 kept, half go: the smallest, 1 and -2. Of the free positions (and those just dropped)
    # the largest gradients, 8 and -9, come in.
    gradient = torch.tensor([[0.0, 7.0, 0.0, -9.0, 1.0, 8.0]])
    rule = RigL(fraction=0.5)
    weight, mask = [1.0, -2.0, 3.0, 0.0, -4.0, 0.0], [1, 1, 1, 0, 1, 0]
    assert updated(rule, weight, mask, 4, gradient=gradient) == [0, 0, 1, 1, 1, 1]
    # At a third of its time the cosine stands at 3/4: 37.5 % of 4 go, rounded: 2 stay... 2.5 -> 2.
    assert rule.drop(0.25) == pytest.approx(0.5 * 0.75)
    assert rule.drop(0.75) == rule.drop(1.0) == 0.0
    assert updated(rule, weight, mask, 4, share=0.75, gradient=gradient) == mask
    assert [step for step in range(1, 1001) if rule.due(step, 1000)] == list(range(31, 751, 31))


def test_top_k_lets_masked_weights_in_and_magnitude_does_not():
    weight, mask = [1.0, 5.0, 3.0, 0.1], [1, 0, 1, 1]
    assert updated(TopK(), weight, mask, 2) == [0, 1, 1, 0]
    assert updated(gossamer.sparsity.Magnitude(), weight, mask, 2) == [1, 0, 1, 0]


def test_acdc_is_dense_and_sparse_by_turns():
    model = mlp()
    rule = gossamer.sparsity.ACDC()
    sparsifier = fixed(model, 0.25, rule=rule, total_steps=40)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    sparse = [
        sum(kept for kept, _ in sparsifier.counts().values()) == 0.25 * (12 + 16) * 16
        for _ in steps(model, optimizer, sparsifier, 40)
    ]
    changes = sum(one != two for one, two in pairwise(sparse))
    assert changes == 9, "four sparse and dense phases, and the last sparse one"
    assert not sparse[0]
    assert all(sparse[30:])
