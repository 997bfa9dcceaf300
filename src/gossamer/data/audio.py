"""Clips of sound: reading, resampling, cutting to length, augmentation and noise."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Sequence
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
QUIET = 1e-3  #: the loudest sample of what counts as silent: -60 dB of full scale

_RATES = (1_000, 768_000)  # samples per second of files; resampling far beyond takes all memory
_LOUDEST = 16.0  # full scale is 1; integers stored as floats go far beyond
_CANCELLED = 0.01  # of the channels' power in their mean; one of many alone leaves 1 / channels


def floats(x: NDArray[Any]) -> NDArray[np.float32]:
    """Convert waveforms to float32 in [-1, 1]; int16, as in files and caches, is scaled.

    Raises UserError for other types, whose full scale is unknown.
    """
    if x.dtype == np.int16:
        return x.astype(np.float32) / np.float32(32768)
    if x.dtype.kind != "f":
        raise UserError(f"waveforms of type {x.dtype}: convert them to int16, or floats in [-1, 1]")
    return x.astype(np.float32, copy=False)


def int16(x: NDArray[Any]) -> NDArray[np.int16]:
    """Convert waveforms in [-1, 1] to int16, and clip louder ones."""
    return np.clip(np.rint(x * 32768.0), -32768, 32767).astype(np.int16)


def is_sound(path: Path) -> bool:
    """Return whether a file has the name of a WAV or FLAC, except macOS's ``._name.wav``."""
    return path.suffix.lower() in (".wav", ".flac") and not path.name.startswith(".")


def read(path: Path, rate: int = RATE, *, silence: bool = False) -> NDArray[np.int16]:
    """Read a sound file: int16 ``[samples]``, mixed to one channel, at ``rate`` hertz.

    The file is WAV or FLAC of any width, integer or floating point, or another format of
    libsndfile. Warns if the sound is clipped, if channels cancel each other (then the loudest one
    is used) and, unless ``silence`` is expected, if nothing is above -60 dB of full scale.

    Raises UserError naming the file if it cannot be read, is empty, has NaN or infinity, or
    has another full scale than 1.
    """
    try:
        samples, own_rate = _decode(path)
    except (soundfile.LibsndfileError, OSError) as error:
        if not path.exists():
            raise UserError(f"{path}: no such file") from error
        reason = str(error).strip().rstrip(".")
        raise UserError(f"{path}: not a readable sound file ({reason}): fetch it again") from error
    if not len(samples):
        raise UserError(f"{path}: holds no sound; remove it or fetch it again")
    if not _RATES[0] <= own_rate <= _RATES[1]:
        raise UserError(f"{path}: {own_rate} samples a second; resample it to {rate}")
    peak = float(np.abs(samples).max())
    if not peak <= _LOUDEST:  # NaN too
        raise UserError(
            f"{path}: its samples reach {peak:g}, where full scale is 1; write it again as floats "
            "in [-1, 1] or as 16-bit integers"
        )
    mono, cancelled = _mix(samples)
    if cancelled:
        warnings.warn(f"{path}: its channels cancel each other; took the loudest", stacklevel=2)
    if own_rate != rate:
        mono = resample(mono, own_rate, rate)
    if peak > 1:
        warnings.warn(f"{path}: reaches {peak:.3g} times full scale; clipped", stacklevel=2)
    elif not silence and np.abs(mono).max(initial=0) < QUIET:
        warnings.warn(f"{path}: is almost silent (below -60 dB of full scale)", stacklevel=2)
    return int16(mono)


def _decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return samples ``[n, channels]`` of full scale 1, and their rate in hertz.

    Samples are always read as floats, because as integers libsndfile rounds floating-point samples
    to 0.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if not len(samples) and (whole := _sized(path.read_bytes())) is not None:
        samples, rate = soundfile.read(io.BytesIO(whole), dtype="float32", always_2d=True)
    return samples, rate


def _sized(raw: bytes) -> bytes | None:
    """Correct the size of a WAV that was written to a pipe, whose data chunk claims 0 bytes.

    Return None for another file, in which further chunks follow, or nothing.
    """
    chunk = 12
    while raw[:4] == b"RIFF" and chunk + 8 < len(raw):
        size = int.from_bytes(raw[chunk + 4 : chunk + 8], "little")
        if raw[chunk : chunk + 4] == b"data" and not size:
            left = len(raw) - chunk - 8
            further = int.from_bytes(raw[chunk + 12 : chunk + 16], "little")
            if further + 8 == left:
                return None
            return raw[: chunk + 4] + left.to_bytes(4, "little") + raw[chunk + 8 :]
        chunk += 8 + size + size % 2
    return None


def _mix(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Return the mean of the channels, or the loudest if they cancel, ``[n]``; and whether so."""
    mixed = x.mean(axis=1)
    power = np.square(x, dtype=np.float64).mean(axis=0)
    if np.square(mixed, dtype=np.float64).mean() < _CANCELLED * power.mean():
        return x[:, power.argmax()], True
    return mixed, False


def read_clips(paths: Sequence[Path], *, silent: Collection[Path] = ()) -> NDArray[np.int16]:
    """Read sound files as clips of one second, ``[len(paths), RATE]``; see `read`, `fit_length`.

    ``silent``: files that may be silent. Warns once of each kind of doubtful file.
    """
    out = np.empty((len(paths), RATE), np.int16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for row, path in enumerate(paths):
            out[row] = fit_length(read(path, silence=path in silent))
    kinds: dict[str, list[str]] = {}
    for warning in caught:
        text = str(warning.message)
        kinds.setdefault(text.rpartition(": ")[2].split()[0], []).append(text)
    for texts in kinds.values():
        more = f" (and {len(texts) - 1:,} more files)" if len(texts) > 1 else ""
        warnings.warn(texts[0] + more, stacklevel=3)
    return out


def resample(x: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """Resample ``x`` ``[..., samples]`` from ``rate`` to ``to`` hertz by a polyphase filter."""
    common = gcd(rate, to)
    return np.asarray(scipy.signal.resample_poly(x, to // common, rate // common, axis=-1), x.dtype)


def fit_length(x: NDArray[Any], samples: int = RATE) -> NDArray[Any]:
    """Cut ``x`` ``[n]`` to ``[samples]``, or append zeros."""
    return np.pad(x[:samples], (0, max(0, samples - len(x))))


def cut(x: NDArray[Any], starts: NDArray[np.int64], samples: int = RATE) -> NDArray[Any]:
    """Cut pieces from a long recording ``x`` ``[n]``: ``[len(starts), samples]``."""
    return np.lib.stride_tricks.sliding_window_view(x, samples)[starts]


def silence(
    noises: Sequence[NDArray[np.int16]], count: int, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Cut clips of noise, ``[count, RATE]``, from recordings, at random volume."""
    out = np.empty((count, RATE), np.int16)
    for row in range(count):
        noise = noises[int(rng.integers(len(noises)))]
        piece = cut(noise, rng.integers(0, len(noise) - RATE, 1, endpoint=True))
        out[row] = int16(floats(piece[0]) * np.float32(rng.uniform(0.0, 1.0)))
    return out


@dataclass(frozen=True)
class Sound:
    """The domain of clips of sound: log-mel features, time shift and background noise.

    ``mean`` and ``std`` standardize the features; ``background`` is one long int16 recording that
    augmentation cuts its noise from (empty: no noise is added).
    """

    background: NDArray[np.int16]
    mean: float = 0.0
    std: float = 1.0
    samples: int = RATE
    log_mel: LogMel = field(default_factory=LogMel)

    @classmethod
    def fitted(cls, train: NDArray[Any], background: NDArray[np.int16]) -> Sound:
        """Make a domain that standardizes by the mean and deviation of the training clips."""
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
        """Convert ``[B, samples]`` to standardized log-mel, float32 ``[B, 1, 32, 32]``."""
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
        """Return ``a * (1 - level) + level * U(-1, 1)`` for the waveform (arXiv 1903.11257)."""
        if level == 0:
            return x
        uniform = rng.random(x.shape, dtype=np.float32) * np.float32(2) - np.float32(1)
        return floats(x) * np.float32(1 - level) + np.float32(level) * uniform
