"""Random variations of pictures and spectrograms, for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError
from gossamer.numbers import finite, whole
from gossamer.settings import Settings


@dataclass(frozen=True)
class AugmentationSettings(Settings):
    """Settings of augmentation.

    Attributes:
        flip: mirror half of the examples left to right.
        crop: number of rows and columns of 0, the mean, to add on each side before cutting out a
            random piece of the old size.
        shift: most columns to move either way; the column at the edge is repeated.
        time_mask: most adjacent columns to set to 0.
        frequency_mask: most adjacent rows to set to 0.
        gain: most standard deviations to add or subtract: the loudness of a log spectrogram, the
            brightness of a picture.

    Raises:
        UserError: a value out of its range, naming the setting.
    """

    flip: bool = False
    crop: int = 0
    shift: int = 0
    time_mask: int = 0
    frequency_mask: int = 0
    gain: float = 0.0

    def __post_init__(self) -> None:
        for name in AugmentationSettings.names():
            value = getattr(self, name)
            if name == "flip":
                if not isinstance(value, bool | np.bool_):
                    raise UserError(f"flip must be true or false, not {value!r}")
                continue
            number = (
                finite(value, name, 0, 100) if name == "gain" else whole(value, 0, name, 10_000)
            )
            object.__setattr__(self, name, number)


class Augmentation(AugmentationSettings):
    """Variations of standardized features ``[B, channels, rows, columns]``.

    In a spectrogram, rows are frequencies and columns are frames. Each example has independent
    random numbers. Masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779), padded
    crops those of He et al. 2016 (arXiv 1512.03385). For the arguments see
    :class:`AugmentationSettings`.
    """

    def __bool__(self) -> bool:
        return self != Augmentation()

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse variations that examples of this shape cannot have.

        Raises:
            UserError: the examples are no pictures, or are smaller than a shift or mask.
        """
        if not self:
            return
        if len(shape) != 3:
            raise UserError(
                f"flip, crop, shift, masks and gain are for pictures and spectrograms [channels, "
                f"rows, columns]; these examples have shape {list(shape)}: leave them out"
            )
        for name, size in (("shift", 2), ("time_mask", 2), ("frequency_mask", 1)):
            if getattr(self, name) >= shape[size]:
                raise UserError(
                    f"{name} must be below {shape[size]}, the examples' "
                    f"{'columns' if size == 2 else 'rows'}, not {getattr(self, name)}"
                )

    def __call__(self, x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return varied features ``[B, channels, rows, columns]``; ``x`` does not change."""
        x, batch = x.copy(), np.arange(len(x))
        if self.flip:
            mirrored = rng.random(len(x)) < 0.5
            x[mirrored] = x[mirrored, :, :, ::-1]
        if self.crop:
            side = (self.crop, self.crop)
            windows = _windows(np.pad(x, ((0, 0), (0, 0), side, side)), x.shape[2:], (2, 3))
            top, left = rng.integers(0, 2 * self.crop, (2, len(x)), endpoint=True)
            x = windows[batch, :, top, left]
        if self.shift:
            side = (self.shift, self.shift)
            padded = np.pad(x, ((0, 0), (0, 0), (0, 0), side), mode="edge")
            left = rng.integers(0, 2 * self.shift, len(x), endpoint=True)
            x = _windows(padded, x.shape[3:], (3,))[batch, :, :, left]
        for widest, axis in ((self.time_mask, 3), (self.frequency_mask, 2)):
            if widest:
                size = x.shape[axis]
                width = rng.integers(0, widest, len(x), endpoint=True)
                first = (rng.random(len(x)) * (size - width + 1)).astype(np.int64)
                at = np.arange(size) - first[:, None]
                masked = (at >= 0) & (at < width[:, None])
                x = np.where(np.expand_dims(masked, (1, 5 - axis)), np.float32(0), x)
        if self.gain:
            x += rng.uniform(-self.gain, self.gain, (len(x), 1, 1, 1)).astype(np.float32)
        return x


def _windows(x: NDArray[Any], shape: tuple[int, ...], axis: tuple[int, ...]) -> NDArray[np.float32]:
    return np.lib.stride_tricks.sliding_window_view(x, shape, axis)
