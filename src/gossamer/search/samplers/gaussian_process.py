"""Gaussian processes over the parameters, which predict a metric of untried points.

The covariance is a sum of one-dimensional Matern 5/2 kernels and one over all parameters
together. The first part (Duvenaud, Nickisch and Rasmussen, "Additive Gaussian Processes", 2011)
learns the effect of each parameter from a dozen trials; the second, with length scales that grow
with the square root of the dimension (Hvarfner, Hellsten and Nardi, "Vanilla Bayesian
Optimization Performs Great in High Dimensions", 2024), learns interactions. A quadratic
mean, a line and a parabola in each parameter with unknown coefficients (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006, section 2.7), continues into regions without
trials, where the kernels return to a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.blas import dtrmm

from gossamer.search.space.features import Features

_Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]

_ROOT5 = 5.0**0.5
# Logarithms of: length scale in the unit cube, variance of the additive part, of the joint part,
# of the noise; mean and spread of their normal priors, and bounds. Metrics have variance 1.
_PRIOR = {"length": (-0.2, 1.0), "add": (0.0, 1.5), "joint": (-3.0, 1.5), "noise": (-7.0, 2.5)}
_BOUNDS = {"length": (-3.0, 4.0), "add": (-9.0, 4.0), "joint": (-9.0, 4.0), "noise": (-13.8, 0.7)}
# While they are near a typical one, the logarithms of length scales have Student's t distribution
# of this scale, with so many degrees of freedom, around it; the typical one has their prior.
_NEAR = 0.5
_FREEDOM = 2.0
# The mean is not known: a constant with this variance is part of the covariance.
_OFFSET = 4.0
# Variance of the lines of a quadratic mean, at a corner of the space; the parabolas have about as
# much.
_QUADRATIC = 0.5
_EVALUATIONS = 40
# Known noise above so many standard deviations of the values makes no difference.
NOISIEST = 1e3
# Of the length scales where a parameter is to do nothing until the values say so.
_IDLE = (1.5, 1.5)
# Steps of a walk before the first sample of hyperparameters, and from one to the next.
_BURN_IN = 200
_THINNED = 30
_PIECE = 128


def _pairs(table: Mapping[str, tuple[float, float]], parameters: int) -> np.ndarray:
    """Return the two numbers of each hyperparameter in a table: float64 [2, hyperparameters]."""
    kinds = ["length"] * parameters + ["add", "joint", "noise"]
    return np.array([table[kind] for kind in kinds]).T


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Matern 5/2 kernel at scaled squared distances, and -2 times its derivative."""
    scaled = _ROOT5 * np.sqrt(squared)
    slope = np.exp(-scaled)
    kernel = slope * (1.0 + scaled + (5.0 / 3.0) * squared)
    slope *= (5.0 / 3.0) * (1.0 + scaled)
    return kernel, slope


def _quadratic(features: Features) -> np.ndarray:
    """Return the functions of a quadratic mean, scaled by their coefficients' standard deviations.

    These are Legendre polynomials of the first and second degree in each column: float64 [points,
    2 * columns].
    """
    x = 2.0 * features.columns - 1.0
    both = np.hstack([x, 2.0**0.5 * (x**2 - 1.0 / 3.0)])
    return np.asarray((_QUADRATIC / features.parameters) ** 0.5 * both)


def _covariance(
    theta: np.ndarray, features: Features, others: Features, quadratic: bool
) -> np.ndarray:
    """Return the covariance of points with other points: float64 [points, other points]."""
    rates = _ROOT5 * np.exp(-theta[:-3])
    count = len(rates)
    alone = np.flatnonzero(np.bincount(features.owner) == 1)
    several = np.flatnonzero(np.bincount(features.owner) > 1).tolist()
    tables = [_table(features, others, parameter, rates[parameter]) for parameter in several]
    columns = np.searchsorted(features.owner, alone)
    # From the middle, which keeps the terms of `_Lines` small.
    here, there = (rates[alone] * (f.columns[:, columns] - 0.5) for f in (features, others))
    lines = _Lines(here.T)
    covariance = np.empty((len(features), len(others)))
    # In pieces that stay in the cache, parameter by parameter.
    for start in range(0, len(others), _PIECE):
        rows = slice(start, start + _PIECE)
        near = there[rows]
        each = lines.kernels(near.T)
        total = (here**2).sum(axis=1)[:, None] + (near**2).sum(axis=1) - 2.0 * here @ near.T
        total = np.maximum(total, 0.0) / 5.0
        for squared, kernel, place in tables:
            total += squared[:, place[rows]]
            each += kernel[:, place[rows]]
        joint = _matern(total / count)[0]
        covariance[:, rows] = np.exp(theta[-3]) / count * each + np.exp(theta[-2]) * joint + _OFFSET
    if quadratic:
        covariance += _quadratic(features) @ _quadratic(others).T
    return covariance


def _table(
    features: Features, others: Features, parameter: int, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the kernel of a parameter of several columns, such as a choice.

    Such a parameter has few values, so the kernel is computed between values, not between points.

    Returns:
        Scaled squared distances and kernel, float64 [points, values] each; the index of each
        other point's value, int64 [other points].
    """
    own = features.owner == parameter
    here, row = np.unique(features.columns[:, own], axis=0, return_inverse=True)
    there, column = np.unique(others.columns[:, own], axis=0, return_inverse=True)
    squared = ((here[:, None] - there) ** 2).sum(axis=2) * rate**2 / 5.0
    row = row.reshape(-1)  # numpy 2.0 has it in two dimensions
    return squared[row], _matern(squared)[0][row], column.reshape(-1)


class _Lines:
    """The one-dimensional Matern 5/2 kernels exp(-d) (1 + d + d^2 / 3), d = |x - y|.

    Without the absolute value, the kernel is a sum of three products of a function of x and a
    function of y, which is right for x >= y and too large otherwise; the mirrored sum is right for
    x <= y. So exponentials are computed for points, not for pairs.

    Args:
        x: float64 [parameters, points].
    """

    def __init__(self, x: np.ndarray) -> None:
        self._shape = x.shape
        self._plain, self._mirrored = self._left(x), self._left(-x)

    @staticmethod
    def _left(x: np.ndarray) -> np.ndarray:
        terms = [1.0 + x + x**2 / 3.0, -1.0 - 2.0 / 3.0 * x, np.full_like(x, 1.0 / 3.0)]
        factors: np.ndarray = np.stack(terms, axis=2) * np.exp(-x)[:, :, None]
        return factors

    @staticmethod
    def _right(y: np.ndarray) -> np.ndarray:
        factors: np.ndarray = np.stack([np.ones_like(y), y, y**2], axis=1) * np.exp(y)[:, None]
        return factors

    def kernels(self, y: np.ndarray) -> np.ndarray:
        """Return the sum of the kernels over the parameters: float64 [points, other points]."""
        total = np.zeros((self._shape[1], y.shape[1]))
        products = zip(self._plain, self._right(y), self._mirrored, self._right(-y), strict=True)
        for left, right, mirrored_left, mirrored_right in products:
            total += np.minimum(left @ right, mirrored_left @ mirrored_right)
        return total


class GaussianProcess:
    """The posterior of one metric with known values at `features`.

    Args:
        features: the points.
        values: float64 [points], of about unit variance; or [draws, points], several possible
            values of the same points.
        theta: hyperparameters as `fit` returns them.
        known: float64 [points], known variance of each value's noise, in addition to the noise in
            the hyperparameters, which is the same for all values.
        quadratic: whether the mean has a line and a parabola in each parameter.
    """

    def __init__(
        self,
        features: Features,
        values: np.ndarray,
        theta: np.ndarray,
        known: np.ndarray | None = None,
        quadratic: bool = False,
    ) -> None:
        self.features = features
        self._values = values
        self._theta = theta
        self._known = np.zeros(len(features)) if known is None else known
        self._quadratic = quadratic
        covariance = self._covariance(features, features)
        self._root = _cholesky(covariance, np.exp(theta[-1]) + self._known)
        self._weights = cho_solve((self._root, True), values.T)
        self.denoised: np.ndarray = (covariance @ self._weights).T

    def _covariance(self, features: Features, others: Features) -> np.ndarray:
        return _covariance(self._theta, features, others, self._quadratic)

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation without noise, float64 [points] each; of several
        draws the means are [draws, points]."""
        cross = self._covariance(self.features, features)
        mean = (cross.T @ self._weights).T
        # The transposed product, with the zeros of the triangle left out: half the operations.
        solved = dtrmm(1.0, self._inverse_root.T, cross.T, side=1, lower=0)
        prior = np.exp(self._theta[-3]) + np.exp(self._theta[-2]) + _OFFSET
        if self._quadratic:
            prior = prior + (_quadratic(features) ** 2).sum(axis=1)
        variance = prior - np.einsum("ij,ij->i", solved, solved)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    @cached_property
    def _inverse_root(self) -> np.ndarray:
        """The inverse root, because products take half the time of triangular solves here."""
        unit = np.eye(len(self._root))
        inverse: np.ndarray = solve_triangular(self._root, unit, lower=True, check_finite=False)
        return np.ascontiguousarray(inverse)

    def draw(self, features: Features, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw functions from the posterior; return their values, float64 [count, points]."""
        cross = self._covariance(self.features, features)
        solved = solve_triangular(self._root, cross, lower=True, check_finite=False)
        covariance = self._covariance(features, features) - solved.T @ solved
        noise = rng.standard_normal((count, len(features)))
        root = _cholesky(covariance, np.zeros(len(features)))
        drawn: np.ndarray = cross.T @ self._weights + noise @ root.T
        return drawn

    def believing(self, features: Features, values: np.ndarray | None = None) -> GaussianProcess:
        """Return the posterior as if `features` had been observed.

        Args:
            values: what was observed, float64 [points] or [draws, points]; the expected values
                if None.
        """
        both = Features(np.vstack([self.features.columns, features.columns]), features.owner)
        values = self.predict(features)[0] if values is None else values
        observed = np.broadcast_to(self._values, (*values.shape[:-1], len(self.features)))
        known = np.concatenate([self._known, np.zeros(len(features))])
        together = np.concatenate([observed, values], axis=-1)
        return GaussianProcess(both, together, self._theta, known, self._quadratic)


def fit(
    features: Features,
    values: np.ndarray,
    known: np.ndarray | None = None,
    quadratic: bool = False,
    near: bool = False,
) -> tuple[np.ndarray, float]:
    """Return the most probable hyperparameters, and the log likelihood of `values` under them.

    The last results are cached, because searches call this repeatedly with the same trials.

    Args:
        known, quadratic: see `GaussianProcess`.
        near: whether length scales are a priori near a typical one, which is fitted too, so that
            few values tell how smooth the process is in all parameters; else they are independent.
    """
    columns = features.columns
    known = np.zeros(len(values)) if known is None else known
    owner = tuple(features.owner)
    return _fit(
        columns.tobytes(), columns.shape, owner, values.tobytes(), known.tobytes(), quadratic, near
    )


def sample(
    features: Features,
    values: np.ndarray,
    known: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Draw `count` hyperparameters from their posterior by a Metropolis walk.

    `known` is the variance of the noise, see `GaussianProcess`.

    A priori a parameter has no effect, because length scales are long (after the sparse
    axis-aligned subspaces of Eriksson and Jankowiak, "High-Dimensional Bayesian Optimization with
    SAASBO", 2021). If several parameters may explain the same values, as among trials around one
    optimum, the walk can pass from one explanation to the other by exchanging two length scales.
    """
    theta, _ = fit(features, values, known)
    walk = _Walk(features, values, known, theta)
    samples = []
    for step in range(_BURN_IN + count * _THINNED):
        walk.step(rng)
        if step >= _BURN_IN and (step - _BURN_IN) % _THINNED == _THINNED - 1:
            samples.append(walk.theta)
    return samples


class _Walk:
    """A random walk over hyperparameters that visits each in proportion to its probability.

    Args:
        features: the points.
        values: float64 [points], of about unit variance.
        known: float64 [points], variance of the noise.
        theta: the hyperparameters at the start.
    """

    def __init__(
        self, features: Features, values: np.ndarray, known: np.ndarray, theta: np.ndarray
    ) -> None:
        self._known = known
        count = features.parameters
        self._center, self._spread = _pairs({**_PRIOR, "length": _IDLE}, count)
        self._low, self._high = _pairs(_BOUNDS, count)
        self._count = count
        self._values = values
        self._squared = [features.squared_distances(features, i) for i in range(count)]
        self.theta = theta
        self._scaled = [self._scale(i, theta) for i in range(count)]
        self._each = [_matern(scaled)[0] for scaled in self._scaled]
        self._sums = np.sum(self._scaled, axis=0), np.sum(self._each, axis=0)
        self._loss = self._lost(theta, *self._sums)

    def _scale(self, parameter: int, theta: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = self._squared[parameter] * np.exp(-2.0 * theta[parameter])
        return scaled

    def _lost(self, theta: np.ndarray, scaled: np.ndarray, each: np.ndarray) -> float:
        """Return minus the logarithm of the probability of `theta`, up to a constant.

        Args:
            scaled, each: float64 [points, points], sums over the parameters of squared distances
                in length scales and of their kernels.
        """
        add, together, noise = np.exp(theta[-3:])
        joint = _matern(scaled / self._count)[0]
        covariance = add / self._count * each + together * joint + _OFFSET
        root = _cholesky(covariance, noise + self._known)
        solved = solve_triangular(root, self._values, lower=True, check_finite=False)
        off = (theta - self._center) / self._spread
        return float(0.5 * (solved @ solved + off @ off) + np.log(np.diag(root)).sum())

    def step(self, rng: np.random.Generator) -> None:
        """Make one step: accept or reject a proposal."""
        there, gain = self._proposed(rng)
        if (there < self._low).any() or (there > self._high).any():
            return
        changed = {}
        scaled_sum, each_sum = self._sums
        for i in np.flatnonzero(there[: self._count] != self.theta[: self._count]).tolist():
            scaled = self._scale(i, there)
            each = _matern(scaled)[0]
            changed[i] = scaled, each
            scaled_sum = scaled_sum + (scaled - self._scaled[i])
            each_sum = each_sum + (each - self._each[i])
        lost = self._lost(there, np.maximum(scaled_sum, 0.0), each_sum)
        if np.log(rng.random()) < self._loss - lost + gain:
            self.theta, self._loss, self._sums = there, lost, (scaled_sum, each_sum)
            for i, (scaled, each) in changed.items():
                self._scaled[i], self._each[i] = scaled, each

    def _proposed(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return a proposal and the log ratio of the proposal densities, backward to forward."""
        there = self.theta.copy()
        kind = rng.random()
        if kind < 0.25 and self._count > 1:  # two parameters change their roles
            one, other = rng.choice(self._count, 2, replace=False)
            there[[one, other]] = there[[other, one]]
            return there, 0.0
        if kind < 0.4:  # a length scale from its prior, so that none is stuck
            one = rng.integers(self._count)
            there[one] = self._center[one] + self._spread[one] * rng.standard_normal()
            ends = (np.array([there[one], self.theta[one]]) - self._center[one]) / self._spread[one]
            return there, float(0.5 * (ends[0] ** 2 - ends[1] ** 2))
        moved = rng.random(len(there)) < 2.0 / len(there)
        there += 0.6 * self._spread * moved * rng.standard_normal(len(there))
        return there, 0.0


@lru_cache(maxsize=64)
def _fit(
    columns: bytes,
    shape: tuple[int, int],
    owner: tuple[int, ...],
    values: bytes,
    known: bytes,
    quadratic: bool,
    near: bool,
) -> tuple[np.ndarray, float]:
    from scipy.optimize import minimize  # slow to import, and not for workers

    features = Features(np.frombuffer(columns).reshape(shape), np.array(owner))
    loss, center, bounds = _posterior(
        features, np.frombuffer(values), np.frombuffer(known), quadratic, near
    )
    options = {"maxfun": _EVALUATIONS}
    result = minimize(loss, center, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return result.x[1:], -float(result.fun)


def _posterior(
    features: Features, values: np.ndarray, known: np.ndarray, quadratic: bool, near: bool
) -> tuple[_Loss, np.ndarray, np.ndarray]:
    """Return the loss of hyperparameters (minus log probability) with its gradient, the center of
    their prior, and their bounds; the typical length scale comes first."""
    parameters = features.parameters
    squared = np.stack([features.squared_distances(features, p) for p in range(parameters)])
    center, spread = _pairs(_PRIOR, parameters + 1)
    functions = _quadratic(features) if quadratic else np.zeros((len(features), 0))
    mean = _OFFSET + functions @ functions.T

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = squared * np.exp(-2.0 * theta[1:-3])[:, None, None]
        each, each_slope = _matern(scaled)
        joint, joint_slope = _matern(scaled.mean(axis=0))
        add, together, noise = np.exp(theta[-3:])
        each_mean = each.mean(axis=0)
        root = _cholesky(add * each_mean + together * joint + mean, noise + known)
        weights = cho_solve((root, True), values, check_finite=False)
        inverse = cho_solve((root, True), np.eye(len(values)), check_finite=False)
        # d loss / d covariance, doubled: inverse - weights weights^T.
        outer = inverse - np.outer(weights, weights)
        by_length = (
            np.einsum("pij,pij,ij->p", scaled, each_slope, outer, optimize=False) * add
            + np.einsum("pij,ij->p", scaled, joint_slope * outer, optimize=False) * together
        ) / parameters
        gradient = 0.5 * np.array(
            [
                0.0,
                *by_length,
                add * (outer * each_mean).sum(),
                together * (outer * joint).sum(),
                noise * np.trace(outer),
            ]
        )
        off = (theta - center) / spread
        improbable = 0.0
        if near:
            off[1:-3] = 0.0
            around = (theta[1:-3] - theta[0]) / _NEAR
            pull = (_FREEDOM + 1.0) / _NEAR * around / (_FREEDOM + around**2)
            gradient += [-pull.sum(), *pull, 0.0, 0.0, 0.0]
            improbable = 0.5 * (_FREEDOM + 1.0) * np.log1p(around**2 / _FREEDOM).sum()
        evidence = 0.5 * values @ weights + np.log(np.diag(root)).sum()
        return float(evidence + improbable + 0.5 * (off**2).sum()), gradient + off / spread

    return loss, center, _pairs(_BOUNDS, parameters + 1).T


def _cholesky(covariance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factor of `covariance` plus noise [points], with more noise if
    rounding makes that necessary."""
    jitter = 1e-8
    while True:
        try:
            return np.linalg.cholesky(covariance + np.diag(noise + jitter))
        except np.linalg.LinAlgError:
            jitter *= 100.0
