"""k-winners: worked by hand, and against a stable sort in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.utils.checkpoint import checkpoint

from gossamer.errors import UserError
from gossamer.nn import KWinners, KWinners2d, decay_boost, winner_mask

QUICK = settings(max_examples=60, deadline=None)
# Few different values, so that nearly every array has ties at the k-th place.
TIED = st.sampled_from([-math.inf, -1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, math.inf])
FINITE = st.sampled_from([-1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])


def oracle(x: np.ndarray, k: int) -> np.ndarray:
    """Winners along the last dimension by a stable sort: ties to the lowest index."""
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    mask = np.zeros(x.shape, bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask


def images(elements=FINITE):
    shape = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
    return shape.flatmap(lambda s: hnp.arrays(np.float32, s, elements=elements))


# ---------------------------------------------------------------- which units win


@pytest.mark.parametrize(
    ("x", "k", "winners"),
    [
        ([1.0, 5.0, 3.0, 4.0], 2, [1, 3]),
        ([-1.0, -5.0, -3.0], 1, [0]),
        ([2.0, 2.0, 2.0, 2.0], 2, [0, 1]),
        ([1.0, 2.0, 3.0, 2.0, 2.0], 3, [1, 2, 3]),
        ([0.0, -0.0, 0.0], 2, [0, 1]),
        ([1.0, 2.0], 2, [0, 1]),
        ([1.0, 2.0], 7, [0, 1]),
        ([1.0, 2.0], 0, []),
    ],
)
def test_winners_by_hand(x, k, winners):
    assert winner_mask(torch.tensor(x), k).nonzero().flatten().tolist() == winners


def test_infinities_are_ordinary_values():
    inf = math.inf
    x = torch.tensor([[-inf, inf, 1.0, inf], [-inf, -inf, 0.0, -inf], [inf, inf, inf, inf]])
    assert winner_mask(x, 2).tolist() == [
        [False, True, False, True],
        [True, False, True, False],
        [True, True, False, False],
    ]


@QUICK
@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=TIED),
    k=st.integers(1, 12),
)
def test_winner_mask_is_a_stable_sort(x, k):
    mask = winner_mask(torch.from_numpy(x), k).numpy()
    np.testing.assert_array_equal(mask, oracle(x, k))
    assert (mask.sum(-1) == min(k, x.shape[-1])).all()


@pytest.mark.parametrize(
    ("x", "k", "winners"),
    [
        ([3.0, math.nan, 2.0, 1.0], 1, [1]),
        ([3.0, -math.nan, 2.0, 1.0], 3, [0, 1, 2]),
        ([math.inf, 1.0, math.nan, math.inf], 1, [0]),
        ([-math.inf, math.nan, math.inf, math.nan], 2, [1, 2]),
        ([math.nan] * 4, 2, [0, 1]),
        ([1.0, math.nan], 0, []),
    ],
)
def test_nan_counts_as_infinity(x, k, winners):
    rows = torch.tensor([x, [4.0, 3.0, 2.0, 1.0][: len(x)]])
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        mask = winner_mask(rows.to(kind), k)
        assert mask[0].nonzero().flatten().tolist() == winners
        assert mask[1].nonzero().flatten().tolist() == list(range(k)), "rows are independent"


FORMS = {
    "units": lambda: KWinners(8, 0.25, duty_cycle_period=1000),
    "global": lambda: KWinners2d(8, 0.25),
    "local": lambda: KWinners2d(8, 0.25, local=True),
}
INPUTS = {
    "kernel": lambda x: x,
    "torch": lambda x: x.double(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", INPUTS)
def test_samples_with_nan_pass_it_on_and_teach_nothing(form, order):
    if form == "units" and order == "channels last":
        return
    x = torch.randn(5, 8, *(() if form == "units" else (2, 3)))
    spoiled = x.clone()
    spoiled[1, 3], spoiled[4, 0] = math.nan, math.nan
    layer, clean = FORMS[form](), FORMS[form]()
    y = layer(INPUTS[order](spoiled))
    assert y[1, 3].isnan().any()
    assert y[4, 0].isnan().any()
    assert int((y != 0).sum()) == layer.winners(8) * y.numel() // 8, "k winners in every row"
    clean(INPUTS[order](x[[0, 2, 3]]))
    assert layer.samples_seen == clean.samples_seen == 3
    torch.testing.assert_close(layer.duty_cycle, clean.duty_cycle)
    layer(INPUTS[order](torch.full_like(x, math.nan)))
    torch.testing.assert_close(layer.duty_cycle, clean.duty_cycle)


CASTS = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "to": lambda m: m.to(torch.bfloat16),
    "double": lambda m: m.double(),
    "assign": lambda m: m.load_state_dict(
        {k: v.bfloat16() if v.is_floating_point() else v for k, v in m.state_dict().items()},
        assign=True,
    ),
}


@pytest.mark.parametrize("cast", CASTS)
def test_duty_cycles_learn_in_float32_whatever_the_model_is_in(cast):
    model = nn.Sequential(nn.Linear(20, 20), KWinners(20, 0.05, boost_strength=0.0))
    model[1](torch.eye(20)[:2])
    before = model[1].duty_cycle.clone()
    CASTS[cast](model)
    layer = model[1]
    assert layer.duty_cycle.dtype == layer.boost_strength.dtype == torch.float32
    torch.testing.assert_close(layer.duty_cycle, before, rtol=0.01, atol=0)
    numbers = torch.Generator().manual_seed(0)
    for _ in range(100):
        layer(torch.randn(32, 20, generator=numbers).abs().to(model[0].weight.dtype))
    assert layer.duty_cycle.mean().item() == pytest.approx(0.05, rel=1e-3)
    assert layer.duty_cycle.max().item() < 0.1


@pytest.mark.parametrize("equal", [-math.inf, math.inf, 0.0, 1.0])
def test_of_70_000_equal_units_the_first_win(equal):
    layer = KWinners(70_000, 0.01, boost_strength=0.0)
    for x in (torch.full((1, 70_000), equal), torch.full((1, 70_000), equal).double()):
        y = layer(x)
        assert torch.equal(y[0, :700], x[0, :700])
        assert not y[0, 700:].any()


@QUICK
@given(
    x=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(7)), elements=TIED),
    density=st.floats(0.01, 1.0),
)
def test_kwinners_equals_oracle(x, density):
    layer = KWinners(7, density, boost_strength=0.0)
    k = min(max(round(7 * density), 1), 7)
    expected = np.where(oracle(x, k), x, 0.0)
    for mode in (True, False):
        np.testing.assert_array_equal(layer.train(mode)(torch.from_numpy(x)).numpy(), expected)


@QUICK
@given(x=images(), density=st.floats(0.01, 1.0), local=st.booleans(), data=st.data())
def test_kwinners2d_equals_oracle(x, density, local, data):
    batch, channels, height, width = x.shape
    layer = KWinners2d(channels, density, local=local, boost_strength=1.3).eval()
    duty = st.sampled_from([0.0, 0.25, 1.0])
    layer.duty_cycle.copy_(
        torch.tensor(data.draw(st.lists(duty, min_size=channels, max_size=channels)))
    )
    n = channels if local else channels * height * width
    k = min(max(round(n * density), 1), n)
    boosted = (torch.from_numpy(x) * layer.boost(n).view(-1, 1, 1)).numpy()
    if local:
        mask = np.moveaxis(oracle(np.moveaxis(boosted, 1, -1), k), -1, 1)
        assert (mask.sum(1) == k).all()
    else:
        mask = oracle(boosted.reshape(batch, -1), k).reshape(x.shape)
        assert (mask.sum((1, 2, 3)) == k).all()
    expected = np.where(mask, x, 0.0)
    np.testing.assert_array_equal(layer(torch.from_numpy(x)).numpy(), expected)


def test_global_and_local_by_hand():
    # Channel 0 is large everywhere, channel 1 small: globally only channel 0 wins.
    x = torch.tensor([[[[4.0, 3.0]], [[1.0, 2.0]]]])
    whole = KWinners2d(2, 0.5, boost_strength=0.0)(x)
    assert whole.tolist() == [[[[4.0, 3.0]], [[0.0, 0.0]]]]
    local = KWinners2d(2, 0.5, local=True, boost_strength=0.0)(x.flip(1))
    assert local.tolist() == [[[[0.0, 0.0]], [[4.0, 3.0]]]]
    ties = KWinners2d(2, 0.5, boost_strength=0.0)(torch.ones(1, 2, 1, 2))
    assert ties.tolist() == [[[[1.0, 1.0]], [[0.0, 0.0]]]]


def test_sequences_and_lengths():
    tokens = torch.arange(12.0).view(1, 3, 4)
    assert (KWinners(4, 0.25)(tokens) != 0).sum(-1).tolist() == [[1, 1, 1]]
    one_dimensional = KWinners2d(3, 1 / 3, local=True, boost_strength=0.0)(tokens)
    assert one_dimensional.nonzero()[:, 1].tolist() == [2, 2, 2, 2]


def test_all_units_win_is_the_identity():
    x = torch.randn(3, 4, 2, 2)
    assert torch.equal(KWinners2d(4, 1.0)(x), x)
    assert torch.equal(KWinners2d(4, 1.0, local=True)(x), x)
    assert torch.equal(KWinners(2, 1.0)(x), x)
    assert torch.equal(KWinners(2, 1.0, relu=True)(x), x.relu())


def test_relu_removes_negative_winners():
    x = torch.tensor([[-1.0, -2.0, 3.0]])
    assert KWinners(3, 0.67)(x).tolist() == [[-1.0, 0.0, 3.0]]
    assert KWinners(3, 0.67, relu=True)(x).tolist() == [[0.0, 0.0, 3.0]]
    assert KWinners2d(3, 0.67, relu=True)(x.view(1, 3, 1)).flatten().tolist() == [0.0, 0.0, 3.0]


def test_at_least_one_unit_wins():
    assert KWinners(10, 0.001).winners(10) == 1


@pytest.mark.parametrize("local", [False, True])
def test_gradient_reaches_winners_only(local):
    x = torch.tensor([[[3.0, 1.0], [2.0, 4.0]]], requires_grad=True)
    layer = KWinners2d(2, 0.5, local=local)
    layer.duty_cycle.copy_(torch.tensor([0.1, 0.0]))
    y = layer(x)
    (y * torch.tensor([[[10.0, 20.0], [30.0, 40.0]]])).sum().backward()
    assert x.grad.tolist() == [[[10.0, 0.0], [0.0, 40.0]]], "unscaled by the boost"


@pytest.mark.parametrize("local", [False, True])
def test_channels_last_equals_contiguous(local):
    x = torch.randn(2, 5, 3, 4).mul(2).round()
    plain, last = (KWinners2d(5, 0.3, local=local) for _ in range(2))
    found = last(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(found, plain(x))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.duty_cycle, plain.duty_cycle)


@pytest.mark.parametrize(
    "layer", [KWinners(4, 0.5), KWinners2d(4, 0.5), KWinners2d(4, 0.5, local=True)]
)
def test_an_empty_batch_changes_nothing(layer):
    x = torch.zeros(0, 4) if isinstance(layer, KWinners) else torch.zeros(0, 4, 2, 2)
    assert layer(x).shape == x.shape
    assert layer.duty_cycle.tolist() == [0.0] * 4


# ---------------------------------------------------------------- boosting


def test_boost_by_hand():
    layer = KWinners(4, 0.5, boost_strength=2.0)
    layer.duty_cycle.copy_(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    expected = [math.exp(1.0), math.exp(0.5), 1.0, math.exp(-1.0)]
    assert layer.boost(4).tolist() == pytest.approx(expected)


def test_boosted_units_win_with_their_own_value():
    layer = KWinners(3, 1 / 3, boost_strength=1.0).eval()
    x = torch.tensor([[1.0, 1.2, 0.5]])
    assert layer(x).tolist() == [[0.0, pytest.approx(1.2), 0.0]]
    layer.duty_cycle.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert layer(x).tolist() == [[1.0, 0.0, 0.0]]


def test_boost_of_the_global_form_aims_at_its_share_of_all_units():
    layer = KWinners2d(2, 0.25, boost_strength=1.0)
    layer.duty_cycle.copy_(torch.tensor([0.25, 0.0]))
    # 2 channels x 4 positions: k = 2 of 8.
    assert layer.boost(8).tolist() == pytest.approx([1.0, math.exp(0.25)])


def test_duty_cycle_by_hand():
    layer = KWinners(2, 0.5, boost_strength=0.0, duty_cycle_period=4)
    layer(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))  # period 2: counts (2, 0) / 2
    assert layer.duty_cycle.tolist() == [1.0, 0.0]
    layer(torch.tensor([[0.0, 1.0]]))  # period 3: ((1, 0) * 2 + (0, 1)) / 3
    assert layer.duty_cycle.tolist() == pytest.approx([2 / 3, 1 / 3])
    layer(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # period 4, not 5: (d * 2 + (0, 2)) / 4
    assert layer.duty_cycle.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert layer.samples_seen.item() == 5
    # A negative winner has won, but is not active.
    layer(torch.tensor([[-1.0, -2.0]]))
    assert layer.duty_cycle.tolist() == pytest.approx([1 / 4, 1 / 2])


def test_batch_larger_than_the_period_replaces_the_average():
    layer = KWinners(2, 0.5, boost_strength=0.0, duty_cycle_period=2)
    layer(torch.tensor([[0.0, 1.0]] * 2))
    layer(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert layer.duty_cycle.tolist() == [0.75, 0.25]


def test_duty_cycle_of_a_channel_averages_over_positions():
    layer = KWinners2d(2, 0.5, boost_strength=0.0)
    # Global, k = 4 of 8 in each of two samples.
    x = torch.zeros(2, 2, 2, 2)
    x[0, 0] = 1.0  # all four winners in channel 0
    x[1, 1] = 1.0
    x[1, 0, 0, 0] = 2.0  # one in channel 0, three in channel 1
    layer(x)
    assert layer.duty_cycle.tolist() == [(1.0 + 0.25) / 2, (0.0 + 0.75) / 2]
    local = KWinners2d(2, 0.5, local=True, boost_strength=0.0)
    local(x[1:])
    assert local.duty_cycle.tolist() == [0.25, 0.75]


def test_sequences_count_every_row():
    layer = KWinners(2, 0.5, boost_strength=0.0)
    layer(torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]))
    assert layer.duty_cycle.tolist() == [0.75, 0.25]
    assert layer.samples_seen.item() == 4


@QUICK
@given(x=images(), local=st.booleans(), period=st.integers(1, 5), density=st.floats(0.1, 1.0))
def test_duty_cycles_are_shares(x, local, period, density):
    layer = KWinners2d(x.shape[1], density, local=local, duty_cycle_period=period)
    for _ in range(3):
        layer(torch.from_numpy(x))
        assert (layer.duty_cycle >= 0).all()
        assert (layer.duty_cycle <= 1 + 1e-6).all()


def test_evaluation_leaves_the_buffers():
    layer = KWinners(4, 0.5)
    layer(torch.randn(5, 4))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()(torch.randn(5, 4))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_inference_factor():
    layer = KWinners(10, 0.2, inference_factor=1.5)
    assert layer.winners(10) == 2
    assert layer.eval().winners(10) == 3
    assert int((layer(torch.arange(10.0)[None]) != 0).sum()) == 3
    assert KWinners(10, 0.8, inference_factor=1.5).eval().winners(10) == 10


def test_boost_in_evaluation_aims_at_the_larger_k():
    layer = KWinners(10, 0.2, inference_factor=1.5, boost_strength=1.0).eval()
    assert layer.boost(10).tolist() == pytest.approx([math.exp(0.3)] * 10)


def test_decay_boost_reaches_every_layer():
    model = nn.Sequential(
        KWinners(2, 0.5, boost_strength=2.0, boost_decay=0.5),
        nn.Sequential(KWinners2d(2, 0.5, boost_strength=1.0, boost_decay=0.0)),
    )
    decay_boost(model)
    assert model[0].boost_strength.item() == 1.0
    assert model[1][0].boost_strength.item() == 0.0
    decay_boost(model)
    assert model[0].boost_strength.item() == 0.5


def boosted(form: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"boost_strength": 20.0, "duty_cycle_period": 16}
    if form == "units":
        return nn.Sequential(nn.Linear(24, 24), KWinners(24, 0.2, **options))
    return nn.Sequential(
        nn.Unflatten(1, (2, 12)),
        nn.Conv1d(2, 6, 1),
        KWinners2d(6, 0.2, local=form == "local", **options),
        nn.Conv1d(6, 2, 1),
        nn.Flatten(),
    )


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("form", ["units", "local", "global"])
def test_activation_checkpointing_changes_neither_gradients_nor_duty_cycles(form, reentrant):
    """The layer is used twice, in two batches before one backward pass."""
    plain, saving = boosted(form), boosted(form)

    def again(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(saving, x, use_reentrant=reentrant)

    for step in range(4):
        for network, apply in ((plain, plain), (saving, again)):
            network.zero_grad()
            batches = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(step))
            if step == 3:
                batches[0, 0, 0] = math.nan
            loss = sum(apply(apply(x.requires_grad_())).square().sum() for x in batches.clone())
            loss.backward()
        for one, two in zip(plain.parameters(), saving.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad, rtol=0.0, atol=0.0, equal_nan=True)
        for one, two in zip(plain.buffers(), saving.buffers(), strict=True):
            torch.testing.assert_close(one, two, rtol=0.0, atol=0.0)


def test_a_checkpointed_pass_too_long_ago_is_refused():
    layer = KWinners(8, 0.25)
    y = checkpoint(layer, torch.randn(2, 8, requires_grad=True), use_reentrant=False)
    for _ in range(64):
        layer(torch.randn(2, 8))
    with pytest.raises(UserError, match="leave this layer out of the checkpointed part"):
        y.sum().backward()


def test_state_dict_round_trip():
    trained = KWinners2d(3, 0.4, boost_strength=1.7, boost_decay=0.5)
    trained(torch.randn(4, 3, 2, 2))
    decay_boost(trained)
    fresh = KWinners2d(3, 0.4)
    fresh.load_state_dict(trained.state_dict())
    x = torch.randn(4, 3, 2, 2)
    for _ in range(2):
        assert torch.equal(fresh(x), trained(x))
    assert set(trained.state_dict()) == {"duty_cycle", "boost_strength", "samples_seen"}
    assert fresh.boost_strength.item() == pytest.approx(0.85)
    assert torch.equal(fresh.duty_cycle, trained.duty_cycle)


def test_units_that_never_win_come_to_win():
    layer = KWinners(4, 0.25, boost_strength=5.0)
    x = torch.tensor([[1.0, 0.9, 0.8, 0.7]])
    won = sum((layer(x) != 0).float() for _ in range(200))
    assert (won > 20).all()


# ---------------------------------------------------------------- compiled, other devices


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        KWinners2d(4, 0.5),
        KWinners2d(4, 0.5, local=True),
        nn.Flatten(),
        KWinners(64, 0.2),
    )


@pytest.mark.parametrize("exporting", [False, True], ids=["", "torch 2.11"])
def test_compiled_equals_eager(exporting, monkeypatch):
    torch.compiler.reset()
    eager, network = _network(), _network()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    if exporting:  # what torch 2.11 says while it compiles
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    x = torch.randn(3, 1, 6, 6)
    for _ in range(2):  # the second step uses the duty cycles of the first
        one, other = eager(x), compiled(x)
        assert torch.equal(one, other)
        one.square().sum().backward()
        other.square().sum().backward()
        decay_boost(eager)
        decay_boost(network)
    torch.testing.assert_close(eager[0].weight.grad, network[0].weight.grad)
    for name, value in eager.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


@pytest.mark.cuda
@pytest.mark.parametrize("local", [False, True])
def test_cuda_equals_cpu(local):
    x = torch.randn(4, 6, 5, 5).mul(2).round()
    host, device = KWinners2d(6, 0.2, local=local), KWinners2d(6, 0.2, local=local).cuda()
    for _ in range(2):
        assert torch.equal(device(x.cuda()).cpu(), host(x))
        torch.testing.assert_close(device.duty_cycle.cpu(), host.duty_cycle)


@pytest.mark.cuda
def test_winner_mask_on_cuda_is_a_stable_sort():
    x = np.random.default_rng(0).integers(-3, 3, (50, 200)).astype(np.float32)
    for k in (1, 7, 100, 199):
        mask = winner_mask(torch.from_numpy(x).cuda(), k).cpu().numpy()
        np.testing.assert_array_equal(mask, oracle(x, k))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("kind", [KWinners, KWinners2d])
@pytest.mark.parametrize(
    ("units", "density", "options", "message"),
    [
        (0, 0.5, {}, "the number of units must be a whole number of at least 1, not 0"),
        (4, 0.0, {}, "density must be above 0 and at most 1, not 0.0"),
        (4, 1.1, {}, "density must be above 0 and at most 1, not 1.1"),
        (4, math.nan, {}, "density must be above 0 and at most 1, not nan"),
        (4, 0.5, {"boost_strength": -1.0}, "boost_strength must be finite and at least 0"),
        (4, 0.5, {"boost_strength": math.nan}, "boost_strength must be finite and at least 0"),
        (4, 0.5, {"boost_strength": math.inf}, "boost_strength must be finite and at least 0"),
        (4, 0.5, {"boost_decay": 1.5}, "boost_decay must be between 0 and 1, not 1.5"),
        (4, 0.5, {"boost_decay": math.nan}, "boost_decay must be between 0 and 1, not nan"),
        (4, 0.5, {"inference_factor": 0.0}, "inference_factor must be finite and above 0"),
        (4, 0.5, {"inference_factor": math.nan}, "inference_factor must be finite and above 0"),
        (4, 0.5, {"inference_factor": math.inf}, "inference_factor must be finite and above 0"),
        (
            4,
            0.5,
            {"duty_cycle_period": 0},
            "duty_cycle_period (in samples) must be a whole number of at least 1",
        ),
    ],
)
def test_bad_arguments(kind, units, density, options, message):
    with pytest.raises(UserError) as caught:
        kind(units, density, **options)
    text = str(caught.value)
    assert text.startswith(f"{kind.__name__}: ")
    assert message in text
    assert "\n" not in text


def test_bad_inputs():
    with pytest.raises(UserError, match="made for 4 units, but the input's last dimension is 5"):
        KWinners(4, 0.5)(torch.zeros(2, 5))
    with pytest.raises(UserError, match="last dimension is missing"):
        KWinners(4, 0.5)(torch.zeros(()))
    with pytest.raises(UserError, match=r"\(2, 4, 0, 3\), no position"):
        KWinners2d(4, 0.5)(torch.zeros(2, 4, 0, 3))
    with pytest.raises(UserError, match=r"made for input \[batch, 4, .*\(2, 5, 3, 3\)"):
        KWinners2d(4, 0.5)(torch.zeros(2, 5, 3, 3))
    with pytest.raises(UserError, match=r"the input has shape \(2, 4\)"):
        KWinners2d(4, 0.5)(torch.zeros(2, 4))


def test_repr_names_the_settings():
    assert "local=True" in repr(KWinners2d(4, 0.5, local=True))
    assert "4, density=0.5" in repr(KWinners(4, 0.5))
