"""Gaussian processes beside scikit-learn's, and derivatives beside differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from gossamer.search.samplers import gaussian_process
from gossamer.search.samplers.gaussian_process import GaussianProcess, fit
from gossamer.search.space.features import Features


def _features(columns):
    return Features(columns, np.arange(columns.shape[1]))


def test_one_dimension_is_the_textbooks_posterior():
    rng = np.random.default_rng(0)
    known, new = rng.random((12, 1)), rng.random((40, 1))
    values = np.sin(6.0 * known[:, 0])
    # In one dimension the additive and the joint part are one kernel of their summed variance.
    theta = np.log([0.4, 0.7, 0.3, 1e-3])
    mean, spread = GaussianProcess(_features(known), values, theta).predict(_features(new))
    kernel = Matern(0.4, nu=2.5) + ConstantKernel(gaussian_process._OFFSET)
    theirs = GaussianProcessRegressor(kernel, alpha=1e-3, optimizer=None).fit(known, values)
    expected_mean, expected_spread = theirs.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread, expected_spread, rtol=1e-3, atol=1e-5)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 150),
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.floats(-3.0, 4.0),
)
def test_the_covariance_is_the_sum_of_its_kernels(seed, known, new, widths, length):
    """Parameters of one column and of several, the shortest and longest lengths allowed."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(widths)), widths)
    one, other = (Features(rng.random((n, len(owner))), owner) for n in (known, new))
    lengths = np.where(rng.random(len(widths)) < 0.5, length, rng.uniform(-3.0, 4.0, len(widths)))
    add, joint = rng.normal(size=2)
    kernel = Matern(nu=2.5)
    each = sum(
        kernel(*(f.columns[:, owner == p] / np.exp(log) for f in (one, other)))
        for p, log in enumerate(lengths)
    )
    scale = np.exp(lengths)[owner] * len(widths) ** 0.5
    expected = (
        np.exp(add) / len(widths) * each
        + np.exp(joint) * kernel(one.columns / scale, other.columns / scale)
        + gaussian_process._OFFSET
    )
    theta = np.array([*lengths, add, joint, -7.0])
    found = gaussian_process._covariance(theta, one, other, quadratic=False)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_a_quadratic_mean_is_bayesian_regression():
    """With hardly any kernel, what is left is a linear model of lines and parabolas."""
    rng = np.random.default_rng(6)
    known, new = rng.random((30, 3)), rng.random((50, 3))
    values = known @ [1.0, -2.0, 0.0] + 3.0 * known[:, 2] ** 2 + 0.1 * rng.standard_normal(30)
    theta = np.array([0.0, 0.0, 0.0, -9.0, -9.0, np.log(0.01)])
    process = GaussianProcess(_features(known), values, theta, quadratic=True)
    mean, spread = process.predict(_features(new))

    def functions(x):
        x = 2.0 * x - 1.0
        parabolas = 2.0**0.5 * (x**2 - 1.0 / 3.0)
        scale = (gaussian_process._QUADRATIC / 3.0) ** 0.5
        constant = np.full((len(x), 1), gaussian_process._OFFSET**0.5)
        return np.hstack([constant, scale * x, scale * parabolas])

    basis = functions(known)
    precision = basis.T @ basis / 0.01 + np.eye(7)
    coefficients = np.linalg.solve(precision, basis.T @ values / 0.01)
    expected = functions(new) @ coefficients
    deviation = np.sqrt(
        np.einsum("ij,ji->i", functions(new), np.linalg.solve(precision, functions(new).T))
    )
    np.testing.assert_allclose(mean, expected, atol=0.03)
    assert (np.abs(spread - deviation) < 0.03).all()
    drawn = process.draw(_features(new), 4000, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.1)
    # Beyond the trials the mean continues, where without it the kernels return to a constant.
    narrow = rng.random((30, 1)) * 0.5
    at_the_end = _features(np.array([[1.0]]))
    fits = []
    for quadratic in (False, True):
        slope = (narrow[:, 0] - 0.25) / 0.15
        found, _ = fit(_features(narrow), slope, quadratic=quadratic)
        process = GaussianProcess(_features(narrow), slope, found, quadratic=quadratic)
        fits.append(abs(process.predict(at_the_end)[0][0] - 0.75 / 0.15))
    assert fits[1] < fits[0]


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("quadratic", [False, True])
def test_the_fits_gradient_is_the_slope(quadratic, near, monkeypatch):
    caught = {}

    def keep(loss, start, **_):
        caught["loss"] = loss
        return type("Result", (), {"x": start, "fun": 0.0})()

    monkeypatch.setattr("scipy.optimize.minimize", keep)
    rng = np.random.default_rng(1)
    columns = rng.random((15, 4))
    # The last two columns are one parameter's, as of a choice.
    values = columns.sum(axis=1) - 2.0
    fit(Features(columns, np.array([0, 1, 2, 2])), values, quadratic=quadratic, near=near)
    loss = caught["loss"]
    for _ in range(3):
        theta = rng.normal(-0.5, 0.5, 7)
        error = check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], theta, epsilon=1e-6)
        assert error < 1e-3 * (1.0 + np.linalg.norm(loss(theta)[1]))


def test_what_each_parameter_does_is_learned_from_few_points():
    rng = np.random.default_rng(2)
    known, new = rng.random((40, 10)), rng.random((200, 10))

    def function(x):
        return ((x - 0.4) ** 2).sum(axis=1) + 0.5 * np.sin(4.0 * x[:, 0])

    values = function(known)
    normal = (values - values.mean()) / values.std()
    theta, _ = fit(_features(known), normal)
    mean, spread = GaussianProcess(_features(known), normal, theta).predict(_features(new))
    truth = (function(new) - values.mean()) / values.std()
    assert np.corrcoef(mean, truth)[0, 1] > 0.95
    assert (np.abs(mean - truth) < 3.0 * spread).mean() > 0.95


def test_few_points_tell_how_smooth_all_parameters_are():
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        known, new = rng.random((12, 8)), rng.random((300, 8))
        values, truth = (np.sin(3.0 * x + 0.5).sum(axis=1) for x in (known, new))
        normal, truth = ((v - values.mean()) / values.std() for v in (values, truth))
        for near in (False, True):
            theta, _ = fit(_features(known), normal, near=near)
            mean, _ = GaussianProcess(_features(known), normal, theta).predict(_features(new))
            errors.append([np.sqrt(((mean - truth) ** 2).mean()), np.ptp(theta[:8])])
    independent, near = np.mean(errors[::2], axis=0), np.mean(errors[1::2], axis=0)
    assert near[0] < 0.95 * independent[0]
    assert near[1] < 0.5 * independent[1]


def test_one_parameter_differs_from_the_typical_one_where_the_values_say_so():
    rng = np.random.default_rng(0)
    known = rng.random((60, 4))
    values = np.sin(20.0 * known[:, 0]) + 0.3 * known[:, 1:].sum(axis=1)
    theta, _ = fit(_features(known), (values - values.mean()) / values.std(), near=True)
    assert theta[0] < -1.0
    assert (theta[1:4] > 2.0).all()


def test_believing_leaves_the_mean_and_narrows_the_spread():
    rng = np.random.default_rng(3)
    known, pending, new = rng.random((10, 3)), rng.random((4, 3)), rng.random((30, 3))
    theta, _ = fit(_features(known), known[:, 0] - 0.5)
    process = GaussianProcess(_features(known), known[:, 0] - 0.5, theta)
    believing = process.believing(_features(pending))
    before, after = process.predict(_features(new)), believing.predict(_features(new))
    np.testing.assert_allclose(after[0], before[0], atol=2e-3)
    assert (after[1] <= before[1] + 1e-6).all()
    at_pending = believing.predict(_features(pending))[1]
    assert (at_pending < process.predict(_features(pending))[1]).all()


def test_several_draws_at_once_are_as_one_after_the_other():
    rng = np.random.default_rng(3)
    known, pending, new = (_features(rng.random((n, 3))) for n in (10, 4, 30))
    values, draws = rng.normal(size=10), rng.normal(size=(5, 4))
    process = GaussianProcess(known, values, np.log([0.5, 0.5, 0.5, 1.0, 0.1, 0.01]))
    together, spread = process.believing(pending, draws).predict(new)
    assert together.shape == (5, 30)
    for mean, draw in zip(together, draws, strict=True):
        alone = process.believing(pending, draw).predict(new)
        np.testing.assert_allclose(mean, alone[0], atol=1e-10)
        np.testing.assert_allclose(spread, alone[1])


def test_noise_is_separated_from_signal():
    rng = np.random.default_rng(4)
    known = rng.random((80, 2))
    truth = np.sin(3.0 * known[:, 0])
    noisy = truth + 0.5 * rng.standard_normal(80)
    theta, _ = fit(_features(known), noisy - noisy.mean())
    denoised = GaussianProcess(_features(known), noisy - noisy.mean(), theta).denoised
    off = denoised + noisy.mean() - truth
    assert np.std(off) < 0.5 * np.std(noisy - truth)


@pytest.mark.parametrize("count", [1, 2])
def test_points_on_top_of_each_other_are_no_trouble(count):
    columns = np.zeros((6, 2))
    values = np.arange(6.0)[: 3 * count].repeat(2 // count)
    theta, evidence = fit(_features(columns), values - values.mean())
    mean, spread = GaussianProcess(_features(columns), values, theta).predict(
        _features(np.array([[0.0, 0.0], [1.0, 1.0]]))
    )
    assert np.isfinite([evidence, *mean, *spread]).all()
