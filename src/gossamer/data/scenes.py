"""Acoustic scenes for synthetic speech: reverberation of rooms and background noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from gossamer.data.audio import RATE

Wave = NDArray[np.float32]


def level(x: Wave, decibels: float) -> Wave:
    """Scale ``x`` to a root mean square of ``decibels`` relative to full scale, unless silent."""
    rms = float(np.sqrt(np.mean(np.square(x))))
    return x * np.float32(10.0 ** (decibels / 20.0) / rms) if rms > 0 else x


def reverberate(x: Wave, decay: float, share: float, rng: np.random.Generator) -> Wave:
    """Add the reverberation of a room to ``x``.

    The room's response is noise that decays exponentially, by 60 dB within ``decay`` seconds
    (Moorer 1979); ``share`` is the energy of the reverberation relative to the direct sound.
    """
    count = max(1, int(decay * RATE))
    response = rng.standard_normal(count) * 10.0 ** (-3.0 * np.arange(count) / count)
    response *= np.sqrt(share / np.sum(np.square(response)))
    response[0] += 1.0
    return np.asarray(scipy.signal.fftconvolve(x, response), np.float32)


def colored(samples: int, exponent: float, rng: np.random.Generator) -> Wave:
    """Return noise with power frequency ** -exponent: 0 white, 1 pink, 2 brown."""
    frequency = np.fft.rfftfreq(samples, 1.0 / RATE)
    shape = np.maximum(frequency, 20.0) ** (-exponent / 2.0)
    phase = rng.standard_normal((2, len(frequency)))
    return np.fft.irfft(shape * (phase[0] + 1j * phase[1]), samples).astype(np.float32)


def hum(samples: int, rng: np.random.Generator) -> Wave:
    """Return a machine's hum: slowly swelling harmonics of a mains frequency, faint pink noise."""
    seconds = np.arange(samples) / RATE
    base, swell = rng.choice([50.0, 60.0]), rng.uniform(0.2, 2.0)
    wave: Any = np.zeros(samples)
    for harmonic in range(1, 13):
        strength = rng.uniform(0.2, 1.0) / harmonic
        wave += strength * np.sin(2 * np.pi * (base * harmonic * seconds + rng.random()))
    wave *= 1.0 + 0.5 * np.sin(2 * np.pi * swell * seconds)
    return level(wave.astype(np.float32), -3.0) + level(colored(samples, 1.0, rng), -15.0)


def babble(samples: int, words: list[Wave], voices: int, rng: np.random.Generator) -> Wave:
    """Return ``voices`` people talking at once, each an endless sequence of random ``words``."""
    out = np.zeros(samples, np.float32)
    for _ in range(voices):
        start = -int(rng.integers(RATE))
        while start < samples:
            word = level(words[rng.integers(len(words))], -20.0)
            piece = word[max(0, -start) : samples - start]
            out[max(0, start) : max(0, start) + len(piece)] += piece
            start += len(word) + int(rng.integers(RATE // 4))
    return out
