"""Numbers of every kind, and models that cannot be made sparse: right, or one clear line."""

import copy
import math

import numpy as np
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
    SET,
    Block,
    Cubic,
    FittedBlock,
    PerLayer,
    Phases,
    RigL,
    Sparsifier,
    SparsitySettings,
    Static,
    Unstructured,
    rearrange,
)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))


def counted(density) -> list[int]:
    return [kept for kept, _ in fixed(network(), density).counts().values()]


# What takes a share, by the number that it makes of it.
SHARES = {
    "Sparsifier": lambda d: fixed(network(), d).density,
    "PerLayer": lambda d: PerLayer({"0": d}).by_layer["0"],
    "settings": lambda d: SparsitySettings().sparsifier(network(), d, {"0": d}).density,
    "prune": lambda d: gs.prune(network(), d).density,
    "Cubic": lambda d: Cubic(until=1, initial=d).initial,
    "KWinners": lambda d: gnn.KWinners(8, d).density,
    "KWinners2d": lambda d: gnn.KWinners2d(8, d).density,
    "Threshold": lambda d: gnn.Threshold(d).density,
    "sparsify_activations": lambda d: (
        gs.sparsify_activations(network(), d, example=torch.ones(1, 16))[1].density
    ),
    "AnnealActivations": lambda d: (
        gnn.AnnealActivations(nn.Sequential(gnn.KWinners(8, 0.1)), 9, start=d).start
    ),
}
WHOLES = {
    "Block": lambda n: Block(n).size,
    "FittedBlock": lambda n: FittedBlock(n).most,
    "NM": lambda n: NM(1, n).m,
    "RigL": lambda n: RigL(interval=n).interval,
    "Phases": lambda n: Phases(pairs=n).pairs,
    "total_steps": lambda n: fixed(network(), 0.5, total_steps=n).total_steps,
    "KWinners": lambda n: gnn.KWinners(n, 0.5).units,
    "period": lambda n: gnn.KWinners(4, 0.5, duty_cycle_period=n).duty_cycle_period,
    "winner_mask": lambda n: int(gnn.winner_mask(torch.ones(9), n).sum()),
    "steps": lambda n: gnn.AnnealActivations(nn.Sequential(gnn.KWinners(8, 0.1)), n).steps,
}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(
    "half", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)], ids=repr
)
def test_a_share_of_any_kind(name, half):
    found = SHARES[name](half)
    assert found == 0.5
    assert type(found) is float


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(
    "bad",
    [0, -0.5, 1.5, math.nan, math.inf, 10**400, True, np.bool_(True), "0.5", None, [0.5], [],
     np.array([0.5]), np.array(math.nan), torch.tensor([]), torch.tensor(0.5, device="meta"), 1j],
    ids=repr,
)  # fmt: skip
def test_no_share(name, bad):
    with pytest.raises(UserError) as caught:
        SHARES[name](bad)
    assert "above 0 and at most 1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize("four", [4, np.int32(4), np.array(4), torch.tensor(4)], ids=repr)
def test_a_whole_number_of_any_kind(name, four):
    found = WHOLES[name](four)
    assert found == 4
    assert type(found) is int


@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize(
    "bad", [-1, 1.5, math.nan, True, "4", None, [4], np.array([4]), torch.tensor(4.0)], ids=repr
)
def test_no_whole_number(name, bad):
    if name in ("total_steps", "RigL") and bad is None:
        return  # not known yet; follows the length of the training
    with pytest.raises(UserError, match="must be a whole number of at least") as caught:
        WHOLES[name](bad)
    assert "\n" not in str(caught.value)


def test_tiny_and_huge_numbers():
    with pytest.raises(UserError, match="leaves its output units without any"):
        fixed(network(), 5e-324)
    assert counted(np.nextafter(np.float32(1), np.float32(0))) == [512, 256]
    assert fixed(network(), 0.5, total_steps=2**62, rule=SET()).total_steps == 2**62
    with pytest.raises(UserError, match="total_steps must be at most 9,223,372,036,854,775,807"):
        fixed(network(), 0.5, total_steps=10**30, rule=SET())
    with pytest.raises(UserError, match="seed must be a whole number of at least 0, not -1"):
        fixed(network(), 0.5, seed=-1)
    assert fixed(network(), 0.5, seed=np.uint64(2**63)).counts()


@pytest.mark.parametrize("options", [{}, {"pattern": Block(7)}, {"allocation": ERK()}])
def test_a_density_is_needed(options):
    with pytest.raises(UserError, match="density must be above 0 and at most 1, not None"):
        fixed(network(), **options)
    named = fixed(network(), allocation=PerLayer({"0": 0.25}))
    assert named.counts() == {"0": (128, 512), "2": (256, 256)}


# ---------------------------------------------------------------- layers without a gradient


@pytest.mark.parametrize("rule", ["rigl", "granet"])
def test_a_layer_that_is_frozen_for_a_while_keeps_its_positions(rule):
    """Gradual unfreezing, and LayerDrop: the others go on changing."""
    model = network()
    kind = gs.sparsity.RULES[rule](interval=1)
    sparsifier = fixed(model, 0.25, rule=kind, pattern=Unstructured(), total_steps=20)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(20):
        model[0].requires_grad_(step >= 10)
        before = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        optimizer.zero_grad()
        model(torch.randn(4, 16)).square().sum().backward()
        optimizer.step()
        sparsifier.step(optimizer)
        if step < 10:
            assert not (sparsifier.masks["0"] & ~before["0"]).any(), "nothing grows"
        if 1 < step < 9:
            assert not torch.equal(sparsifier.masks["2"], before["2"])
    assert sum(kept for kept, _ in sparsifier.counts().values()) == round(0.25 * (512 + 256))


# ---------------------------------------------------------------- models of another kind


class Sharded(nn.Parameter):
    """Stands for a DTensor in the quick tests; the slow one below has real ones."""

    def full_tensor(self):
        return self.data


def sharded() -> nn.Module:
    model = network()
    model[0].weight = Sharded(model[0].weight.data)
    return model


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (sharded, "layer '0': its weight is sharded over processes"),
        (lambda: network().to("meta"), "layer '0' is on the meta device and has no numbers"),
        (lambda: torch.jit.script(network()), "the model is scripted"),
    ],
)
def test_models_without_weights_of_their_own(make, message):
    model = make()
    for attempt in (lambda: fixed(model, 0.5), lambda: gs.prune(model, 0.5)):
        with pytest.raises(UserError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of gloo
def test_weights_sharded_by_fsdp_are_refused_in_one_line():
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = network()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        assert isinstance(model[0].weight, DTensor)
        for attempt in (
            lambda: Sparsifier(model, 0.5),
            lambda: gs.prune(model, 0.5),
            lambda: gs.quantize(model),
            lambda: rearrange(model, 0.5, Block(4)),
        ):
            with pytest.raises(UserError, match="layer '0': its weight is sharded") as caught:
                attempt()
            assert "\n" not in str(caught.value)
        named = Sparsifier(nn.Sequential(model, nn.Linear(16, 8)), 0.5, exclude=["0.*"])
        assert list(named.masks) == ["1"]
    finally:
        distributed.destroy_process_group()


# ---------------------------------------------------------------- weights of every kind


def of_layout(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The same numbers, laid out in memory in another way."""
    if name == "Fortran":
        return weight.t().contiguous().t()
    if name == "every other":
        return torch.stack([weight, weight + 1], dim=-1)[..., 0]
    if name == "read-only":
        array = weight.numpy().copy()
        array.setflags(write=False)
        return torch.tensor(array)
    if name == "reversed":
        return torch.from_numpy(weight.numpy()[::-1].copy()).flip(0)
    return weight.clone()


WAYS = {
    "Sparsifier": lambda m: Sparsifier(m, 0.25),
    "static": lambda m: fixed(m, 0.25),
    "largest": lambda m: Sparsifier(m, 0.25, rule=Static(by="magnitude")),
    "prune": lambda m: gs.prune(m, 0.25),
    "calibrated": lambda m: gs.prune(m, 0.25, calibration=[torch.ones(4, 16)]),
    "blocks": lambda m: gs.prune(m, 0.25, pattern=Block(4)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", ["Fortran", "every other", "read-only", "reversed"])
def test_the_layout_in_memory_decides_nothing(layout, way):
    plain, other = network(), network()
    for layer in (other[0], other[2]):
        layer.weight = nn.Parameter(of_layout(layout, layer.weight.detach()))
    masks = [dict(WAYS[way](model).masks) for model in (plain, other)]
    for name, mask in masks[0].items():
        assert torch.equal(mask, masks[1][name])
        weights = [model.get_submodule(name).weight for model in (plain, other)]
        assert torch.allclose(*weights)
        assert not weights[1][~mask].any()


NOT_FINITE = [math.nan, math.inf, -math.inf]
PRUNING = ["prune", "calibrated", "blocks"]


@pytest.mark.parametrize(
    ("value", "way"),
    [
        *((value, way) for value in (3e38, 1e-45, 0.0) for way in WAYS if way != "calibrated"),
        *((value, way) for value in NOT_FINITE for way in WAYS if way not in PRUNING),
    ],
)
def test_weights_of_any_value_leave_exact_counts(value, way):
    model = network()
    with torch.no_grad():
        model[0].weight[::2] = value
    sparsifier = WAYS[way](model)
    final = sparsifier.densities.items()
    kept = sum(round(d * model.get_submodule(name).weight.numel()) for name, d in final)
    assert kept == round(0.25 * (512 + 256))
    for name, mask in sparsifier.masks.items():
        assert (model.get_submodule(name).weight[~mask] == 0).all()


@pytest.mark.parametrize("way", PRUNING)
@pytest.mark.parametrize("value", NOT_FINITE)
def test_pruning_refuses_weights_that_are_not_finite(value, way):
    model = network()
    with torch.no_grad():
        model[0].weight[::2] = value
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match="layer '0' are partly NaN or infinite"):
        WAYS[way](model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.full((4, 16), math.nan), "layer '0' are NaN, infinite or too large"),
        (torch.full((4, 16), math.inf), "layer '0' are NaN, infinite or too large"),
        (torch.full((4, 16), 3e38), "layer '0' are NaN, infinite or too large"),
        (torch.ones(4, 15), r"cannot take the calibration batch \[4, 15\]"),
        (torch.ones(4, 16).double(), "of torch.float64"),
        (torch.ones(4, 16).int(), "of torch.int32"),
        (np.ones((4, 16), np.float32), "must hold tensors"),
        ([1.0] * 16, "must hold tensors"),
    ],
    ids=["NaN", "infinite", "huge", "shape", "float64", "whole", "numpy", "list"],
)
def test_calibration_that_says_nothing_is_refused(batch, message):
    model = network()
    with pytest.raises(UserError, match=message) as caught:
        gs.prune(model, 0.5, calibration=[batch])
    assert "\n" not in str(caught.value)
    for name, value in network().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda m: gs.prune(m, 0.5, calibration=[]), "holds no batch"),
        (lambda m: gs.prune(m, 0.5, calibration=[torch.ones(0, 16)]), "none of them empty"),
        (lambda m: gs.prune(m, 0.5, calibration=[(torch.ones(1, 16), 3)]), "without labels"),
        (lambda m: gs.quantize(m, torch.ones(0, 16)), "the batch is empty"),
        (
            lambda m: gnn.calibrate(nn.Sequential(gnn.Threshold(0.5)), torch.ones(0, 4)),
            "is empty",
        ),
        (
            lambda m: gnn.calibrate(nn.Sequential(gnn.Threshold(0.5)), torch.tensor([math.nan])),
            "hold NaN or infinity",
        ),
        (
            lambda m: rearrange(m, 0.5, Unstructured()),
            r"must be a Block, not Unstructured\(\)",
        ),
        (lambda m: rearrange(m, "half"), "rearrange: density must be above 0"),
        (lambda m: PerLayer([0.5]), "by_layer maps layer names to densities"),
    ],
)
def test_wrong_use_is_one_clear_line(attempt, message):
    model = network()
    with pytest.raises(UserError, match=message) as caught:
        attempt(model)
    assert "\n" not in str(caught.value)
    for name, value in network().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


# ---------------------------------------------------------------- held up elsewhere


def step(model, optimizer, x):
    def closure():
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.LBFGS(p, max_iter=3),
        lambda p: torch.optim.AdamW(p, 0.01, fused=True),
        lambda p: torch.optim.Adam(p, 0.01, foreach=True),
    ],
    ids=["LBFGS", "fused", "foreach"],
)
def test_zeros_stay_zero_with_other_optimizers(make):
    model = network()
    optimizer = make(model.parameters())
    sparsifier = fixed(model, 0.25, rule=RigL(interval=2), total_steps=8).attach(optimizer)
    for _ in range(8):
        step(model, optimizer, torch.randn(4, 16))
        for name, mask in sparsifier.masks.items():
            assert not model.get_submodule(name).weight[~mask].any()
    assert sparsifier.steps == 8


def test_a_step_of_nan_moves_no_mask_and_leaves_zeros():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = fixed(model, 0.25, rule=RigL(interval=1), total_steps=8).attach(optimizer)
    masks = copy.deepcopy(dict(sparsifier.masks))
    step(model, optimizer, torch.full((4, 16), math.nan))
    for name, mask in sparsifier.masks.items():
        assert torch.equal(mask, masks[name])
        weight = model.get_submodule(name).weight
        assert weight[mask].isnan().any()
        assert (weight[~mask] == 0).all()


def test_erk_with_a_layer_that_would_be_above_1():
    model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2))
    sparsifier = fixed(model, 0.3, pattern=Unstructured(), allocation=ERK())
    assert sparsifier.densities["2"] == 1.0
    assert sum(kept for kept, _ in sparsifier.counts().values()) == round(0.3 * 10_200)


def test_blocks_of_a_convolution_with_channels_last():
    plain, last = nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3)
    last.load_state_dict(plain.state_dict())
    last.to(memory_format=torch.channels_last)
    masks = [
        fixed(nn.Sequential(layer), 0.3, pattern=Block(8)).masks["0"] for layer in (plain, last)
    ]
    assert torch.equal(*masks)
    assert masks[1].stride() == last.weight.stride()
    assert torch.equal(plain.weight, last.weight)
