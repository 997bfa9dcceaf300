"""Helpers of constant folding that several operators share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array

# Stands for an input that a node leaves out before another.
LEFT_OUT = np.zeros(0)

# ONNX's numbers of element types.
DTYPES: dict[int, type] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    16: np.float32,  # bfloat16, which numpy lacks
}


def bounded(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in np.ravel(shape))
    if any(size < 0 for size in sizes):
        raise ValueError(f"a constant of shape {sizes}")
    return sizes


def axes_in(x: list[Array], a: dict[str, Any]) -> tuple[int, ...] | None:
    if len(x) > 1:
        return tuple(int(axis) for axis in np.ravel(x[1]))
    return tuple(a["axes"]) if "axes" in a else None


def broadcast(x: list[Array], a: dict[str, Any]) -> int:
    """Return the number of elements of an elementwise operation on broadcast constants."""
    return math.prod(np.broadcast_shapes(*(value.shape for value in x)))


COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
