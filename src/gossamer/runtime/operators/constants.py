"""Operators that the engine only folds: exporters compute shapes and weights with them."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime import sparse_file
from gossamer.runtime.graph import Array
from gossamer.runtime.operators.call import Attributes
from gossamer.runtime.operators.folding import DTYPES, bounded
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.unsupported import Unsupported

SPARSE = f"{sparse_file.DOMAIN}.{sparse_file.NAME}"


def _count(x: list[Array]) -> int:
    """Return the number of elements of Range, from its start, limit and step."""
    start, limit, step = (value.item() for value in x)
    count: int = math.ceil((limit - start) / step)
    return max(0, count)


def _range(x: list[Array], a: Attributes) -> Array:
    numbers = x[0].item() + x[2].item() * np.arange(_count(x))
    return np.asarray(numbers, x[0].dtype)


def _triangle(x: list[Array], a: Attributes) -> Array:
    keep = np.triu if a.get("upper", 1) else np.tril
    return np.asarray(keep(x[0], int(x[1].reshape(())) if len(x) > 1 else 0))


def _eye(x: list[Array], a: Attributes) -> Array:
    rows, columns = x[0].shape
    dtype = DTYPES[a["dtype"]] if "dtype" in a else x[0].dtype
    return np.asarray(np.eye(rows, columns, int(a.get("k", 0))), dtype)


def _nonzeros(x: list[Array], a: Attributes) -> int:
    made = math.prod(bounded(a["shape"]))
    if made > (sparse_file.FARTHEST + 1) * x[0].size:
        raise Unsupported(f"its {x[0].size} entries cannot cover the shape {a['shape']}")
    return made


def _constant_of_shape(x: list[Array], a: Attributes) -> Array:
    return np.full(bounded(x[0]), np.ravel(a.get("value", np.zeros(1, np.float32)))[0])


CONSTANTS: Operators = {
    "Range": Operator(fold=_range, size=lambda x, a: _count(x)),
    "Trilu": Operator(fold=_triangle, shared="joins"),
    "EyeLike": Operator(fold=_eye, shared="joins"),
    "ConstantOfShape": Operator(
        fold=_constant_of_shape, size=lambda x, a: math.prod(bounded(x[-1]))
    ),
    SPARSE: Operator(fold=lambda x, a: sparse_file.decode(x[0], x[1], a["shape"]), size=_nonzeros),
}
