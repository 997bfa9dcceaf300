"""Winners picked by the kernel of every instruction set, against torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels._training import pick_winners, training_kernels
from gossamer.nn import KWinners, KWinners2d
from gossamer.nn.kwinners import winner_mask
from gossamer.nn.winners import pick, pickable

ISAS = tuple(dict.fromkeys(isa for _, _, isa, _ in training_kernels()))


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    monkeypatch.setenv("GOSSAMER_ISA", request.param)


def values(rows, n, seed, ties):
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed))
    return x.mul(2).round() if ties else x


def check(x, boost, k, threads=1):
    x = x.detach().requires_grad_()
    torch.set_num_threads(threads)
    try:
        y, counts = pick(x, boost, k)
    finally:
        torch.set_num_threads(1)
    mask = winner_mask((x * boost).detach(), k)
    expected = x.detach().masked_fill(~mask, 0.0)
    torch.testing.assert_close(y.detach(), expected, rtol=0, atol=0, equal_nan=True)
    if x.isnan().any():
        assert counts is None, "nothing is learned from NaN"
    else:
        assert torch.equal(counts, (expected > 0).float().sum(0))
    (found,) = torch.autograd.grad(y, x, torch.full_like(y, 3.0))
    assert torch.equal(found, 3.0 * mask)


@pytest.mark.parametrize("threads", [1, 3])
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(0, 9),
    n=st.integers(2, 1400),
    share=st.floats(0.001, 0.999),
    ties=st.booleans(),
    boosted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_torch(threads, rows, n, share, ties, boosted, seed):
    k = min(max(round(share * n), 1), n - 1)
    boost = values(1, n, seed + 1, ties=False)[0].exp() if boosted else torch.ones(n)
    with pytest.MonkeyPatch.context() as patch:
        for name in ISAS:
            patch.setenv("GOSSAMER_ISA", name)
            if rows:
                check(values(rows, n, seed, ties), boost, k, threads)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("n", [3, 40, 1100])
@pytest.mark.parametrize(
    "odd", [float("nan"), -float("nan"), float("inf"), -float("inf"), 0.0, -0.0]
)
def test_odd_values(odd, n):
    x = values(4, n, 0, ties=False)
    x[1, n // 2] = odd
    x[2] = odd
    check(x, torch.ones(n), n // 3)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("ties", [False, True])
def test_any_order_in_memory_gives_the_same_winners(ties):
    x = values(3, 8 * 7 * 5, 1, ties).view(3, 8, 7, 5)
    layers = KWinners2d(8, 0.2), KWinners2d(8, 0.2)
    for layer in layers:
        layer.duty_cycle.copy_(torch.linspace(0.0, 0.4, 8))
    last = layers[1](x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layers[0](x), last)
    assert torch.equal(layers[0].duty_cycle, layers[1].duty_cycle)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (KWinners(40, 0.2), (6, 40)),
        (KWinners(40, 0.2, relu=True), (2, 3, 40)),
        (KWinners2d(6, 0.3), (3, 6, 5, 4)),
        (KWinners2d(6, 0.3, local=True), (3, 6, 5, 4)),
        (KWinners2d(6, 0.3), (3, 6, 9)),
    ],
)
def test_layers_learn_the_same_where_the_kernel_does_not_serve(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    results = []
    for kind in (torch.float32, torch.float64):
        layer.duty_cycle.zero_()
        layer.samples_seen.zero_()
        own = x.to(kind).detach().requires_grad_()
        y = layer(own)
        y.square().sum().backward()
        results.append((y.detach().float(), own.grad.float(), layer.duty_cycle.clone()))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_gradients_of_gradients():
    x = torch.randn(3, 20, requires_grad=True)
    y = KWinners(20, 0.25)(x)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    gradient.sum().backward()
    torch.testing.assert_close(x.grad, 6 * y.detach())


def test_what_the_kernel_takes():
    x = torch.randn(4, 10)
    assert pickable(x, 3, 10)
    assert not pickable(x, 10, 10), "all win"
    assert not pickable(x.t(), 2, 4), "rows are not consecutive"
    assert not pickable(x.double(), 3, 10)
    assert not pickable(x[:0], 3, 10)


def test_wrong_calls_are_refused():
    for n, k, order in ((4, 4, (1, 4)), (4, 0, (1, 4)), (4, 2, (2, 3))):
        with pytest.raises(ValueError, match="win"):
            pick_winners(1, n, k, order, 0, 0, 0, 0, 0, 1, ISAS[0])
