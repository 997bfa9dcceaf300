"""Images: scaling, standardization and the noise that replaces pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PART = 1 << 16  # numbers


def moments(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all pixels."""
    mean = pixels.mean(dtype=np.float64)
    # In parts that fit the caches: pixels.std() would take 8 bytes for every pixel of them all.
    squares = (
        np.square(np.subtract(part, mean, dtype=np.float64)).sum()
        for part in np.array_split(pixels, max(1, pixels.size // _PART))
    )
    return float(mean), math.sqrt(math.fsum(squares) / pixels.size)


@dataclass(frozen=True)
class Images:
    """The domain of images ``[N, H, W]`` or ``[N, C, H, W]``.

    ``mean`` and ``std`` are those of the training split's raw values.
    """

    shape: tuple[int, ...]
    mean: float
    std: float

    @classmethod
    def fitted(cls, train: NDArray[Any]) -> Images:
        """Make a domain that standardizes by the mean and deviation of the training images."""
        shape = train.shape[1:] if train.ndim == 4 else (1, *train.shape[1:])
        mean, std = moments(train)
        return cls(shape, mean, std or 1.0)

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "images", "mean": self.mean, "std": self.std}

    def features(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Convert raw images to standardized float32 ``[B, C, H, W]``."""
        out = x.astype(np.float32).reshape(len(x), *self.shape)
        out -= np.float32(self.mean)
        out /= np.float32(self.std)
        return out

    def augment(self, x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Return ``x`` unchanged."""
        return x

    def noise(self, x: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
        """Replace ``int(pixels * level)`` random pixels of each image by mean + 2 std.

        The definition of arXiv 1903.11257. Pixels are drawn without repetition, again for every
        image, in all channels alike. Returns float32 raw values, or ``x`` itself at level 0.
        """
        channels, pixels = self.shape[0], int(np.prod(self.shape[1:]))
        count = int(pixels * level + 1e-9)  # 100 * 0.29 is 28.999...
        if count == 0:
            return x
        order = rng.random((len(x), pixels), dtype=np.float32)
        hit = np.zeros((len(x), 1, pixels), bool)
        chosen = np.argpartition(order, count - 1, axis=1)[:, :count]
        np.put_along_axis(hit[:, 0], chosen, True, axis=1)
        value = np.float32(self.mean + 2 * self.std)
        flat = x.astype(np.float32).reshape(len(x), channels, pixels)
        return np.where(hit, value, flat).reshape(x.shape)
