import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data import LogMel
from gossamer.data.audio import floats


def _sine(hertz, amplitude=1.0, samples=16_000):
    return np.float32(amplitude) * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000).astype(
        np.float32
    )


def test_one_second_is_32_by_32():
    out = LogMel()(np.zeros((3, 16_000), np.float32))
    assert out.shape == (3, 1, 32, 32)
    assert out.shape[1:] == LogMel().shape(16_000)
    assert out.dtype == np.float32


def test_silence_reads_the_floor():
    np.testing.assert_allclose(LogMel(floor=-60)(np.zeros((1, 16_000), np.float32)), -60, rtol=1e-5)


@pytest.mark.parametrize("n_fft", [1024, 2048])
def test_agrees_with_scipy_stft_and_a_filter_bank_by_hand(n_fft):
    x = np.random.default_rng(0).normal(0, 0.1, 16_000)
    ours = LogMel(n_fft=n_fft)(x[None].astype(np.float32))[0, 0]
    hann = scipy.signal.get_window("hann", n_fft)
    transform = scipy.signal.ShortTimeFFT(hann * 2 / hann.sum(), hop=512, fs=16_000)
    power = np.abs(transform.stft(x, p0=0, p1=32)) ** 2  # frame p is centered on sample 512 p

    mel = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 8000 / 700), 34)
    edges = 700 * (10 ** (mel / 2595) - 1)
    for band in range(32):
        weights = np.interp(
            np.arange(n_fft // 2 + 1) * 16_000 / n_fft, edges[band : band + 3], [0, 1, 0]
        )
        theirs = 10 * np.log10(weights @ power + 1e-8)
        np.testing.assert_allclose(ours[band], theirs, atol=2e-3)


def test_a_sine_of_full_scale_reads_0_db_in_its_band():
    log_mel = LogMel()
    peak = int(np.argmax(log_mel.filters[64]))  # bin 64 of 1024 is 1000 Hz
    out = log_mel(_sine(1000.0)[None])[0, 0]
    assert np.all(out[:, 16].argmax() == peak)
    lines = log_mel.filters[63:66, peak]  # the window spreads a sine over three bins: 1/2, 1, 1/2
    expected = 10 * np.log10(lines @ [0.25, 1.0, 0.25])
    assert out[peak, 16] == pytest.approx(expected, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 130), st.integers(0, 2**31))
def test_a_clip_has_the_same_features_alone_and_in_any_batch(batch, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (batch, 2_000)).astype(np.float32)
    row = int(rng.integers(batch))
    np.testing.assert_allclose(LogMel()(x)[row], LogMel()(x[row : row + 1])[0], atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1.0))
def test_half_as_loud_is_6_db_less(amplitude):
    log_mel = LogMel(floor=-140)
    x = np.random.default_rng(3).uniform(-1, 1, (1, 16_000)).astype(np.float32)
    loud, soft = log_mel(x * np.float32(amplitude)), log_mel(x * np.float32(amplitude / 2))
    np.testing.assert_allclose(loud - soft, 20 * np.log10(2), atol=1e-3)


def test_int16_is_scaled_to_one():
    out = floats(np.array([-32768, 0, 16384], np.int16))
    assert out.dtype == np.float32
    assert out.tolist() == [-1.0, 0.0, 0.5]
