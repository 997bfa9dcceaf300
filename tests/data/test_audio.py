import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data.audio import Sound, cut, fit_length, floats, int16, read, resample
from gossamer.errors import UserError

_BACKGROUND = int16(np.random.default_rng(9).uniform(-0.5, 0.5, 40_000).astype(np.float32))


def _clips(count, seed=0):
    return int16(np.random.default_rng(seed).normal(0, 0.1, (count, 16_000)).astype(np.float32))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_reads_what_was_written(tmp_path, suffix):
    samples = _clips(1)[0]
    soundfile.write(tmp_path / f"a.{suffix}", samples, 16_000, subtype="PCM_16")
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}"), samples)


def test_mixes_channels_and_resamples(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000) * 0.5
    soundfile.write(tmp_path / "a.wav", np.stack([tone, np.zeros_like(tone)], 1), 8_000)
    got = floats(read(tmp_path / "a.wav"))
    assert got.shape == (16_000,)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(got[500:-500], expected[500:-500], atol=2e-3)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not sound at all" * 20])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.wav: not a readable sound file"):
        read(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"b\.wav"):
        read(tmp_path / "b.wav")


def test_resample_keeps_a_sine():
    at = np.arange(22_050) / 22_050
    got = resample(np.sin(2 * np.pi * 1000 * at).astype(np.float32), 22_050, 16_000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    assert got.dtype == np.float32
    assert got.shape == (16_000,)
    np.testing.assert_allclose(got[200:-200], expected[200:-200], atol=3e-3)


def test_fit_length_and_cut():
    assert fit_length(np.array([1, 2]), 4).tolist() == [1, 2, 0, 0]
    assert fit_length(np.array([1, 2, 3]), 2).tolist() == [1, 2]
    assert cut(np.arange(10), np.array([0, 7]), 3).tolist() == [[0, 1, 2], [7, 8, 9]]


def test_int16_clips():
    assert int16(np.array([-2.0, 0.5, 2.0])).tolist() == [-32768, 16384, 32767]


def test_features_are_standardized_by_the_training_split():
    train = _clips(40)
    sound = Sound.fitted(train, _BACKGROUND)
    out = sound.features(train)
    assert out.shape == (40, *sound.shape) == (40, 1, 32, 32)
    assert out.mean() == pytest.approx(0, abs=1e-4)
    assert out.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(sound.features(floats(train)), out, atol=1e-5)


def test_silence_alone_does_not_divide_by_zero():
    sound = Sound.fitted(np.zeros((3, 16_000), np.int16), _BACKGROUND)
    assert np.isfinite(sound.features(np.zeros((3, 16_000), np.int16))).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_augmentation_shifts_and_adds_little(seed):
    clips = np.zeros((64, 16_000), np.int16)
    clips[:, 8_000] = 32767  # one click: its place tells the shift
    out = Sound(_BACKGROUND).augment(clips, np.random.default_rng(seed))
    assert out.dtype == np.float32
    at = np.abs(out).argmax(axis=1)
    assert np.abs(at - 8_000).max() <= 1_600
    assert len(np.unique(at)) > 32
    out[np.arange(64), at] = 0
    volume = np.abs(out).max(axis=1)
    assert volume.max() <= 0.1 * 0.5 + 1e-4
    assert 0 < np.sum(volume == 0) < 40  # about a fifth goes without noise


def test_augmentation_is_reproducible_and_leaves_its_input():
    clips = _clips(8)
    before = clips.copy()
    sound = Sound(_BACKGROUND)
    first = sound.augment(clips, np.random.default_rng(1))
    np.testing.assert_array_equal(first, sound.augment(clips, np.random.default_rng(1)))
    assert not np.array_equal(first, sound.augment(clips, np.random.default_rng(2)))
    np.testing.assert_array_equal(clips, before)


def test_augmentation_without_background_only_shifts():
    clips = _clips(6)
    out = Sound(np.zeros(0, np.int16)).augment(clips, np.random.default_rng(0))
    for row, got in enumerate(out):
        shifts = range(-1_600, 1_601)
        padded = np.pad(floats(clips[row]), 1_600)
        assert any(np.array_equal(got, padded[1_600 + s : 17_600 + s]) for s in shifts)


def test_noise_is_the_published_mixture():
    sound, clips = Sound(_BACKGROUND), _clips(50)
    rng = np.random.default_rng(0)
    assert sound.noise(clips, 0.0, rng) is clips
    out = sound.noise(clips, 0.3, rng)
    rest = (out - floats(clips) * np.float32(0.7)) / 0.3
    assert np.abs(rest).max() <= 1 + 1e-5
    assert rest.mean() == pytest.approx(0, abs=0.01)
    assert rest.var() == pytest.approx(1 / 3, abs=0.01)
