"""The constants and attributes of a file, each checked before it is used."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.operators.call import Attributes
from gossamer.runtime.operators.context import check_rank
from gossamer.runtime.operators.folding import DTYPES
from gossamer.runtime.operators.unsupported import Unsupported

# Attributes that are true or false. What other numbers mean is read in several ways.
FLAGS = {
    *("allowzero", "antialias", "ceil_mode", "count_include_pad", "exclude_outside", "exclusive"),
    *("fmod", "keepdims", "noop_with_empty_axes", "reverse", "select_last_index"),
    *("training_mode", "transA", "transB", "upper"),
}

BFLOAT16, UINT16 = 16, 4  # numbers of element types

# Numbers of a sparse initializer for each entry that the file holds.
SPARSEST = 1 << 12

# Numbers of one constant, its dimensions of none left out: what numpy can give a shape to.
MOST = 1 << 48


def tensor_of(tensor: Any, source: Source) -> Array:
    """Return a constant as an array, after its sizes and its location are checked."""
    if tensor.data_type == BFLOAT16:
        return _from_bfloat16(tensor, source)
    if tensor.data_type not in DTYPES:
        raise Unsupported(f"constant {tensor.name!r} has element type {tensor.data_type}")
    dtype = np.dtype(DTYPES[tensor.data_type])
    shape = tuple(int(d) for d in tensor.dims)
    check_rank(len(shape))
    if any(d < 0 for d in shape) or math.prod(max(1, d) for d in shape) > MOST:  # even if empty
        raise Unsupported(f"constant {tensor.name!r} has the impossible shape {shape}")
    count = math.prod(shape)
    if tensor.data_location == 1:
        return _external(tensor, dtype, shape, source)
    raw = source.lifted.get(tensor.name)
    if raw is None and tensor.HasField("raw_data"):
        raw = tensor.raw_data
    if raw is not None:
        if len(raw) != count * dtype.itemsize:
            raise Unsupported(f"constant {tensor.name!r} of shape {shape} holds {len(raw)} bytes")
        return _view(raw, dtype, shape)
    fields = {1: "float_data", 7: "int64_data", 11: "double_data"}
    values = getattr(tensor, fields.get(tensor.data_type, "int32_data"))
    if len(values) != count:
        raise Unsupported(f"constant {tensor.name!r} of shape {shape} holds {len(values)} numbers")
    if tensor.data_type == 10:
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    return np.array(values).astype(dtype).reshape(shape)


def _from_bfloat16(tensor: Any, source: Source) -> Array:
    """Return a bfloat16 tensor as float32, of which it is the upper half."""
    halves = type(tensor)()
    halves.CopyFrom(tensor)
    halves.data_type = UINT16
    return (tensor_of(halves, source).astype(np.uint32) << 16).view(np.float32)


def sparse_tensor(sparse: Any, source: Source) -> Array:
    """Return a sparse initializer as a dense array; indices may be linear or by dimension."""
    name = sparse.values.name
    values, indices = tensor_of(sparse.values, source), tensor_of(sparse.indices, source)
    shape = tuple(int(d) for d in sparse.dims)
    check_rank(len(shape))
    size = math.prod(shape)
    if any(d < 1 for d in shape) or size > SPARSEST * max(1, values.size):
        raise Unsupported(f"sparse constant {name!r} has the shape {shape}, too large for it")
    if indices.dtype.kind != "i" or indices.shape not in (
        (len(values),),
        (len(values), len(shape)),
    ):
        raise Unsupported(f"the indices of sparse constant {name!r} do not fit its values")
    try:
        if indices.ndim == 2:
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        if len(indices) and not 0 <= indices.min() <= indices.max() < size:
            raise ValueError
    except ValueError:
        raise Unsupported(f"sparse constant {name!r} has an index outside its shape") from None
    dense = np.zeros(size, values.dtype)
    dense[indices] = values
    return dense.reshape(shape)


def _external(tensor: Any, dtype: np.dtype[Any], shape: Shape, source: Source) -> Array:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not (folders := source.folders()):
        raise Unsupported(f"constant {tensor.name!r} lies in another file; open the model by path")
    location = entries.get("location", "")
    try:
        beside = Path(os.path.normpath(location))
        path = (folders[0] / beside).resolve()
        inside = not beside.is_absolute() and ".." not in beside.parts and path.is_file()
        inside = inside and any(path.is_relative_to(folder) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # no path at all, or a circle of links
        inside = False
    if not inside:
        raise Unsupported(
            f"constant {tensor.name!r} lies in {location!r}, "
            "which is not a file in the model's folder"
        )
    nbytes = math.prod(shape) * dtype.itemsize
    offset, length = (_whole(entries.get(key, "")) for key in ("offset", "length"))
    offset = 0 if "offset" not in entries else offset
    if "length" in entries and length != nbytes:
        raise Unsupported(
            f"constant {tensor.name!r} of shape {shape} takes {nbytes} bytes, "
            f"its external data says {entries['length'][:20]!r}"
        )
    data = source.file(path).data
    if offset < 0 or offset + nbytes > len(data):
        raise Unsupported(f"constant {tensor.name!r} reaches past the end of {path.name}")
    return _view(data[offset : offset + nbytes], dtype, shape)


def _whole(text: str) -> int:
    """Return the number that a text is, -1 if it is none."""
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def _view(raw: bytes | memoryview, dtype: np.dtype[Any], shape: Shape) -> Array:
    """Return a read-only view of numbers in bytes, at any alignment."""
    little = np.frombuffer(raw, dtype.newbyteorder("<"))
    # The view has the machine's own dtype, which numpy takes for another than its equal "<".
    return little.astype(dtype, copy=False).view(dtype).reshape(shape)


def attributes_of(node: Any, source: Source) -> Attributes:
    attributes: Attributes = {}
    for a in node.attribute:
        match a.type:
            case 1:
                attributes[a.name] = float(a.f)
                if not math.isfinite(a.f) and node.op_type != "Constant":
                    raise Unsupported(f"its attribute {a.name!r} is {a.f}; it must be finite")
            case 2:
                attributes[a.name] = int(a.i)
                if a.name in FLAGS and a.i not in (0, 1):
                    raise Unsupported(f"its attribute {a.name!r} is {a.i}; it must be 0 or 1")
            case 3:
                attributes[a.name] = a.s.decode(errors="replace")
            case 4:
                attributes[a.name] = tensor_of(a.t, source)
            case 6:
                attributes[a.name] = [float(v) for v in a.floats]
            case 7:
                attributes[a.name] = [int(v) for v in a.ints]
            case 8:
                attributes[a.name] = [text.decode(errors="replace") for text in a.strings]
            case _:
                raise Unsupported(f"its attribute {a.name!r} is a graph or of another rare type")
    return attributes


def constant_node(a: Attributes) -> Array:
    for key, dtype in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if key in a:
            return np.asarray(a[key], dtype)
    if "value" not in a:
        raise Unsupported("it holds no numbers")
    value: Array = a["value"]
    return value
