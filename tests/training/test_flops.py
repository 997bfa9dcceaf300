"""Counts against loops in numpy, and by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.nn import KWinners
from gossamer.training import count, weight_counts


def sparse(shape, generator, density=0.5):
    values = torch.randn(shape, generator=generator)
    return values * (torch.rand(shape, generator=generator) < density)


def by_loops(layer, x):
    """(dense, weights, both) per example: every tap of every output position in turn."""
    weight, x = layer.weight.detach().numpy(), x.numpy()
    size = weight.shape[2:]
    if layer.padding_mode == "circular":
        pads = [(0, 0), (0, 0), *((p, p) for p in layer.padding)]
        x, real = np.pad(x, pads, mode="wrap"), (0,) * len(size)
    else:
        real = layer.padding
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], real, layer.dilation, size, layer.stride, strict=True)
    ]
    dense = kept = both = 0
    each = weight.shape[0] // layer.groups
    for n, o in itertools.product(range(len(x)), range(weight.shape[0])):
        for place in itertools.product(*map(range, out)):
            for tap in itertools.product(range(weight.shape[1]), *map(range, size)):
                at = [
                    q * s + t * d - p
                    for q, s, t, d, p in zip(
                        place, layer.stride, tap[1:], layer.dilation, real, strict=True
                    )
                ]
                inside = all(0 <= a < m for a, m in zip(at, x.shape[2:], strict=True))
                channel = o // each * weight.shape[1] + tap[0]
                dense += 1
                kept += weight[(o, *tap)] != 0
                both += weight[(o, *tap)] != 0 and inside and x[(n, channel, *at)] != 0
    return dense / len(x), kept / len(x), both / len(x)


OPTIONS = [
    {},
    {"stride": 2},
    {"padding": 2},
    {"dilation": 2},
    {"groups": 2},
    {"stride": 2, "padding": 1, "dilation": 2, "groups": 4},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": 2, "stride": 2, "groups": 2, "padding_mode": "circular"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_agree_with_loops(kind, options):
    generator = torch.Generator().manual_seed(3)
    layer = kind(4, 8, 3, **options)
    layer.weight.data = sparse(layer.weight.shape, generator)
    x = sparse((2, 4, 7) if kind is nn.Conv1d else (2, 4, 7, 6), generator)
    (found,) = count(nn.Sequential(layer), [x]).layers
    assert (found.macs_dense, found.macs_weights, found.macs_both) == by_loops(layer, x)
    assert found.macs_both < found.macs_weights < found.macs_dense
    assert found.input_density == pytest.approx(np.count_nonzero(x) / x.numel())
    assert found.kind == kind.__name__


def test_counts_do_not_depend_on_the_order_of_memory():
    """Channels innermost, as convolutions are trained and evaluated."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU())
    x = sparse((5, 3, 9, 7), generator)
    plain = count(model, [x])
    model.to(memory_format=torch.channels_last)
    assert model[1](model[0](x)).stride(1) == 1
    inner = count(model, [x.contiguous(memory_format=torch.channels_last)])
    assert inner.layers == plain.layers
    assert inner.unit_use == plain.unit_use
    assert inner.activations == plain.activations


def test_linear_agrees_with_loops_over_batches():
    generator = torch.Generator().manual_seed(4)
    layer = nn.Linear(6, 5)
    layer.weight.data = sparse((5, 6), generator)
    x = sparse((7, 3, 6), generator)  # three rows an inference
    (found,) = count(nn.Sequential(layer), x.split(2)).layers
    meets = np.einsum("of,nrf->", layer.weight.detach().numpy() != 0, x.numpy() != 0, dtype=int)
    assert found.macs_dense == 3 * 30
    assert found.macs_weights == 3 * int(torch.count_nonzero(layer.weight))
    assert found.macs_both == pytest.approx(meets / 7)


def test_more_examples_than_a_byte_can_count():
    """The first unit is active in all 600, the second in every other one, the third in none."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0, 0.0]]))
    x = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]).repeat(300, 1)
    counts = count(model, [x])
    assert counts.activations == {"0": 900 / 1800}
    assert counts.unit_use["0"].dead == 1
    assert counts.layers[0].input_density == 0.5
    assert counts.layers[0].macs_both == 1.5


def test_a_layer_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(torch.ones_like(self.linear(x)))

    assert count(Twice(), [torch.ones(3, 4)]).macs() == {"dense": 32, "weights": 32, "both": 32}


def test_a_whole_network_by_hand():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), KWinners(8, 0.25), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].weight[:, 2:] = 0.0  # 16 of 32 are left
        model[0].bias.copy_(torch.tensor([1.0, 2, 3, 4, -100, -100, -100, -100]))
        model[3].weight.fill_(1.0)
        model[3].bias.zero_()
    model.train()
    found = count(model, [torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 0]])])
    assert model.training
    assert found.activations == {"1": 0.5, "2": 0.25}
    assert found.active_share == 0.375
    assert (found.weights, found.nonzero, found.density) == (48, 32, 32 / 48)
    assert weight_counts(model) == (32, 48)
    assert (found.parameters, found.parameters_nonzero) == (58, 40)
    # Linear 1: only input 0 of example 0 meets weights, 8 of them. Linear 2: 2 winners x 2.
    assert found.macs() == {"dense": 48.0, "weights": 32.0, "both": 8 / 2 + 4}
    # 16 non-zeros and 32 bits; bias of 8; 16 dense weights; a bias of zeros as 1 byte of bits.
    assert found.bytes == (64 + 4) + 32 + 64 + 1


class Several(nn.Module):
    """Layers whose weights are not called ``weight``."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(4, 6, 3, groups=2)

    def forward(self, x):
        self.rnn(x)
        self.attention(query=x, key=x[:, :2], value=x[:, :2], need_weights=False)
        return self.up(x.transpose(1, 2))


def test_recurrent_layers_attention_and_transposed_convolutions():
    generator = torch.Generator().manual_seed(0)
    model = Several()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = sparse(parameter.shape, generator)
    x = sparse((2, 5, 4), generator)
    found = {layer.name: layer for layer in count(model, [x]).layers}
    assert weight_counts(model)[1] == sum(layer.weights for layer in found.values())
    assert list(found) == [
        "rnn.weight_ih_l0", "rnn.weight_hh_l0", "attention.in_proj_weight", "attention.out_proj",
        "up",
    ]  # fmt: skip

    def products(weight, rows):  # by every row, output and input
        return sum(int((w != 0) & (a != 0)) for r in rows for o in weight for w, a in zip(o, r))  # noqa: B905

    rows, keys = x.reshape(-1, 4), x[:, :2].reshape(-1, 4)
    ih = found["rnn.weight_ih_l0"]
    assert ih.macs_dense == 5 * 12 * 4
    assert ih.macs_both == products(model.rnn.weight_ih_l0, rows) / 2
    hh = found["rnn.weight_hh_l0"]
    assert hh.macs_both == hh.macs_weights == 5 * hh.nonzero
    query, key, value = model.attention.in_proj_weight.chunk(3)
    both = products(query, rows) + products(key, keys) + products(value, keys)
    assert found["attention.in_proj_weight"].macs_both == both / 2
    assert found["attention.in_proj_weight"].macs_dense == (5 + 2 + 2) * 16
    up = found["up"]
    assert up.macs_dense == 5 * 4 * 3 * 3
    assert up.macs_both == products(model.up.weight.flatten(1).t(), rows) / 2


def test_duty_cycles_tell_dead_units_and_how_even_the_others_are():
    """Three units of a ReLU: always active, half of the time, never."""
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    found = count(model, [torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[2.0, -1.0, 0.0]])])
    use = found.unit_use["1"]
    assert (use.units, use.dead) == (3, 1)
    assert use.entropy == pytest.approx(1.0)  # bits: 0, 1 and 0
    assert use.entropy_most == pytest.approx(3.0)  # half of all
    activity = found.activity()
    assert (activity["units"], activity["dead"]) == (3, 1)
    assert activity["entropy"] == pytest.approx(1 / 3)


def test_duty_cycles_of_images_are_of_channels_and_sequences_have_none():
    image = torch.zeros(2, 3, 2, 2)
    image[0, 0] = 1.0
    image[:, 1] = 1.0
    use = count(nn.Sequential(nn.ReLU()), [image]).unit_use["0"]
    assert (use.units, use.dead, use.entropy) == (3, 1, pytest.approx(1.0))
    assert count(nn.Sequential(nn.ReLU()), [torch.ones(2, 3, 4)]).unit_use == {}
    winners = nn.Sequential(KWinners(4, 0.5))
    assert count(winners, [torch.rand(2, 5, 4)]).unit_use["0"].units == 4


def test_units_that_are_always_active_have_no_entropy():
    activity = count(nn.Sequential(nn.ReLU()), [torch.ones(2, 3)]).activity()
    assert activity["dead"] == 0
    assert "entropy" not in activity
