"""Work counted from the engine's plan, on networks small enough to count by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer.energy import EnergyModel, count_work
from gossamer.kernels.registry import KERNELS


@pytest.fixture
def engine(tmp_path):
    def make(model, shape, examples=8):
        model.eval()
        path = tmp_path / "model.onnx"
        gs.export(model, torch.zeros(2, *shape), path)
        sample = np.random.default_rng(0).standard_normal((examples, *shape)).astype(np.float32)
        return gs.Engine(path, threads=1, sample=sample)

    return make


def test_a_dense_linear_layer(engine):
    own, dense = count_work(engine(nn.Linear(24, 40, bias=False), (24,)))
    (work,) = [work for work in own if work.macs]
    assert work.kind == "dense"
    assert work.macs == 24 * 40
    assert work.values == 4 * (24 + 40)
    (counterpart,) = [work for work in dense if work.macs]
    assert counterpart.stored == 4 * 24 * 40
    assert counterpart.macs == work.macs


def test_winners_and_a_sparse_layer_after_them(engine):
    torch.manual_seed(0)
    inputs, hidden, outputs = 128, 512, 256
    model = nn.Sequential(
        nn.Linear(inputs, hidden), gs.KWinners(hidden, 0.125), nn.Linear(hidden, outputs)
    )
    with torch.no_grad():
        keep = torch.zeros(outputs, hidden)
        for column in range(hidden):
            keep[torch.randperm(outputs)[:16], column] = 1.0
        model[2].weight *= keep
    own, dense = count_work(engine(model, (inputs,)))
    (winners,) = [work for work in own if work.kind == "winners"]
    assert winners.operations == 2 * hidden
    assert winners.values == 4 * 2 * hidden + 8 * 64
    (both,) = [work for work in own if work.kind == "both"]
    # 64 winners, each with 16 of 256 weights.
    assert both.macs == pytest.approx(64 * 16)
    assert both.values == pytest.approx(8 * 64 + 4 * outputs)
    # At least the weights that were met; never more than all rows would take.
    assert 64 * 16 * 4 <= both.stored <= hidden * outputs * 8
    assert both.repeats >= 8 * both.macs
    counterpart = {work.layer: work for work in dense}[both.layer]
    assert counterpart.macs == hidden * outputs
    assert counterpart.stored == 4 * hidden * outputs
    found = EnergyModel().ratio([counterpart], [both], "DRAM")
    assert 1 < found.low <= found.high < 1.01 * (hidden * outputs) / (64 * 16)


def test_every_call_of_the_plan_is_counted_and_a_convolution_too(engine):
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 5)
    )
    made = engine(model, (3, 8, 8))
    own, dense = count_work(made)
    assert len(own) == len(made.profile(*made.noise(), repeats=1))
    conv = next(work for work in dense if work.macs)
    assert conv.macs == 36 * 16 * 27
    assert conv.stored == 4 * 16 * 27
    assert sum(work.macs for work in own) <= sum(work.macs for work in dense)
    assert all(min(w.macs, w.operations, w.stored, w.values, w.repeats) >= 0 for w in own + dense)


class Attention(nn.Module):
    """Products of two values, beside a layer with weights."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return x @ self.keys(x).transpose(1, 2)


def test_products_of_two_values_are_multiply_adds_of_both_networks(engine):
    own, dense = count_work(engine(Attention(), (6, 8)))
    for works in (own, dense):
        assert sorted(work.macs for work in works if work.macs) == [6 * 8 * 6, 6 * 8 * 8]


def test_a_dense_network_gains_nothing_by_minimal_filtering(engine):
    """Its products are fewer, for more additions, and the counterpart could have them too."""
    made = engine(nn.Conv2d(32, 32, 3, bias=False), (32, 18, 18))
    (node,) = made.graph.nodes
    kernels = [k for k in KERNELS if k.operation == "winograd" and k.isa == made.isa]
    filtering = [str(k) for k in kernels if k.layout == "3x3/2"]
    assert filtering
    for kernel in filtering:
        plan = dataclasses.replace(made.plan, single={node.output: kernel})
        forced = gs.Engine(made.graph, plan=plan, threads=1)
        rows = [row for row in forced.profile(*forced.noise(), repeats=1) if row.macs]
        assert [row.kernel for row in rows] == [kernel]
        assert rows[0].macs < rows[0].dense_macs
        own, dense = count_work(forced)
        counts = (16 * 16 * 32 * 32 * 9, 4 * 32 * 32 * 9, "dense")
        for works in (own, dense):
            assert [(w.macs, w.stored, w.kind) for w in works if w.macs] == [counts]


def test_layers_in_8_bits_are_counted_in_bytes(engine):
    torch.manual_seed(0)
    inputs, hidden, outputs = 24, 512, 64
    model = nn.Sequential(
        nn.Linear(inputs, hidden), gs.KWinners(hidden, 0.125), nn.Linear(hidden, outputs)
    )
    nn.init.uniform_(model[2].weight, 0.5, 1.0)  # none is rounded to zero
    gs.quantize(model.eval(), torch.randn(16, inputs), exclude=["0"])
    own, dense = count_work(engine(model, (inputs,)))
    floats, eight = (work for work in own if work.macs)
    assert (floats.bits, eight.bits) == (32, 8)
    assert floats.values == 4 * (inputs + hidden)
    # 64 winners as index and byte, 64 sums of 32 bits; weights of a byte, with an index or not.
    assert eight.kind == "activations"
    assert eight.macs == pytest.approx(64 * outputs)
    assert eight.values == pytest.approx(5 * 64 + 4 * outputs)
    assert 64 * outputs <= eight.stored < 3.5 * 64 * outputs
    # The counterpart is the network before: floats, and nothing is rounded.
    assert {work.bits for work in dense} == {32}
    assert [work.stored for work in dense if work.macs] == [
        4 * inputs * hidden,
        4 * hidden * outputs,
    ]
    assert len(dense) == 3
    # Rounding the winners reads entries of 8 bytes and writes entries of 5.
    (rounding,) = [
        work for work in own if work.kind == "other" and work.layer not in (eight.layer, "(form)")
    ]
    assert 13 * 64 <= rounding.values < 13 * 64 + 200
    found = EnergyModel().ratio([dense[-1]], [eight], "DRAM")
    assert found.low > 512 / 64


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_each_step_of_a_recurrent_layer_counts_its_own_multiply_adds(engine, kind):
    """All steps have the layer's name in the graph."""
    time, inputs, hidden = 6, 8, 32

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, 4)

        def forward(self, x):
            return self.out(self.layer(x)[0][:, -1])

    own, dense = count_work(engine(Recurrent(), (time, inputs)))
    gates = {nn.LSTM: 4, nn.GRU: 3}[kind]
    # The first step's hidden state is zero, so its product may be left out.
    most = time * gates * hidden * (inputs + hidden) + 4 * hidden
    least = most - gates * hidden * hidden
    for works in (own, dense):
        assert least <= sum(work.macs for work in works) <= most
    assert sum(w.stored for w in own) >= 4 * gates * hidden * (inputs + hidden)
    found = EnergyModel().ratio(dense, own, "L1")
    assert 0.5 < found.low <= found.high < 2
