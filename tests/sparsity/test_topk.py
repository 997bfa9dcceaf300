"""Selection and masking by the kernels of every instruction set, against torch."""

import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

from gossamer.kernels._training import training_kernels
from gossamer.sparsity.topk import SMALL, top_k, zero_outside

ISAS = tuple(dict.fromkeys(isa for _, _, isa, _ in training_kernels()))


@pytest.fixture(params=ISAS, autouse=True)
def isa(request, monkeypatch):
    monkeypatch.setenv("GOSSAMER_ISA", request.param)


def oracle(scores, k):
    best = (
        scores.nan_to_num(torch.inf, torch.inf)
        .sort(dim=1, descending=True, stable=True)
        .indices[:, :k]
    )
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True)


@pytest.mark.parametrize("kind", ["random", "ties", "masked", "kept", "nan", "equal"])
@pytest.mark.parametrize("shape", [(1, 3 * SMALL + 5), (7, SMALL), (1500, 9), (3, 5)])
def test_the_largest_and_among_equals_the_first(kind, shape):
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if kind == "ties":
        scores = scores.mul(5).round()
    elif kind == "masked":  # as rules hide what is masked
        scores[scores < 0.9] = -1.0
    elif kind == "kept":  # as rules keep what survives
        scores[scores > 0.8] = torch.inf
    elif kind == "nan":  # counts as infinity
        scores[scores > 0.8] = torch.nan
    elif kind == "equal":
        scores = torch.zeros(shape)
    for share in (0.001, 0.05, 0.5, 0.97):
        k = max(round(share * shape[1]), 1)
        found = top_k(scores, k)
        assert torch.equal(found, oracle(scores, k))
        assert torch.equal(top_k(scores.double(), k), found)


def test_columns_of_another_matrix():
    scores = torch.rand(SMALL, 3).t()
    assert torch.equal(top_k(scores, 40), oracle(scores, 40))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_zeros_outside_the_mask(last, threads):
    weight = torch.randn(5, 7, 3, 3)
    mask = torch.rand(weight.shape) < 0.3
    weight[0], weight[1] = torch.nan, -torch.inf
    if last:
        weight, mask = (t.contiguous(memory_format=torch.channels_last) for t in (weight, mask))
    wanted = weight.masked_fill(~mask, 0.0)
    version = weight._version
    torch.set_num_threads(threads)
    try:
        assert zero_outside(weight, mask)
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(weight, wanted, rtol=0, atol=0, equal_nan=True)
    assert not torch.signbit(weight[~mask]).any()
    assert weight._version > version


def test_what_torch_must_do():
    weight, mask = torch.randn(6, 6), torch.rand(6, 6) < 0.5
    assert not zero_outside(weight.double(), mask)
    assert not zero_outside(weight.t(), mask)
    assert not zero_outside(weight[:, :3], mask[:, :3])


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_model_that_changes_its_type_stays_masked(kind):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    sparsifier = fixed(model, 0.4)
    for to in (kind, torch.float32, kind):
        model.to(to)
        for layer in model:
            nn.init.ones_(layer.weight)
        sparsifier.apply()
        for name, mask in sparsifier.masks.items():
            assert torch.equal(sparsifier.weights[name].tensor != 0, mask)
