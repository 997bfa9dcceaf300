"""Background noise: the stated signal-to-noise ratio is the one that is there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data.audio import Sound
from gossamer.data.corruptions import corruptions
from gossamer.data.images import Images
from gossamer.data.mixing import RATIOS, at_snr, noises
from gossamer.data.task import Split, Task
from gossamer.errors import UserError


def ratio(clips, mixed):
    signal = np.mean(np.square(clips, dtype=np.float64), axis=-1)
    noise = np.mean(np.square(mixed.astype(np.float64) - clips), axis=-1)
    return 10 * np.log10(signal / noise)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-20, 40),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.floats(1e-3, 1.0),
)
def test_the_ratio_of_every_clip_is_exact(decibels, clips, seed, loudness):
    rng = np.random.default_rng(seed)
    speech = (loudness * rng.standard_normal((clips, 400))).astype(np.float32)
    noise = rng.standard_normal((clips, 400)).astype(np.float32) * rng.uniform(0.1, 5)
    np.testing.assert_allclose(ratio(speech, at_snr(speech, noise, decibels)), decibels, atol=1e-3)


def test_by_hand():
    speech = np.array([[0.5, -0.5, 0.5, -0.5]], np.float32)
    noise = np.array([[1.0, 1.0, -1.0, -1.0]], np.float32)
    np.testing.assert_allclose(at_snr(speech, noise, 0.0), [[1.0, 0.0, 0.0, -1.0]], atol=1e-7)
    np.testing.assert_allclose(at_snr(speech, noise, 20.0), speech + 0.05 * noise, atol=1e-7)


def test_silence_stays_silent_and_int16_is_scaled():
    speech = np.zeros((2, 8), np.int16)
    speech[1] = 16384
    noise = np.ones((2, 8), np.float32)
    found = at_snr(speech, noise, 0.0)
    assert not found[0].any()
    np.testing.assert_allclose(found[1], 1.0)
    np.testing.assert_allclose(at_snr(speech, 0 * noise, 0.0)[1], 0.5)


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    train = Split((rng.standard_normal((12, 16_000)) * 3000).astype(np.int16), np.arange(12) % 3)
    background = (rng.standard_normal(40_000) * 1000).astype(np.int16)
    domain = Sound.fitted(train.x, background)
    return Task("sounds", ("a", "b", "c"), train, train, train, domain, "made up")


def test_every_noise_has_its_ratio_and_repeats_itself(sounds):
    known = corruptions(sounds)
    assert list(known) == ["background", "babble", "pink", "hum"]
    x = sounds.test.x[:3]
    for found in known.values():
        assert found.unit == "dB"
        assert found.levels == RATIOS
        first, second = (found.apply(x, 5.0, np.random.default_rng(1)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(ratio(x / np.float32(32768), first), 5.0, atol=0.01)


def test_no_recordings_no_background(sounds):
    domain = Sound(np.zeros(0, np.int16))
    assert "background" not in noises(domain, sounds.train)


def test_images_are_corrupted_in_their_own_range():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (4, 12, 12)).astype(np.uint8)
    split = Split(x, np.arange(4))
    task = Task("images", tuple("abcd"), split, split, split, Images.fitted(x), "made up")
    found = corruptions(task)["contrast"]
    changed = found.apply(x, 1, rng)
    assert changed.shape == x.shape
    for image, original in zip(changed, x, strict=True):
        np.testing.assert_allclose(
            image, (original - original.mean()) * 0.4 + original.mean(), atol=1e-3
        )


def test_other_data_have_no_corruptions(sounds):
    class Vectors:
        shape = (3,)

    task = Task("numbers", ("a",), sounds.train, sounds.train, sounds.train, Vectors(), "made up")
    with pytest.raises(UserError, match="numbers has neither images nor sounds"):
        corruptions(task)
