"""Operators on constants, evaluated while a file is read.

Exporters compute shapes with chains of small operators; after this nothing of them is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gossamer.runtime import sparse_file
from gossamer.runtime.graph import Array

Evaluate = Callable[[list[Array], dict[str, Any]], Array]

# Numbers of one constant that is computed while a file is read.
LARGEST = 1 << 24


def _bounded(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in np.ravel(shape))
    if any(size < 0 for size in sizes):
        raise ValueError(f"a constant of shape {sizes}")
    return sizes


def numbers(operator: str, x: list[Array], a: dict[str, Any]) -> int:
    """How many numbers at most ``FOLD[operator]`` will make; to be asked before it does."""
    if operator in ("ConstantOfShape", "Expand"):
        made = math.prod(_bounded(x[-1]))
        return max(made, x[0].size) if operator == "Expand" else made
    if operator == "Gather":
        return int(x[1].size * (x[0].size // max(1, x[0].shape[a.get("axis", 0)])))
    if operator == "GatherElements":
        return x[1].size
    if operator == "Range":
        return _count(x)
    if operator == "Concat":
        return sum(value.size for value in x)
    if operator in ELEMENTWISE:
        return int(math.prod(np.broadcast_shapes(*(value.shape for value in x))))
    if operator == SPARSE:
        made = math.prod(_bounded(a["shape"]))
        if made > (sparse_file.FARTHEST + 1) * x[0].size:
            raise ValueError(f"{x[0].size} entries for the shape {a['shape']}")
        return made
    return x[0].size


def _axes(x: list[Array], a: dict[str, Any]) -> tuple[int, ...] | None:
    if len(x) > 1:
        return tuple(int(axis) for axis in np.ravel(x[1]))
    return tuple(a["axes"]) if "axes" in a else None


def _unsqueeze(x: list[Array], a: dict[str, Any]) -> Array:
    return np.expand_dims(x[0], _axes(x, a) or (0,))


def _slice(x: list[Array], a: dict[str, Any]) -> Array:
    parts = [slice(None)] * x[0].ndim
    starts, ends = np.ravel(x[1]), np.ravel(x[2])
    axes = np.ravel(x[3]) if len(x) > 3 else np.arange(len(starts))
    steps = np.ravel(x[4]) if len(x) > 4 else np.ones(len(starts), np.int64)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[int(axis)] = slice(int(start), int(end), int(step))
    return np.asarray(x[0][tuple(parts)])


def _divide(x: list[Array], a: dict[str, Any]) -> Array:
    if np.issubdtype(x[0].dtype, np.integer):
        return np.asarray(np.trunc(x[0] / x[1])).astype(x[0].dtype)
    return np.asarray(x[0] / x[1])


def _reshape(x: list[Array], a: dict[str, Any]) -> Array:
    shape = [x[0].shape[i] if size == 0 else int(size) for i, size in enumerate(np.ravel(x[1]))]
    return x[0].reshape(shape)


def _count(x: list[Array]) -> int:
    """How many numbers lie between a start and a limit, a step apart."""
    start, limit, step = (value.item() for value in x)
    count: int = math.ceil((limit - start) / step)
    return max(0, count)


def _range(x: list[Array], a: dict[str, Any]) -> Array:
    found = x[0].item() + x[2].item() * np.arange(_count(x))
    return np.asarray(found, x[0].dtype)


def _gather_elements(x: list[Array], a: dict[str, Any]) -> Array:
    axis = a.get("axis", 0) % x[0].ndim
    near = [slice(None if i == axis else size) for i, size in enumerate(x[1].shape)]
    return np.take_along_axis(x[0][tuple(near)], x[1].astype(np.int64), axis)


def _cum_sum(x: list[Array], a: dict[str, Any]) -> Array:
    axis = int(x[1].item())
    values = np.flip(x[0], axis) if a.get("reverse") else x[0]
    sums = np.cumsum(values, axis, dtype=x[0].dtype)
    if a.get("exclusive"):
        sums -= values
    return np.flip(sums, axis) if a.get("reverse") else sums


def _triangle(x: list[Array], a: dict[str, Any]) -> Array:
    keep = np.triu if a.get("upper", 1) else np.tril
    return np.asarray(keep(x[0], int(x[1].reshape(())) if len(x) > 1 else 0))


# ONNX's numbers of element types.
DTYPES: dict[int, type] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


def _cast(x: list[Array], a: dict[str, Any]) -> Array:
    return x[0].astype(DTYPES[a["to"]])


SPARSE = f"{sparse_file.DOMAIN}.{sparse_file.NAME}"
COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Min": np.minimum,
    "Max": np.maximum,
}
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "Where", *COMPARE}


def _compare(of: Callable[[Array, Array], Array]) -> Evaluate:
    def evaluate(x: list[Array], a: dict[str, Any]) -> Array:
        left, right = x
        return np.asarray(of(left, right))

    return evaluate


FOLD: dict[str, Evaluate] = {
    **{name: _compare(of) for name, of in COMPARE.items()},
    "Not": lambda x, a: np.logical_not(x[0]),
    "Mod": lambda x, a: np.asarray(np.fmod(x[0], x[1]) if a.get("fmod") else np.mod(x[0], x[1])),
    "Identity": lambda x, a: x[0],
    "Cast": _cast,
    "Gather": lambda x, a: np.take(x[0], x[1].astype(np.int64), axis=a.get("axis", 0)),
    "GatherElements": _gather_elements,
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda x, a: np.squeeze(x[0], axis=_axes(x, a)),
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
    "Add": lambda x, a: np.asarray(x[0] + x[1]),
    "Sub": lambda x, a: np.asarray(x[0] - x[1]),
    "Mul": lambda x, a: np.asarray(x[0] * x[1]),
    "Div": _divide,
    "Neg": lambda x, a: np.asarray(-x[0]),
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Pow": lambda x, a: np.power(x[0], x[1]),
    "Reciprocal": lambda x, a: np.asarray(1 / x[0]),
    "Abs": lambda x, a: np.abs(x[0]),
    "Log": lambda x, a: np.log(x[0]),
    "Cos": lambda x, a: np.cos(x[0]),
    "Sin": lambda x, a: np.sin(x[0]),
    "Floor": lambda x, a: np.floor(x[0]),
    "Range": _range,
    "CumSum": _cum_sum,
    "Trilu": _triangle,
    "Where": lambda x, a: np.where(x[0], x[1], x[2]),
    "ReduceProd": lambda x, a: np.prod(x[0], axis=_axes(x, a), keepdims=bool(a.get("keepdims", 1))),
    "ConstantOfShape": lambda x, a: np.full(
        _bounded(x[0]), np.ravel(a.get("value", np.zeros(1, np.float32)))[0]
    ),
    SPARSE: lambda x, a: sparse_file.decode(x[0], x[1], a["shape"]),
    "Expand": lambda x, a: np.broadcast_to(
        x[0], np.broadcast_shapes(x[0].shape, _bounded(x[1]))
    ).copy(),
}
