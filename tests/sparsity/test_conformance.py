"""What every pattern, allocation, schedule and rule of the package must keep.

New ones are found by themselves. One that cannot be made without arguments needs an entry in
``EXAMPLES``.
"""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import gossamer.sparsity
from gossamer.errors import UserError
from gossamer.sparsity import (
    Allocation,
    Pattern,
    PerLayer,
    Rule,
    Schedule,
    Sparsifier,
    Unstructured,
    sparsifiable_layers,
)

EXAMPLES = {PerLayer: lambda: PerLayer({"1": 0.75})}
DENSITIES = (0.25, 0.5, 0.8, 1.0)
SHAPES = ((8, 16), (4, 8, 4), (4, 4, 4, 4))

for found in pkgutil.walk_packages(gossamer.sparsity.__path__, "gossamer.sparsity."):
    importlib.import_module(found.name)


def implementations(base: type) -> list:
    kinds, waiting = [], [base]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith("gossamer.") and not inspect.isabstract(kind):
                kinds.append(kind)
    assert kinds, f"no {base.__name__} found"
    return [
        pytest.param(EXAMPLES.get(kind, kind), id=kind.__name__)
        for kind in sorted(set(kinds), key=lambda kind: kind.__name__)
    ]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("base", [Pattern, Allocation, Schedule, Rule])
def test_implementations_are_public_and_documented(base):
    for parameter in implementations(base):
        name = parameter.id
        kind = getattr(gossamer.sparsity, name)
        assert name in gossamer.sparsity.__all__
        assert inspect.getdoc(kind) != inspect.getdoc(base)


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize("make", implementations(Pattern))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", DENSITIES)
class TestPattern:
    def test_count_depends_on_shape_and_density_alone(self, make, shape, density):
        masks = [make().mask(torch.randn(shape, generator=generator(s)), density) for s in range(4)]
        masks.append(make().mask(torch.zeros(shape), density))
        for mask in masks:
            assert mask.dtype == torch.bool
            assert mask.shape == shape
            units = mask.flatten(1).sum(1)
            assert (units == units[0]).all(), "every output unit has as many inputs"
            assert units[0] == masks[0].flatten(1).sum(1)[0]
            assert mask.float().mean().item() == pytest.approx(density, abs=1 / units.numel() / 2)

    def test_keeps_what_it_kept(self, make, shape, density):
        """Scores that are the mask itself give the mask again, so static masks stay."""
        mask = make().mask(torch.rand(shape, generator=generator()), density)
        assert torch.equal(make().mask(mask.float(), density), mask)

    def test_better_scores_are_kept(self, make, shape, density):
        scores = torch.rand(shape, generator=generator())
        mask = make().mask(scores, density)
        if not mask.all():
            assert scores[mask].mean() > scores[~mask].mean()

    def test_neither_scores_nor_global_generator_change(self, make, shape, density):
        scores = torch.rand(shape, generator=generator())
        before, state = scores.clone(), torch.get_rng_state()
        make().mask(scores, density)
        assert torch.equal(scores, before)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make", implementations(Pattern))
def test_pattern_refuses_units_without_inputs(make):
    with pytest.raises(UserError, match="inputs"):
        make().mask(torch.zeros(4, 10), 0.01)


def test_unstructured_by_hand():
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [[False, True, False, True], [True, True, False, False]]
    assert Unstructured().mask(scores, 0.5).tolist() == expected


# ---------------------------------------------------------------- allocations


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(32, 16), nn.Linear(16, 8))


@pytest.mark.parametrize("make", implementations(Allocation))
@pytest.mark.parametrize("density", DENSITIES)
def test_allocation_gives_every_layer_a_density(make, density):
    shapes = {name: layer.weight.shape for name, layer in sparsifiable_layers(network()).items()}
    found = make().densities(shapes, density)
    assert list(found) == list(shapes)
    assert all(isinstance(d, float) and 0.0 < d <= 1.0 for d in found.values())
    assert make().densities(shapes, density) == found


def test_allocations_by_hand():
    shapes = dict.fromkeys(("conv", "linear"), torch.Size([4, 4]))
    assert gossamer.sparsity.Uniform().densities(shapes, 0.3) == {"conv": 0.3, "linear": 0.3}
    found = PerLayer({"linear": 0.1}).densities(shapes, 0.3)
    assert found == {"conv": 0.3, "linear": 0.1}
    assert repr(PerLayer({"linear": 0.1})) == "PerLayer({'linear': 0.1})"


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize("make", implementations(Schedule))
@pytest.mark.parametrize("final", [0.05, 0.5, 1.0])
def test_schedule_falls_to_the_final_density(make, final):
    schedule = make()
    densities = [schedule.density(final, step) for step in (*range(20), 10**3, 10**6, 10**9)]
    assert all(final <= density <= 1.0 for density in densities)
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == final
    assert schedule.density(final, 0) == densities[0], "asked again, says the same"


def test_constant_by_hand():
    constant = gossamer.sparsity.Constant()
    assert [constant.density(0.2, step) for step in (0, 1, 999)] == [0.2, 0.2, 0.2]


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize("make", implementations(Rule))
class TestRule:
    def test_scores_fit_the_weight(self, make):
        rule, weight = make(), torch.randn(8, 4, 3, generator=generator())
        mask = torch.rand(8, 4, 3, generator=generator()) < 0.5
        state, before = torch.get_rng_state(), weight.clone()
        for scores in (
            rule.initial_scores(weight, generator()),
            rule.scores(weight, mask, generator()),
        ):
            assert scores.shape == weight.shape
            assert scores.device.type == "cpu"
            assert scores.isfinite().all()
        assert torch.equal(weight, before)
        assert torch.equal(torch.get_rng_state(), state), "the generator given is the only one"

    def test_equal_seeds_give_equal_scores(self, make):
        weight = torch.randn(8, 4, generator=generator())
        one, same = (make().initial_scores(weight, generator(5)) for _ in range(2))
        assert torch.equal(one, same)

    def test_due_is_a_plain_answer(self, make):
        rule = make()
        first = [rule.due(step) for step in range(1, 200)]
        assert all(isinstance(due, bool) for due in first)
        assert [rule.due(step) for step in range(1, 200)] == first

    def test_trains_with_exact_counts(self, make):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 2))
        sparsifier = Sparsifier(model, 0.4, rule=make())
        counts = sparsifier.counts()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        sparsifier.attach(optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(4, 12)).square().sum().backward()
            optimizer.step()
            assert sparsifier.counts() == counts
            for name, mask in sparsifier.masks.items():
                assert (model.get_submodule(name).weight[~mask] == 0).all()


def test_static_by_hand():
    rule, mask = gossamer.sparsity.Static(), torch.tensor([[True, False]])
    assert not any(rule.due(step) for step in range(1000))
    assert rule.scores(torch.tensor([[0.0, 9.0]]), mask, generator()).tolist() == [[1.0, 0.0]]
