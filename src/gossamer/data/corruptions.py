"""Corruptions of a task's test examples, by name: of images, and noise behind sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gossamer.data.audio import Sound
from gossamer.data.image_corruptions import CORRUPTIONS, SEVERITIES, Corrupt
from gossamer.data.images import Images
from gossamer.data.mixing import RATIOS, Noise, at_snr, noises
from gossamer.data.task import Array, Task
from gossamer.errors import UserError


@dataclass(frozen=True)
class Corruption:
    """One way of corrupting raw examples.

    Attributes:
        name: name of the corruption, e.g. ``gaussian_blur``.
        unit: unit of the levels: ``severity``, or ``dB`` of signal to noise.
        levels: the levels from mild to strong.
        apply: takes a raw batch, a level and a generator; returns a raw batch of the same shape.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Array, float, np.random.Generator], Array]


def corruptions(task: Task) -> dict[str, Corruption]:
    """Return the corruptions of a task's kind of data, by name.

    Images: the eight common corruptions (``image_corruptions.py``). Sounds: background noise at
    stated signal-to-noise ratios (``mixing.py``).

    Raises:
        UserError: the data are neither images nor sounds.
    """
    domain = task.domain
    if isinstance(domain, Images):
        low, high = _range(task)
        return {
            name: Corruption(
                name, "severity", tuple(map(float, SEVERITIES)), _corrupted(corrupt, low, high)
            )
            for name, corrupt in CORRUPTIONS.items()
        }
    if isinstance(domain, Sound):
        return {
            name: Corruption(name, "dB", RATIOS, _mixed(noise))
            for name, noise in noises(domain, task.train).items()
        }
    raise UserError(
        f"task {task.name} has neither images nor sounds, and only these have corruptions or "
        "background noise: leave robustness out"
    )


def _range(task: Task) -> tuple[float, float]:
    """Return the raw values of black and of white."""
    if task.train.x.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(task.train.x.min()), float(task.train.x.max())
    return low, high if high > low else low + 1.0


def _corrupted(
    corrupt: Corrupt, low: float, high: float
) -> Callable[[Array, float, np.random.Generator], Array]:
    def apply(x: Array, level: float, rng: np.random.Generator) -> Array:
        pixels = (x.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        shape = x.shape if x.ndim == 4 else (len(x), 1, *x.shape[1:])
        changed = corrupt(np.clip(pixels, 0.0, 1.0).reshape(shape), int(level), rng)
        return changed.reshape(x.shape) * np.float32(high - low) + np.float32(low)

    return apply


def _mixed(noise: Noise) -> Callable[[Array, float, np.random.Generator], Array]:
    def apply(x: Array, level: float, rng: np.random.Generator) -> Array:
        return at_snr(x, noise(len(x), x.shape[1], rng), level)

    return apply
