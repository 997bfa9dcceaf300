"""The kernels of sparse training, every row and instruction set, against torch."""

import copy
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossamer.kernels._training import SparseLayer, training_kernels
from gossamer.nn import KWinners2d
from gossamer.sparsity.active import zeros_are_silent
from gossamer.sparsity.sparse_weight import SparseWeight, apply_sparse, block_of, supported

ISAS = tuple(dict.fromkeys(isa for _, _, isa, _ in training_kernels()))
BLOCKS = (1, 8, 16)
apply_active = partial(apply_sparse, active=True)


def mask_of(layer, density: float, block: int, seed: int = 0) -> torch.Tensor:
    """A random mask in blocks along the outputs; some outputs may have no inputs at all."""
    generator = torch.Generator().manual_seed(seed)
    shape = layer.weight.shape
    mask = torch.rand((shape[0] // block, *shape[1:]), generator=generator) < density
    return mask.repeat_interleave(block, 0)


def check(layer, mask, x, isa, threads=1, apply=apply_sparse):
    """Outputs and all gradients equal those of the layer with its weight masked."""
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            layer.weight.masked_fill_(~mask, 0.0)
        nonzeros = SparseWeight.of(layer, mask, isa)
        values = nonzeros.gather(layer.weight.detach()).requires_grad_()
        bias = None if layer.bias is None else layer.bias.detach().clone().requires_grad_()
        ours = x.detach().clone().requires_grad_()
        y = apply(ours, values, bias, nonzeros)
        x = x.detach().double().requires_grad_()
        layer = layer.double()
        expected = layer(x)
        gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
        expected.backward(gradient.double())
        y.backward(gradient)
        with torch.no_grad():
            same = apply(ours, values, bias, nonzeros)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(same, y)
    pairs = [
        (y, expected),
        (ours.grad, x.grad),
        (values.grad, nonzeros.gather(layer.weight.grad)),
    ]
    if bias is not None:
        pairs.append((bias.grad, layer.bias.grad))
    for found, wanted in ((one.detach(), two.detach()) for one, two in pairs):
        scale = float(wanted.abs().max()) if wanted.numel() else 1.0
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


def test_every_instruction_set_has_every_kernel():
    rows = training_kernels()
    kinds = {(operation, layout) for operation, layout, _, _ in rows}
    assert kinds == {
        ("pack", "any"),
        ("apply", "unstructured"),
        ("apply", "block"),
        ("gradient", "unstructured"),
        ("gradient", "block"),
        ("winners", "any"),
        ("mask", "any"),
        ("list", "any"),
        ("spread", "any"),
        *itertools.product(
            ("columns", "active_forward", "active_input", "active_gradient"),
            ("unstructured", "block8", "block16"),
        ),
    }
    assert len(rows) == len(kinds) * len(ISAS)


def every_kernel(**strategies):
    """Runs a test for every instruction set and block, on layers that hypothesis draws."""
    shared = {"density": st.floats(0.01, 1.0), "bias": st.booleans()}

    def decorate(test):
        drawn = settings(max_examples=12, deadline=None)(given(**shared, **strategies)(test))
        of_block = pytest.mark.parametrize("block", BLOCKS)(drawn)
        return pytest.mark.parametrize("isa", ISAS)(of_block)

    return decorate


# How a convolution's windows lie, as arguments of nn.Conv2d.
WINDOWS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 4), st.integers(0, 4)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    }
)


@every_kernel(
    batch=st.integers(1, 300),
    inputs=st.integers(1, 90),
    rows=st.integers(1, 5),
    threads=st.sampled_from((1, 2, 3)),
)
def test_linear(isa, block, batch, inputs, rows, density, bias, threads):
    torch.manual_seed(0)
    layer = nn.Linear(inputs, rows * (block if block > 1 else 7), bias=bias)
    check(layer, mask_of(layer, density, block), torch.randn(batch, inputs), isa, threads)


@every_kernel(
    batch=st.integers(1, 40),
    channels=st.integers(1, 5),
    size=st.tuples(st.integers(7, 20), st.integers(7, 34)),
    windows=WINDOWS,
    threads=st.sampled_from((1, 2)),
)
def test_convolution(isa, block, batch, channels, size, windows, density, bias, threads):
    torch.manual_seed(0)
    outputs = block if block > 1 else 6
    layer = nn.Conv2d(channels, outputs, **windows, bias=bias)
    x = torch.randn(batch, channels, *size)
    check(layer, mask_of(layer, density, block), x, isa, threads)


def check_active(layer, mask, x, isa, threads):
    """The gradient of every input, zero or not; then of those behind a ReLU."""
    behind = copy.deepcopy(layer)
    behind.register_forward_pre_hook(lambda _, inputs: inputs[0].relu())
    check(layer, mask, x, isa, threads, apply_active)

    def apply(x, *rest):
        return apply_active(x.relu().view_as(x), *rest)

    check(behind, mask, x, isa, threads, apply)


@every_kernel(
    batch=st.integers(1, 70),
    inputs=st.integers(1, 90),
    rows=st.integers(1, 5),
    active=st.floats(0.0, 1.0),
    threads=st.sampled_from((1, 2, 3)),
)
def test_active_inputs(isa, block, batch, inputs, rows, density, active, bias, threads):
    torch.manual_seed(0)
    layer = nn.Linear(inputs, rows * (block if block > 1 else 7), bias=bias)
    x = torch.randn(batch, inputs).where(torch.rand(batch, inputs) < active, 0.0)
    check_active(layer, mask_of(layer, density, block), x, isa, threads)


@every_kernel(
    batch=st.integers(1, 12),
    channels=st.integers(1, 5),
    size=st.tuples(st.integers(1, 11), st.integers(1, 19)),
    windows=WINDOWS,
    active=st.floats(0.0, 1.0),
    threads=st.sampled_from((1, 2)),
)
def test_active_inputs_of_convolutions(
    isa, block, batch, channels, size, windows, density, active, bias, threads
):
    sides = zip(*(windows[name] for name in ("dilation", "kernel_size", "padding")), strict=True)
    needed = (d * (k - 1) + 1 - 2 * p for d, k, p in sides)
    size = tuple(map(max, size, needed))
    torch.manual_seed(0)
    outputs = 2 * block if block > 1 else 6
    layer = nn.Conv2d(channels, outputs, **windows, bias=bias)
    x = torch.randn(batch, channels, *size)
    x = x.where(torch.rand(x.shape) < active, 0.0)
    check_active(layer, mask_of(layer, density, block), x, isa, threads)


def test_which_zeros_need_no_gradient():
    x = torch.randn(3, 2, 4, 4, requires_grad=True)
    assert not zeros_are_silent(x)
    assert not zeros_are_silent(x * 2)
    assert zeros_are_silent(x.relu())
    assert zeros_are_silent(nn.functional.max_pool2d(x.relu(), 2).flatten(1))
    assert zeros_are_silent(nn.ReLU(inplace=True)(x * 2).transpose(1, 2))
    assert zeros_are_silent(KWinners2d(2, 0.2)(x).flatten(1))
    assert not zeros_are_silent(KWinners2d(2, 0.2)(x * 0.0)), "a winner that is zero"
    assert not zeros_are_silent(x.relu() + x)
    assert not zeros_are_silent(nn.functional.dropout(x, 0.5))
    looked_at = x.relu()
    looked_at.retain_grad()
    assert not zeros_are_silent(looked_at)


@pytest.mark.parametrize("isa", ISAS)
def test_many_entries_and_outputs(isa):
    torch.manual_seed(0)
    for block in BLOCKS:
        for apply in (apply_sparse, apply_active):
            layer = nn.Linear(700, 48)
            check(layer, mask_of(layer, 0.9, block), torch.randn(140, 700), isa, 2, apply)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("layer", "shape", "apply"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), (21, 3, 9, 9), apply_sparse),
        (nn.Linear(90, 32), (21, 90), apply_active),
        (nn.Conv2d(3, 16, 3, padding=1), (21, 3, 9, 9), apply_active),
    ],
)
def test_any_number_of_threads_gives_the_same_bits(isa, block, layer, shape, apply):
    mask = mask_of(layer, 0.4, block)
    nonzeros = SparseWeight.of(layer, mask, isa)
    x = torch.randn(shape).relu()
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            values = nonzeros.gather(layer.weight.detach()).requires_grad_()
            y = apply(x, values, layer.bias, nonzeros)
            results.append((y, *torch.autograd.grad(y.square().sum(), [values, layer.bias])))
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_blocks_are_detected_in_the_mask():
    layer = nn.Linear(20, 32)
    for block in BLOCKS:
        assert block_of(mask_of(layer, 0.3, block)) == block
    assert block_of(torch.ones(24, 3, dtype=torch.bool)) == 8
    assert block_of(torch.ones(7, 3, dtype=torch.bool)) == 1


@pytest.mark.parametrize(
    ("layer", "yes"),
    [
        (nn.Linear(3, 4), True),
        (nn.Conv2d(2, 4, 3, padding="same"), True),
        (nn.Conv2d(2, 4, 3, padding="valid"), True),
        (nn.Conv2d(2, 4, 2, padding="same"), False),
        (nn.Conv2d(2, 4, 3, groups=2), False),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv1d(2, 4, 3), False),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), False),
    ],
)
def test_supported(layer, yes):
    assert supported(layer) is yes


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_padding(padding):
    layer = nn.Conv2d(2, 4, (3, 5), dilation=(2, 1), padding=padding)
    check(layer, mask_of(layer, 0.5, 1), torch.randn(3, 2, 9, 9), ISAS[-1])


def test_gradients_asked_for_alone():
    layer = nn.Linear(12, 8)
    mask = mask_of(layer, 0.5, 8)
    nonzeros = SparseWeight.of(layer, mask)
    values = nonzeros.gather(layer.weight.detach())
    x = torch.randn(5, 12)
    weight = nonzeros.scatter(values)
    bias = layer.bias.detach().requires_grad_()
    apply_sparse(x, values, bias, nonzeros).sum().backward()
    torch.testing.assert_close(bias.grad, torch.full((8,), 5.0))
    x.requires_grad_()
    apply_sparse(x, values, None, nonzeros).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(5, -1))


def test_broken_structures_are_refused():
    import numpy as np

    def make(start, column, block=1, outputs=8):
        one = (1, 1)
        arrays = (np.array(start, np.int32), np.array(column, np.int32))
        return SparseLayer(outputs, 4, one, one, (0, 0), one, block, *arrays, ISAS[0])

    make([0, 2], [0, 3], block=8)
    for start, column, block in (
        ([0, 2], [0, 4], 8),
        ([0, 2], [0, -1], 8),
        ([0, 3], [0, 1], 8),
        ([1, 2], [0, 1], 8),
        ([0, 1], [0, 1], 1),
        ([0, 2], [0, 1], 4),
    ):
        with pytest.raises(ValueError, match=r"."):
            make(start, column, block)
    with pytest.raises(ValueError, match="positive"):
        make([0], [], outputs=0)
