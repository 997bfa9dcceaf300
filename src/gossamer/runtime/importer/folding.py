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
from gossamer.runtime.importer.resize_matrix import resized, scales_of
from gossamer.runtime.importer.unsupported import Unsupported

Evaluate = Callable[[list[Array], dict[str, Any]], Array]

# Stands for an input that a node leaves out before another.
LEFT_OUT = np.zeros(0)

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
    if operator == "GatherND":
        depth = x[1].shape[-1]
        return int(math.prod((*x[1].shape[:-1], *x[0].shape[depth:])))
    if operator == "GatherElements":
        return x[1].size
    if operator == "Range":
        return _count(x)
    if operator == "Concat":
        return sum(value.size for value in x)
    if operator == "Tile":
        return x[0].size * math.prod(_bounded(x[1]))
    if operator == "Resize":
        sizes = _bounded(scales_of(x[0].shape, x[-1], a)[1])
        pairs = list(zip(sizes, x[0].shape, strict=True))
        return int(max(math.prod(max(pair) for pair in pairs), sum(n * m for n, m in pairs)))
    if operator == "MatMul":
        lead = np.broadcast_shapes(x[0].shape[:-2], x[1].shape[:-2])
        return int(math.prod((*lead, *x[0].shape[-2:-1], *x[1].shape[-1:])))
    if operator in ELEMENTWISE:
        return int(math.prod(np.broadcast_shapes(*(value.shape for value in x))))
    if operator == SPARSE:
        made = math.prod(_bounded(a["shape"]))
        if made > (sparse_file.FARTHEST + 1) * x[0].size:
            raise Unsupported(f"it has {x[0].size} entries for the shape {a['shape']}")
        return made
    return x[0].size


def _axes(x: list[Array], a: dict[str, Any]) -> tuple[int, ...] | None:
    if len(x) > 1:
        return tuple(int(axis) for axis in np.ravel(x[1]))
    return tuple(a["axes"]) if "axes" in a else None


def _unsqueeze(x: list[Array], a: dict[str, Any]) -> Array:
    axes = _axes(x, a) or (0,)
    if len(axes) > 32:
        raise Unsupported(f"it makes {len(axes)} dimensions; 32 at most can run")
    return np.expand_dims(x[0], axes)


def _slice(x: list[Array], a: dict[str, Any]) -> Array:
    parts = [slice(None)] * x[0].ndim
    starts, ends = np.ravel(x[1]), np.ravel(x[2])
    axes = np.ravel(x[3]) if len(x) > 3 and x[3] is not LEFT_OUT else np.arange(len(starts))
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


def _flatten(x: list[Array], a: dict[str, Any]) -> Array:
    axis = int(a.get("axis", 1))
    axis = axis + x[0].ndim if axis < 0 else axis
    return x[0].reshape(math.prod(x[0].shape[:axis]), -1)


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


def _gather_nd(x: list[Array], a: dict[str, Any]) -> Array:
    if a.get("batch_dims"):
        raise Unsupported("it has batch dimensions; export without")
    return np.asarray(x[0][tuple(np.moveaxis(x[1], -1, 0))])


def _scatter_nd(x: list[Array], a: dict[str, Any]) -> Array:
    if a.get("reduction", "none") != "none":
        raise Unsupported(f"it scatters by {a['reduction']!r}; by replacing only")
    found = x[0].copy()
    found[tuple(np.moveaxis(x[1], -1, 0))] = x[2]
    return found


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


def _eye(x: list[Array], a: dict[str, Any]) -> Array:
    rows, columns = x[0].shape
    dtype = DTYPES[a["dtype"]] if "dtype" in a else x[0].dtype
    return np.asarray(np.eye(rows, columns, int(a.get("k", 0))), dtype)


def _clip(x: list[Array], a: dict[str, Any]) -> Array:
    limits = [None if limit is LEFT_OUT else limit for limit in x[1:]]
    low, high, *_ = [*limits, None, None]
    return np.asarray(np.clip(x[0], low, high))


def _l2(x: Array, **more: Any) -> Array:
    return np.asarray(np.sqrt(np.sum(np.square(x), **more)))


def _reduce(of: Callable[..., Array]) -> Evaluate:
    """Over the axes that are named, over all if none are."""

    def evaluate(x: list[Array], a: dict[str, Any]) -> Array:
        axes = _axes(x, a) or (() if a.get("noop_with_empty_axes") else None)
        found = of(x[0], axis=axes, keepdims=bool(a.get("keepdims", 1)))
        return np.asarray(found, x[0].dtype)

    return evaluate


def _resize(x: list[Array], a: dict[str, Any]) -> Array:
    """One axis after the other, each times the matrix of its map."""
    found, (scales, sizes) = x[0], scales_of(x[0].shape, x[-1], a)
    for axis, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        if scale != 1:
            along = np.moveaxis(found, axis, -1)
            found = np.moveaxis(along @ resized(found.shape[axis], size, scale, a).T, -1, axis)
    return found.astype(x[0].dtype)


def _mean(x: Array, axis: Any, keepdims: bool = False) -> Array:
    """Of nothing it is nothing, without a warning."""
    total = np.sum(x, axis, keepdims=keepdims)
    return np.asarray(total / max(1, x.size / max(1, total.size)))


def _batch_norm(x: list[Array], a: dict[str, Any]) -> Array:
    """By the statistics given, or in training mode, as of normalized weights, by those it has."""
    data, scale, bias, mean, variance = x
    each = (-1, *[1] * (data.ndim - 2))
    if a.get("training_mode"):
        others = tuple(axis for axis in range(data.ndim) if axis != 1)
        mean = _mean(data, others, keepdims=True)
        mean, variance = mean.ravel(), _mean(np.square(data - mean), others)
    factor = scale / np.sqrt(variance + a.get("epsilon", 1e-5))
    found = (data - mean.reshape(each)) * factor.reshape(each) + bias.reshape(each)
    return np.asarray(found, data.dtype)


def _layer_norm(x: list[Array], a: dict[str, Any]) -> Array:
    axes = tuple(range(int(a.get("axis", -1)) % x[0].ndim, x[0].ndim))
    centered = x[0] - _mean(x[0], axes, keepdims=True)
    spread = _mean(np.square(centered), axes, keepdims=True) + a.get("epsilon", 1e-5)
    found = centered / np.sqrt(spread) * x[1]
    return np.asarray(found + x[2] if len(x) > 2 else found, x[0].dtype)


def _softmax(x: list[Array], a: dict[str, Any]) -> Array:
    axis = int(a.get("axis", -1))
    powers = np.exp(x[0] - np.max(x[0], axis, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis, keepdims=True))


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
# Operators that may join the examples of a constant that is stored once for all of them.
JOINING = {
    *("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
    *("EyeLike", "GatherND", "LayerNormalization", "Resize", "ScatterND", "Tile", "Trilu"),
}
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "Where", *COMPARE}


VIEWS = {"Squeeze", "Transpose", "Unsqueeze"}
POINTWISE = {
    *("Abs", "Cast", "Ceil", "Clip", "Cos", "Exp", "Floor", "Identity", "Log", "Neg", "Not"),
    *("Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Tanh"),
}


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
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda x, a: np.squeeze(x[0], axis=_axes(x, a)),
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": _flatten,
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
    "Exp": lambda x, a: np.exp(x[0]),
    "Floor": lambda x, a: np.floor(x[0]),
    "Ceil": lambda x, a: np.ceil(x[0]),
    "Round": lambda x, a: np.round(x[0]),
    "Sign": lambda x, a: np.sign(x[0]),
    "Relu": lambda x, a: np.maximum(x[0], 0),
    "Sigmoid": lambda x, a: np.asarray(1 / (1 + np.exp(-x[0]))),
    "Tanh": lambda x, a: np.tanh(x[0]),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
    "MatMul": lambda x, a: np.matmul(x[0], x[1]),
    "Range": _range,
    "CumSum": _cum_sum,
    "Trilu": _triangle,
    "Where": lambda x, a: np.where(x[0], x[1], x[2]),
    "ReduceL2": _reduce(_l2),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(_mean),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Resize": _resize,
    "Tile": lambda x, a: np.tile(x[0], _bounded(x[1])),
    "EyeLike": _eye,
    "Clip": _clip,
    "ConstantOfShape": lambda x, a: np.full(
        _bounded(x[0]), np.ravel(a.get("value", np.zeros(1, np.float32)))[0]
    ),
    SPARSE: lambda x, a: sparse_file.decode(x[0], x[1], a["shape"]),
    "Expand": lambda x, a: np.broadcast_to(
        x[0], np.broadcast_shapes(x[0].shape, _bounded(x[1]))
    ).copy(),
}
