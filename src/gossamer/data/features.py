"""Log-mel spectrograms in numpy, without torch, so that a deployed network can use them too."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import log10
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from gossamer.errors import UserError
from gossamer.numbers import finite, whole

_CHUNK = 64  # clips transformed at once: the spectra of a chunk stay near the cache


def _mel(hertz: float) -> float:
    return 2595.0 * log10(1.0 + hertz / 700.0)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


@dataclass(frozen=True)
class LogMel:
    """Waveforms to log-mel spectrograms in dB: ``[B, samples]`` to ``[B, 1, bands, frames]``.

    Frames are centered on multiples of ``hop`` (zeros beyond both ends), so one second at 16 kHz
    has exactly 32 frames: 32 x 32 with the 32 bands. Hann window; triangular filters of unit
    height, equally wide on the mel scale (O'Shaughnessy 1987) from ``low`` to ``high`` hertz. Power
    is scaled so that a sine of full scale reads 0 dB; ``floor`` in dB keeps silence finite.

    Raises:
        UserError: an argument out of its range.
    """

    rate: int = 16_000
    n_fft: int = 1024
    hop: int = 512
    bands: int = 32
    low: float = 20.0
    high: float = 8_000.0
    floor: float = -80.0
    window: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    filters: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rate = whole(self.rate, 1, "rate", 10_000_000)
        checked = {
            "rate": rate,
            "n_fft": whole(self.n_fft, 2, "n_fft", 2**16),
            "hop": whole(self.hop, 1, "hop", 2**24),
            "bands": whole(self.bands, 1, "bands", 2**12),
            "low": finite(self.low, "low", 0),
            "high": finite(self.high, "high", most=rate / 2),
            "floor": finite(self.floor, "floor", -1000, 0),
        }
        if not checked["low"] < checked["high"]:
            raise UserError(f"low must be below high, not {self.low!r} and {self.high!r}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)
        scaled = hann * (2.0 / hann.sum())
        edges = _hertz(np.linspace(_mel(self.low), _mel(self.high), self.bands + 2))
        bins = np.arange(self.n_fft // 2 + 1) * (self.rate / self.n_fft)
        rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
        filters = np.maximum(0.0, np.minimum(rising, falling))
        object.__setattr__(self, "window", scaled.astype(np.float32))
        object.__setattr__(self, "filters", filters.astype(np.float32))

    def settings(self) -> dict[str, Any]:
        """Return the arguments from which this transform can be made again."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Return the shape of one clip's features: ``(1, bands, frames)``."""
        return 1, self.bands, 1 + samples // self.hop

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Convert float32 ``[B, samples]`` in [-1, 1] to dB, float32 ``[B, 1, bands, frames]``."""
        batch, samples = x.shape
        out = np.empty((batch, *self.shape(samples)), np.float32)
        for start in range(0, batch, _CHUNK):
            out[start : start + _CHUNK, 0] = self._chunk(x[start : start + _CHUNK])
        return out

    def _chunk(self, x: NDArray[Any]) -> NDArray[np.float32]:
        half = self.n_fft // 2
        padded = np.pad(x.astype(np.float32, copy=False), ((0, 0), (half, half)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)
        return self.frames(frames[:, :: self.hop]).transpose(0, 2, 1)

    def frames(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert pieces of ``n_fft`` samples, float32 ``[..., n_fft]``, to dB ``[..., bands]``."""
        spectrum = scipy.fft.rfft(x * self.window, axis=-1)
        power = spectrum.real**2 + spectrum.imag**2
        mel = power @ self.filters + np.float32(10.0 ** (self.floor / 10.0))
        decibels: NDArray[np.float32] = 10.0 * np.log10(mel)
        return decibels
