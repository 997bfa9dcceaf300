"""The energy model against layers counted by hand."""

import pytest

from gossamer.energy import COSTS, MEMORIES, Costs, EnergyModel, Work
from gossamer.energy.work import gathered, scattered, selected

# A process on which everything is easy to multiply: 1 pJ an addition, 3 a multiplication,
# 1 pJ a multiply-add in 8 bits, 1 pJ per byte in L1, 10 in L2, 100 to 200 in DRAM.
PLAIN = Costs(
    "plain",
    "made up",
    add=1.0,
    multiply=3.0,
    add_whole=0.25,
    multiply_whole=0.75,
    access={"L1": (1.0, 1.0), "L2": (10.0, 10.0), "DRAM": (100.0, 200.0)},
)


def dense():
    """A linear layer of 10 inputs and 20 outputs: 200 weights of 4 bytes."""
    return gathered("linear", "dense", macs=200, stored=800, entry=4, ins=10, outs=20)


def sparse():
    """The same with 40 weights kept in entries of 6 bytes, and 2 of 10 inputs active.

    Two active inputs meet 8 of the 40 weights, 48 bytes.
    """
    return scattered("linear", "both", macs=8, stored=48, entry=6, active=2, outs=20)


def test_a_dense_layer_by_hand():
    work = dense()
    # Each weight is read once; the 10 inputs are read by each of 200 multiply-adds, 190 times
    # too often; 10 inputs and 20 outputs of 4 bytes pass once.
    assert work == Work("linear", "dense", 200, 0.0, 800, 120.0, 760.0)
    model = EnergyModel((PLAIN,))
    # 200 x 4 + 800 x 1 + 120 x 1 = 1720 pJ, 430 multiply-adds of 4 pJ.
    assert model.energy([work], "L1", costs=PLAIN, reuse=True) == 430
    assert model.energy([work], "L1", costs=PLAIN, reuse=False) == 430 + 760 / 4
    assert model.energy([work], "L2", costs=PLAIN, reuse=True) == (800 + 8000 + 120) / 4
    assert model.energy([work], "DRAM", costs=PLAIN, reuse=True, far=1) == (920 + 160_000) / 4


def test_a_layer_with_both_sparsities_by_hand():
    work = sparse()
    # A list of 2 entries of 8 bytes in, 20 outputs of 4 bytes out; each of 8 multiply-adds
    # reads and writes a sum of 4 bytes.
    assert work == Work("linear", "both", 8, 0.0, 48, 96.0, 64.0)
    energy = EnergyModel((PLAIN,)).energy([work], "L1", costs=PLAIN, reuse=False)
    assert energy == (8 * 4 + 48 + 96 + 64) / 4


def test_layers_in_8_bits_by_hand():
    dense = gathered("linear", "dense", 200, stored=200, entry=1, ins=10, outs=20, bits=8)
    # Weights and inputs are bytes, the 20 sums that come out are four each.
    assert dense == Work("linear", "dense", 200, 0.0, 200, 90.0, 190.0, bits=8)
    model = EnergyModel((PLAIN,))
    # 200 x 1 + 200 x 1 + 90 x 1 = 490 pJ, in float multiply-adds of 4 pJ.
    assert model.energy([dense], "L1", costs=PLAIN, reuse=True) == 490 / 4
    both = scattered("linear", "both", 8, stored=24, entry=3, active=2, outs=20, bits=8)
    # 2 entries of an index (4 bytes) and a byte; each multiply-add reads and writes a 32-bit sum.
    assert both == Work("linear", "both", 8, 0.0, 24, 90.0, 64.0, bits=8)
    assert model.energy([both], "L2", costs=PLAIN, reuse=False) == (8 + 240 + 90 + 64) / 4


def test_operands_of_other_widths_have_no_price():
    with pytest.raises(KeyError):
        EnergyModel().energy([Work("a", "dense", 1, bits=16)], "L1", costs=PLAIN, reuse=True)


def test_selecting_winners_by_hand():
    # 100 values are read and compared twice, 10 winners written as (index, value).
    work = selected("winners", 100, 10)
    assert work == Work("winners", "winners", operations=200, values=880)
    assert EnergyModel((PLAIN,)).energy([work], "L2", costs=PLAIN, reuse=True) == (200 + 880) / 4


def test_a_convolution_reads_each_weight_again_where_registers_hold_nothing():
    # 3 weights used at 5 positions: 15 multiply-adds, 12 bytes stored, 60 read.
    work = gathered("conv", "dense", macs=15, stored=12, entry=4, ins=7, outs=5)
    assert work.repeats == (60 - 12) + 4 * (15 - 7)


def test_the_range_covers_reuse_and_the_memorys_cost():
    model = EnergyModel((PLAIN,))
    found = model.ratio([dense()], [sparse()], "L1")
    ideal, none, worst = 430 / 44, 620 / 60, 430 / 60
    assert found.low == pytest.approx(worst)
    assert found.high == pytest.approx(max(ideal, none))
    # 800 multiply-adds' picojoules, 800 stored bytes, 120 of values against 32, 48 and 96.
    far = model.ratio([dense()], [sparse()], "DRAM")
    ends = [(920 + 800 * end) / (128 + 48 * end) for end in (100, 200)]
    assert far.high == pytest.approx(max(*ends, (1680 + 160_000) / (192 + 9600)))
    assert far.low < min(ends)


def test_a_network_against_itself_is_one():
    found = EnergyModel().ratio([dense()], [dense()], "DRAM")
    assert found.low == found.high == pytest.approx(1)
    found = EnergyModel().ratio([sparse()], [sparse()], "L1")
    assert found.high == pytest.approx(1)
    # Ideal registers for the first alone are worth something: the range says how much.
    assert found.low < 1


def test_a_network_that_does_nothing_has_no_ratio():
    with pytest.raises(ZeroDivisionError):
        EnergyModel().ratio([dense()], [], "L1")


@pytest.mark.parametrize("costs", COSTS, ids=lambda costs: costs.name)
def test_every_table_is_whole_and_memories_cost_more_the_farther_they_are(costs):
    assert costs.source
    assert tuple(costs.access) == MEMORIES
    assert 0 < costs.add < costs.multiply
    assert 0 < costs.add_whole < costs.multiply_whole < costs.add
    ends = [end for memory in MEMORIES for end in costs.access[memory]]
    assert ends == sorted(ends)


def test_the_published_tables():
    first, second = COSTS
    assert first.multiply_add() == pytest.approx(4.6)
    assert first.multiply_add(8) == pytest.approx(0.3)
    assert first.access["L1"][0] * 8 == 20
    assert [end * 8 for end in first.access["DRAM"]] == [1300, 2600]
    assert second.multiply_add() == pytest.approx(1.69)
    assert second.multiply_add(8) == pytest.approx(0.1)
