"""Speech in background noise at a stated signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.data.audio import Sound, cut, floats
from gossamer.data.scenes import Wave, babble, colored, hum
from gossamer.data.task import Split

#: Signal-to-noise ratios in decibels, from mild to strong noise.
RATIOS: tuple[float, ...] = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0)

Noise = Callable[[int, int, np.random.Generator], Wave]  # clips, samples -> [clips, samples]

_VOICES = 6  # of a babble
_WORDS = 200  # that they speak


def at_snr(clips: NDArray[Any], noise: NDArray[Any], decibels: float) -> NDArray[np.float32]:
    """Add ``noise`` to ``clips`` at a signal-to-noise ratio, both ``[B, samples]``.

    The ratio is of the mean squares over each whole clip, so that every clip has exactly this
    ratio. A silent clip or noise does not change. Nothing is clipped: the sum may be outside
    [-1, 1]. Returns float32 ``[B, samples]``.
    """
    signal, other = floats(clips), floats(noise)
    power = np.mean(np.square(signal, dtype=np.float64), axis=-1, keepdims=True)
    loud = np.mean(np.square(other, dtype=np.float64), axis=-1, keepdims=True)
    wanted = power / 10.0 ** (decibels / 10.0)
    gain = np.sqrt(np.divide(wanted, loud, out=np.zeros_like(loud), where=loud > 0))
    return np.asarray(signal + gain * other, np.float32)


def noises(domain: Sound, train: Split) -> dict[str, Noise]:
    """Return the kinds of background noise for a task of sounds, by name.

    ``background`` are pieces of the data's recordings of noise, if it has any (training uses the
    same ones); ``babble`` is six voices speaking training clips at once; ``pink`` noise and the
    ``hum`` of machines are synthetic.
    """
    kinds: dict[str, Noise] = {}

    def recorded(clips: int, samples: int, rng: np.random.Generator) -> Wave:
        starts = rng.integers(0, len(domain.background) - samples, clips, endpoint=True)
        return floats(cut(domain.background, starts, samples))

    def speaking(clips: int, samples: int, rng: np.random.Generator) -> Wave:
        chosen = rng.integers(0, len(train), min(_WORDS, len(train)))
        words = list(floats(train.x[chosen]))
        return np.stack([babble(samples, words, _VOICES, rng) for _ in range(clips)])

    def each(make: Callable[[int, np.random.Generator], Wave]) -> Noise:
        return lambda clips, samples, rng: np.stack([make(samples, rng) for _ in range(clips)])

    if len(domain.background) >= domain.samples:
        kinds["background"] = recorded
    kinds["babble"] = speaking
    kinds["pink"] = each(lambda samples, rng: colored(samples, 1.0, rng))
    kinds["hum"] = each(hum)
    return kinds
