"""Clips of sound: reading, resampling, cutting to length, augmentation and noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import soundfile
from numpy.typing import NDArray

from gossamer.data.features import LogMel
from gossamer.errors import UserError

RATE = 16_000  #: samples per second of every sound task


def floats(x: NDArray[Any]) -> NDArray[np.float32]:
    """Waveforms as float32 in [-1, 1]; int16 (as files and caches hold them) is scaled."""
    if x.dtype == np.int16:
        return x.astype(np.float32) / np.float32(32768)
    return x.astype(np.float32, copy=False)


def int16(x: NDArray[Any]) -> NDArray[np.int16]:
    """Waveforms in [-1, 1] as int16, louder ones clipped."""
    return np.clip(np.rint(x * 32768.0), -32768, 32767).astype(np.int16)


def read(path: Path, rate: int = RATE) -> NDArray[np.int16]:
    """The samples of a WAV or FLAC file, int16 ``[samples]``, mixed to one channel, at ``rate``.

    Raises UserError naming the file when it cannot be read.
    """
    try:
        samples, found = soundfile.read(path, dtype="int16")
    except (soundfile.LibsndfileError, OSError) as error:
        if not path.exists():
            raise UserError(f"{path}: no such file") from error
        reason = str(error).strip().rstrip(".")
        raise UserError(f"{path}: not a readable sound file ({reason}): fetch it again") from error
    if samples.ndim == 2:
        samples = int16(floats(samples).mean(axis=1))
    if found != rate:
        samples = int16(resample(floats(samples), found, rate))
    return np.asarray(samples)


def resample(x: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """``x`` ``[..., samples]`` from ``rate`` to ``to`` samples per second (polyphase filter)."""
    common = gcd(rate, to)
    return np.asarray(scipy.signal.resample_poly(x, to // common, rate // common, axis=-1), x.dtype)


def fit_length(x: NDArray[Any], samples: int = RATE) -> NDArray[Any]:
    """``x`` ``[n]`` as ``[samples]``: zeros at the end where too short, cut where too long."""
    return np.pad(x[:samples], (0, max(0, samples - len(x))))


def cut(x: NDArray[Any], starts: NDArray[np.int64], samples: int = RATE) -> NDArray[Any]:
    """Pieces of a long recording ``x`` ``[n]``: ``[len(starts), samples]``."""
    return np.lib.stride_tricks.sliding_window_view(x, samples)[starts]


@dataclass(frozen=True)
class Sound:
    """The domain of clips of sound: log-mel features, time shift and background noise.

    ``mean`` and ``std`` standardise the features; ``background`` is one long int16 recording that
    augmentation cuts its noise from (empty: no noise is added).
    """

    background: NDArray[np.int16]
    mean: float = 0.0
    std: float = 1.0
    samples: int = RATE
    log_mel: LogMel = field(default_factory=LogMel)

    @classmethod
    def fitted(cls, train: NDArray[Any], background: NDArray[np.int16]) -> Sound:
        """A domain that standardises by the mean and deviation of the training clips."""
        plain = cls(background, samples=train.shape[1])
        features = plain.features(train)
        mean, std = float(features.mean(dtype=np.float64)), float(features.std(dtype=np.float64))
        return cls(background, mean, std or 1.0, plain.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.log_mel.shape(self.samples)

    @property
    def description(self) -> dict[str, Any]:
        own = {"mean": self.mean, "std": self.std, "samples": self.samples}
        return {"kind": "log_mel", **self.log_mel.settings(), **own}

    def features(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Waveforms ``[B, samples]`` to standardised log-mel, float32 ``[B, 1, 32, 32]``."""
        out = np.empty((len(x), *self.shape), np.float32)
        for start in range(0, len(x), 512):  # bounds the memory of the float copies
            out[start : start + 512] = self.log_mel(floats(x[start : start + 512]))
        out -= np.float32(self.mean)
        out /= np.float32(self.std)
        return out

    def augment(self, x: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
        """Shift each clip by up to 100 ms either way; add background noise to 80 % of them.

        The noise is a random piece at a volume drawn from [0, 0.1], the practice of the Speech
        Commands recipe (Warden 2018, arXiv 1804.03209). Returns float32 ``[B, samples]``.
        """
        batch, samples = x.shape
        reach = RATE // 10
        padded = np.pad(floats(x), ((0, 0), (reach, reach)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, samples, axis=1)
        out: NDArray[np.float32] = windows[
            np.arange(batch), rng.integers(0, 2 * reach, batch, endpoint=True)
        ]
        chosen = np.flatnonzero(rng.random(batch) < 0.8)
        volume = rng.uniform(0.0, 0.1, (len(chosen), 1)).astype(np.float32)
        if len(self.background) >= samples and len(chosen):
            starts = rng.integers(0, len(self.background) - samples, len(chosen), endpoint=True)
            out[chosen] += volume * floats(cut(self.background, starts, samples))
        return np.clip(out, -1.0, 1.0, out=out)

    def noise(self, x: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
        """``a * (1 - level) + level * U(-1, 1)`` on the waveform (arXiv 1903.11257)."""
        if level == 0:
            return x
        uniform = rng.random(x.shape, dtype=np.float32) * np.float32(2) - np.float32(1)
        return floats(x) * np.float32(1 - level) + np.float32(level) * uniform
