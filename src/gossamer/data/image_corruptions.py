"""Common corruptions of small images, in five severities each.

The eight corruptions and, where they are shares of the range from black to white, their
severities are those of ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261); lengths are
relative to the image's side, because a blur of six pixels would destroy an image of 28.

Every function takes images ``[N, C, H, W]``, float32 in [0, 1], a severity from 1 to 5 and a
generator, and returns images of the same shape in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Corrupt = Callable[[Pixels, int, np.random.Generator], Pixels]

SEVERITIES = (1, 2, 3, 4, 5)


def _clip(x: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(x, 0.0, 1.0), np.float32)


def gaussian_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add independent normal noise, like that of electronics in low light."""
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return _clip(x + np.float32(deviation) * rng.standard_normal(x.shape, np.float32))


def shot_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Replace pixels by Poisson counts of photons; a brighter pixel has more photons."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return _clip(rng.poisson(x * photons) / photons)


def impulse_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Turn a share of all pixels black or white (salt and pepper)."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    draw = rng.random(x.shape, np.float32)
    return _clip(np.where(draw < share / 2, 0.0, np.where(draw < share, 1.0, x)))


def gaussian_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Blur by a Gaussian of severity / 56 of the side: 0.5 to 2.5 pixels of 28."""
    sigma = severity * x.shape[-1] / 56
    return _clip(scipy.ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest"))


def brightness(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add a tenth of the range for each severity."""
    return _clip(x + np.float32(0.1 * severity))


def contrast(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Shrink differences from the image's mean."""
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = x.mean(axis=(2, 3), keepdims=True)
    return _clip((x - mean) * np.float32(share) + mean)


def _shares(old: int, new: int) -> NDArray[np.float64]:
    """Return the share of each of ``old`` pixels in each of ``new`` ones: ``[new, old]``."""
    left, start = np.arange(new)[:, None] / new, np.arange(old) / old
    overlap = np.minimum(left + 1 / new, start + 1 / old) - np.maximum(left, start)
    return np.asarray(np.clip(overlap, 0.0, None) * new)


def pixelate(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Shrink images by averaging and enlarge them; pixels across two coarse ones are averaged."""
    factor = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    rows, columns = (
        _shares(coarse, side) @ _shares(side, coarse)
        for side in x.shape[2:]
        for coarse in [max(1, int(side * factor))]
    )
    return _clip(rows @ x @ columns.T)


# The luminance table of the JPEG standard (ITU-T T.81, table K.1).
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float64,
)


def jpeg(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Apply JPEG's loss: 8x8 cosine transforms, quantized at quality 25, 18, 15, 10 and 7.

    Each channel is treated as luminance. The lossless steps of JPEG are left out.
    """
    quality = (25, 18, 15, 10, 7)[severity - 1]
    steps = np.clip(np.floor((_LUMINANCE * (5000 / quality) + 50) / 100), 1, 255)
    number, channels, height, width = x.shape
    padding = ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8))
    whole = np.pad(x.astype(np.float64) * 255 - 128, padding, mode="edge")
    high, wide = whole.shape[2] // 8, whole.shape[3] // 8
    blocks = whole.reshape(number, channels, high, 8, wide, 8)
    coefficients = scipy.fft.dctn(blocks, axes=(3, 5), norm="ortho")
    steps = steps[:, None, :]
    restored = scipy.fft.idctn(np.rint(coefficients / steps) * steps, axes=(3, 5), norm="ortho")
    pixels = np.rint(restored.reshape(whole.shape)[:, :, :height, :width] + 128)
    return _clip(pixels / 255)


CORRUPTIONS: dict[str, Corrupt] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "gaussian_blur": gaussian_blur,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg": jpeg,
}
