"""Common corruptions: shapes, range, determinism, and that severity means what it says."""

import numpy as np
import pytest
import scipy.ndimage

from gossamer.data.image_corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    contrast,
    jpeg,
    pixelate,
    shot_noise,
)


@pytest.fixture(scope="module")
def images():
    """Images of soft light shapes on dark ground."""
    noise = np.random.default_rng(3).standard_normal((64, 1, 28, 28), np.float32)
    return np.clip(2 * scipy.ndimage.gaussian_filter(noise, (0, 0, 1.2, 1.2)), 0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_range_and_type_stay_and_the_input_is_not_touched(name, images):
    before = images.copy()
    for severity in SEVERITIES:
        found = CORRUPTIONS[name](images, severity, np.random.default_rng(0))
        assert found.shape == images.shape
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_images(name, images):
    first, second = (CORRUPTIONS[name](images, 3, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_more_severe_is_further_from_the_original(name, images):
    distances = [
        np.abs(CORRUPTIONS[name](images, severity, np.random.default_rng(0)) - images).mean()
        for severity in SEVERITIES
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (1, 1, 7, 9), (0, 1, 28, 28)])
def test_any_shape_color_and_an_empty_batch(name, shape):
    x = np.random.default_rng(0).random(shape, np.float32)
    assert CORRUPTIONS[name](x, 5, np.random.default_rng(0)).shape == shape


def test_contrast_by_hand():
    x = np.array([[[[0.0, 1.0]]]], np.float32)
    np.testing.assert_allclose(contrast(x, 1, None), [[[[0.3, 0.7]]]], atol=1e-6)


def test_pixelate_averages_whole_pixels_where_they_divide():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    found = pixelate(x, 4, None)  # 0.3 of 4: a single pixel
    np.testing.assert_allclose(found, np.full((1, 1, 4, 4), x.mean()), atol=1e-6)
    found = pixelate(x, 1, None)  # 0.6 of 4: two by two
    np.testing.assert_allclose(found[0, 0, :2, :2], x[0, 0, :2, :2].mean(), atol=1e-6)


def test_shot_noise_keeps_black_and_the_mean():
    x = np.full((1, 1, 200, 200), 0.25, np.float32)
    found = shot_noise(x, 1, np.random.default_rng(0))
    assert abs(found.mean() - 0.25) < 0.005
    assert not shot_noise(np.zeros_like(x), 5, np.random.default_rng(0)).any()


def test_jpeg_keeps_flat_blocks_to_the_rounding_of_their_mean():
    # Quality 25 quantizes the mean of a block by 32 / 8 = 4 gray levels.
    x = np.full((1, 1, 8, 8), 200 / 255, np.float32)
    found = jpeg(x, 1, None) * 255
    assert np.ptp(found) == 0
    assert abs(found.flat[0] - 200) <= 2
