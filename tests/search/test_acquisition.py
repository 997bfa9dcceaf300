"""The expected gain beside counting: many draws, and hypervolumes worked by hand."""

import numpy as np
import pytest

from gossamer.search.samplers.acquisition import (
    directions,
    log_expected_gain,
    log_probability_inside,
    reach,
)


@pytest.mark.parametrize("metrics", [1, 2, 3, 4])
@pytest.mark.parametrize("turn", [0, 1, 7, 1000])
def test_directions_have_length_one_and_favor_nothing(metrics, turn):
    ways = directions(metrics, turn)
    np.testing.assert_allclose((ways**2).sum(axis=1), 1.0)
    assert ways.min() > 0.0
    np.testing.assert_allclose(ways.mean(axis=0), ways.mean(), rtol=0.15)


def test_turned_directions_leave_no_gaps():
    angles = np.sort(
        np.concatenate([np.arctan2(*directions(2, turn).T[::-1]) for turn in range(32)])
    )
    # 512 directions over a quarter circle.
    assert np.diff(angles).max() < 3.0 * (np.pi / 2.0) / 512


def test_reach_by_hand():
    ways = np.array([[0.6, 0.8], [1.0, 0.5]])
    slack = np.array([[0.6, 1.6], [-0.3, 0.4]])
    np.testing.assert_allclose(reach(slack, ways), [[1.0, -0.5], [0.6, -0.3]])


def test_mean_reach_is_hypervolume():
    # Of one corner at (2, 1) and of a stair with another at (1, 2): areas 2 and 3.
    ways = directions(2)
    one = reach(np.array([[2.0, 1.0]]), ways).max(axis=1)
    two = reach(np.array([[2.0, 1.0], [1.0, 2.0]]), ways).max(axis=1)
    assert (two**2).mean() / (one**2).mean() == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_expected_gain_is_the_mean_over_draws(metrics):
    rng = np.random.default_rng(0)
    ways = directions(metrics)
    best = reach(rng.random((3, metrics)) * 0.5, ways).max(axis=1)
    mean, spread = rng.normal(0.4, 0.4, (6, metrics)), 0.2 + 0.3 * rng.random((6, metrics))
    draws = mean + spread * rng.standard_normal((40_000, 6, metrics))
    reached = np.stack([reach(draws[:, i], ways) for i in range(6)], axis=2)
    # d/dr r^m / m: the integrand is r^(m - 1).
    improved = np.maximum(reached, best[:, None, None]) ** metrics - best[:, None, None] ** metrics
    expected = improved.mean(axis=(0, 1)) / metrics
    found = np.exp(log_expected_gain(mean, spread, best, ways))
    np.testing.assert_allclose(found, expected, rtol=0.06, atol=2e-4)


def test_hopeless_points_are_still_ordered():
    ways, best = directions(2), np.full(16, 1.0)
    mean = np.array([[-50.0, 0.0], [-40.0, 0.0], [-1e6, 0.0]])
    gain = log_expected_gain(mean, np.ones((3, 2)), best, ways)
    assert np.isfinite(gain).all()
    assert gain[1] > gain[0] > gain[2]


def test_probability_inside_by_hand():
    chance = log_probability_inside(np.array([[0.0, 0.0], [1.0, 8.0]]), np.ones((2, 2)))
    np.testing.assert_allclose(np.exp(chance), [0.25, 0.8413], rtol=1e-3)


def test_probability_inside_of_several_draws_by_hand():
    # Of the first point 0.5 and 1, of the second 0 twice, so unlikely that only logarithms differ.
    mean = np.array([[[0.0], [-50.0]], [[9.0], [-60.0]]])
    chance = log_probability_inside(mean, np.ones((2, 1)))
    assert np.exp(chance[0]) == pytest.approx(0.75)
    only = log_probability_inside(mean[0], np.ones((2, 1)))
    assert chance[1] == pytest.approx(only[1] - np.log(2.0))
