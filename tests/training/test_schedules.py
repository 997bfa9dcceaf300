"""Learning rates and penalty factors, by hand."""

from itertools import pairwise

import pytest

from gossamer.training import TrainingConfig
from gossamer.training.schedules import learning_rate, penalty_factor

PHASES = TrainingConfig(
    epochs=10,
    learning_rate=1.0,
    schedule="phases",
    learning_rate_decay_before=0.9,
    learning_rate_decay_during=0.5,
    learning_rate_decay_after=0.8,
    penalty_start=0.2,
    penalty_end=1.0,
    penalty_warmup_start=0.2,
    penalty_warmup_end=0.4,
)


def test_one_cycle_by_hand():
    settings = TrainingConfig(learning_rate=0.5, warmup=0.25)
    rates = [learning_rate(settings, step, 100, 0) for step in range(101)]
    assert rates[0] == pytest.approx(0.5 / 50)
    assert rates[25] == 0.5 == max(rates)
    assert rates[100] == pytest.approx(0.5 / 5e4)
    # Half way up and half way down a cosine: the mean of its ends.
    assert (rates[12] + rates[13]) / 2 == pytest.approx((0.01 + 0.5) / 2, rel=1e-3)
    assert (rates[62] + rates[63]) / 2 == pytest.approx((0.5 + 1e-5) / 2, rel=1e-3)
    assert all(a < b for a, b in pairwise(rates[:26]))
    assert all(a > b for a, b in pairwise(rates[25:]))


@pytest.mark.parametrize(("warmup", "first", "last"), [(0.0, 1.0, 2e-5), (1.0, 0.02, 1.0)])
def test_one_cycle_without_rise_or_without_fall(warmup, first, last):
    settings = TrainingConfig(learning_rate=1.0, warmup=warmup)
    assert learning_rate(settings, 0, 10, 0) == pytest.approx(first)
    assert learning_rate(settings, 10, 10, 0) == pytest.approx(last)


def test_step_and_constant_by_hand():
    step = TrainingConfig(learning_rate=0.8, schedule="step", learning_rate_decay=0.5)
    assert [learning_rate(step, 3 * e, 9, e) for e in range(3)] == [0.8, 0.4, 0.2]
    constant = TrainingConfig(learning_rate=0.8, schedule="constant")
    assert [learning_rate(constant, s, 9, s // 3) for s in range(9)] == [0.8] * 9


def test_phases_by_hand():
    rates = [learning_rate(PHASES, 0, 100, epoch) for epoch in range(7)]
    by_hand = [1.0, 0.9, 0.81, 0.405, 0.2025, 0.162, 0.1296]
    assert rates == pytest.approx(by_hand)


def test_warm_up_by_hand():
    shares = (0.0, 0.2, 0.25, 0.3, 0.4, 1.0)
    factors = [penalty_factor(PHASES, share) for share in shares]
    assert factors == pytest.approx([0.2, 0.2, 0.4, 0.6, 1.0, 1.0])
    at_once = TrainingConfig(penalty_warmup_start=0.5, penalty_warmup_end=0.5)
    assert [penalty_factor(at_once, share) for share in (0.0, 0.49, 0.5)] == [0.0, 0.0, 1.0]
