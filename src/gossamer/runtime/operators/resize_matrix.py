"""Padding and resizing along one axis as sparse matrices [new, old]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.operators.unsupported import Unsupported

ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def repeated(size: int, before: int, after: int, mode: str) -> Array:
    """Return the index of the source number for each position of a padded axis."""
    if mode == "reflect" and max(before, after) >= size:
        raise Unsupported(f"it reflects {max(before, after)} of {size} numbers")
    index = np.arange(-before, size + after)
    if mode == "edge":
        index = np.clip(index, 0, size - 1)
    elif mode == "wrap":
        index = index % size
    else:
        index = size - 1 - np.abs(size - 1 - np.abs(index))
    return index


def scales_of(shape: Shape, target: Array, a: dict[str, Any]) -> tuple[list[float], list[int]]:
    """Return the scales and output sizes of Resize; ``target`` is the one or the other."""
    if a.get("axes") or a.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported(
            "it resizes chosen axes only, or preserves a ratio; export with the size of each axis"
        )
    if target.dtype.kind in "iu":
        sizes = [int(size) for size in np.ravel(target)]
        return [w / max(1, n) for w, n in zip(sizes, shape, strict=True)], sizes
    scales = [float(scale) for scale in np.ravel(target)]
    return scales, [math.floor(n * scale) for n, scale in zip(shape, scales, strict=True)]


def resized(size: int, wanted: int, scale: float, a: dict[str, Any]) -> Array:
    """Return the matrix [new, old] of Resize along one axis, as ONNX defines it."""
    at = coordinates(size, wanted, scale, a)
    rows = np.arange(wanted)
    matrix = np.zeros((wanted, size))
    if a.get("antialias") or a.get("exclude_outside"):
        raise Unsupported("it resizes with antialias or exclude_outside; export without")
    match a.get("mode", "nearest"):
        case "nearest":
            matrix[rows, np.clip(rounded(at, a), 0, size - 1)] = 1
        case "linear" | "cubic" as mode:
            low = np.floor(at)
            part = (at - low).astype(np.float64)
            cubic = _cubic(part, float(a.get("cubic_coeff_a", -0.75)))
            taps = enumerate(cubic, -1) if mode == "cubic" else enumerate([1 - part, part])
            for step, weight in taps:
                np.add.at(matrix, (rows, np.clip(low.astype(int) + step, 0, size - 1)), weight)
        case other:
            raise Unsupported(f"it resizes by {other!r}; nearest, linear and cubic can run")
    return matrix


def coordinates(size: int, wanted: int, scale: float, a: dict[str, Any]) -> Array:
    """Return input coordinates of ``wanted`` outputs; in float32, as in other runtimes."""
    x = np.arange(wanted, dtype=np.float32)
    by, half = np.float32(scale), np.float32(0.5)
    match a.get("coordinate_transformation_mode", "half_pixel"):
        case "asymmetric":
            return x / by
        case "align_corners":
            return x * np.float32(size - 1) / np.float32(max(1, wanted - 1))
        case "pytorch_half_pixel" if wanted == 1:
            return np.zeros(1, np.float32)
        case "half_pixel" | "pytorch_half_pixel":
            return (x + half) / by - half
        case "half_pixel_symmetric" if wanted == size * scale:
            return (x + half) / by - half
        case other:
            raise Unsupported(f"it resizes with the coordinates {other!r}; half_pixel can run")


def rounded(at: Array, a: dict[str, Any]) -> Array:
    """Round coordinates to positions by the operator's ``nearest_mode``."""
    way = a.get("nearest_mode", "round_prefer_floor")
    if way not in ROUND:
        raise Unsupported(f"its nearest_mode {way!r} is unknown; one of {', '.join(ROUND)} can run")
    return ROUND[way](at).astype(np.int64)


def _cubic(part: Array, a: float) -> list[Array]:
    """Return the cubic weights of the four nearest numbers (Keys 1981)."""

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


def alike(size: int, times: int, a: dict[str, Any]) -> bool:
    """Whether nearest resizing repeats every number exactly ``times`` times."""
    at = coordinates(size, size * times, float(times), a)
    positions = np.clip(rounded(at, a), 0, size - 1)
    return bool(np.array_equal(positions, np.arange(size * times) // times))
