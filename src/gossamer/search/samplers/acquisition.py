"""The acquisition function: the expected gain in hypervolume inside the thresholds.

A metric's *slack* is how far a trial is on the right side of the metric's threshold. Seen along a
direction, a trial reaches as far as its scarcest slack: ``min_i slack_i / direction_i``. The mean
over all directions of the furthest reach, to the power of the number of metrics, is the
hypervolume that the trials dominate inside the thresholds, up to a factor (Zhang and Golovin,
"Random Hypervolume Scalarizations for Provable Multi-Objective Black Box Optimization", 2020). So
the expected improvement in hypervolume is a mean of one-dimensional integrals, for any number of
metrics, and a threshold is nothing but a reach of 0.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, gammaln, log_ndtr, ndtri

_DIRECTIONS = 16
# Radians: no direction is closer to an axis.
_NARROW = 0.02
# Gauss-Legendre nodes and weights on [0, 1].
_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(8)[i] for i in (0, 1))
_NODES, _WEIGHTS = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0
# The integrals go this many standard deviations beyond the mean.
_TAIL = 3.0


def directions(metrics: int, turn: int = 0) -> np.ndarray:
    """Return evenly spread unit vectors without components close to 0: float64 [directions,
    metrics].

    Each `turn` returns other ones, and many turns together are evenly spread as well: with the
    same few directions always, a frontier would be explored only along these.
    """
    if metrics == 1:
        return np.ones((1, 1))
    if metrics == 2:
        offset = (0.5 + turn * _golden(1)) % 1.0
        angles = (np.arange(_DIRECTIONS) + offset) / _DIRECTIONS * (np.pi / 2.0)
        angles = np.clip(angles, _NARROW, np.pi / 2.0 - _NARROW)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    from scipy.stats import qmc  # slow to import, and not for workers

    units = qmc.Sobol(metrics, scramble=True, seed=0).random(_DIRECTIONS * 2)
    units = (units + turn * _golden(metrics)) % 1.0
    normals = np.clip(np.abs(ndtri(units)), 0.05, 4.0)
    spread: np.ndarray = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return spread


def _golden(dimensions: int) -> np.ndarray:
    """Return steps, float64 [dimensions], whose multiples modulo 1 are evenly spread.

    Powers of the generalized golden ratio (Roberts, "The Unreasonable Effectiveness of
    Quasirandom Sequences", 2018); in one dimension the golden ratio itself.
    """
    ratio = 2.0
    for _ in range(40):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    steps: np.ndarray = ratio ** -(1.0 + np.arange(dimensions))
    return steps


def reach(slack: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Return the reach of trials with `slack` [trials, metrics]: float64 [directions, trials]."""
    furthest: np.ndarray = (slack[None] / ways[:, None]).min(axis=2)
    return furthest


def log_probability_inside(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability that every slack is at least 0, float64 [points].

    Args:
        mean: of the slacks, float64 [points, metrics]; or [draws, points, metrics], where each
            draw is equally probable.
        spread: standard deviations of the slacks, float64 [points, metrics].
    """
    chances: np.ndarray = log_ndtr(mean / spread).sum(axis=-1)
    if chances.ndim == 1:
        return chances
    largest = chances.max(axis=0)
    mixed: np.ndarray = largest + np.log(np.exp(chances - largest).mean(axis=0))
    return mixed


def log_uncovered(far: np.ndarray, radius: float, dimensions: int) -> np.ndarray:
    """Return the logarithm of the share of a ball around each point outside other balls.

    Approximate: overlaps among the other balls are taken as independent. The intersection of two
    balls is that of Li, "Concise formulas for the area and volume of a hyperspherical cap", 2011.

    Args:
        far: float64 [points, other balls], distances of the centers.
        radius: radius of every ball.
        dimensions: dimensions of the space.

    Returns:
        float64 [points].
    """
    apart = np.minimum(far / (2.0 * radius), 1.0)
    common = betainc((dimensions + 1) / 2.0, 0.5, 1.0 - apart**2)
    free: np.ndarray = np.log1p(-np.minimum(common, 1.0 - 1e-12)).sum(axis=1)
    return free


def filling_radius(volume: float, balls: int, dimensions: int) -> float:
    """Return the radius of `balls` equal balls with this total volume."""
    unit_ball = np.exp(dimensions / 2.0 * np.log(np.pi) - gammaln(dimensions / 2.0 + 1.0))
    return float((volume / (balls * unit_ball)) ** (1.0 / dimensions))


def log_expected_gain(
    mean: np.ndarray, spread: np.ndarray, best: np.ndarray, ways: np.ndarray
) -> np.ndarray:
    """Return the logarithm of the expected improvement in hypervolume, up to a constant.

    Args:
        mean, spread: mean and standard deviation of the independent normal slacks, float64
            [points, metrics].
        best: the furthest reach so far, at least 0; float64 [directions].
        ways: directions, as `directions` returns them.

    Returns:
        float64 [points].
    """
    metrics = mean.shape[1]
    scaled, wide = mean[None] / ways[:, None], spread[None] / ways[:, None]
    # [directions, points]: the integral over reaches from `best` to where nothing is expected.
    width = np.maximum((scaled + _TAIL * wide).min(axis=2) - best[:, None], wide.min(axis=2))
    reaches = best[:, None, None] + width[:, :, None] * _NODES
    logs = sum(
        log_ndtr((scaled[:, :, None, i] - reaches) / wide[:, :, None, i]) for i in range(metrics)
    )
    logs += np.log(_WEIGHTS) + (metrics - 1) * np.log(reaches + 1e-12)
    logs += np.log(width)[:, :, None]
    # scipy's logsumexp takes most of its time to check for infinities.
    largest = logs.max(axis=(0, 2))
    total = np.exp(logs - largest[:, None]).sum(axis=(0, 2))
    gain: np.ndarray = largest + np.log(total) - np.log(len(ways))
    return gain
