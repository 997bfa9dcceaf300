import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data import NOISE_LEVELS
from gossamer.data.images import Images


def test_noise_levels():
    assert NOISE_LEVELS == (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NOISE_LEVELS), st.integers(0, 2**31))
def test_noise_replaces_exactly_as_many_pixels_of_each_image(level, seed):
    x = np.random.default_rng(seed).integers(0, 100, (9, 28, 28), np.uint8)
    images = Images((1, 28, 28), mean=33.0, std=80.0)
    out = images.noise(x, level, np.random.default_rng(seed))
    changed = out != x
    assert out.shape == x.shape
    assert (changed.sum(axis=(1, 2)) == int(784 * level)).all()
    assert (out[changed] == 193.0).all()
    if level:
        assert (changed[0] != changed[1]).any()


def test_all_channels_of_a_pixel_are_replaced():
    x = np.zeros((2, 3, 10, 10), np.float32)
    out = Images((3, 10, 10), 1.0, 1.0).noise(x, 0.29, np.random.default_rng(0))
    assert ((out == 3).sum(axis=(2, 3)) == 29).all()
    assert ((out == 3).all(axis=1) == (out == 3).any(axis=1)).all()


def test_features_by_hand():
    x = np.array([[[0, 2], [4, 6]]], np.uint8)
    images = Images.fitted(x)
    assert images.mean == 3
    assert images.std == pytest.approx(5**0.5)
    np.testing.assert_allclose(images.features(x)[0, 0, 0], [-3 / 5**0.5, -1 / 5**0.5], rtol=1e-6)


def test_constant_images_do_not_divide_by_zero():
    x = np.full((4, 5, 5), 7, np.uint8)
    assert (Images.fitted(x).features(x) == 0).all()
