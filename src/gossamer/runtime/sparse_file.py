"""Sparse weights in ONNX files: the function ``gossamer.Sparse``.

A sparse weight is stored as its non-zeros in row-major order, ``values`` (float32; float16 or
int8 in networks of 16 or 8 bits), and the number of zeros before each, ``gaps`` (uint8): five
bytes for each non-zero, three or two. Where more than 255 zeros follow one another, a zero is
stored among the values; the last entry is the last position of the weight, stored even if it is
zero. So the entries cover the weight exactly, and no file can ask for more than 256 numbers for
each entry that it holds.

The function's body computes the dense weight by standard operators, which every ONNX runtime
evaluates once, when the network is loaded. ONNX's own ``sparse_initializer`` has int64 indices:
twelve bytes for each non-zero, more than a dense weight above a density of a third.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

if TYPE_CHECKING:
    import onnx

DOMAIN, NAME = "gossamer", "Sparse"
SMALLEST = 256  # weights with fewer numbers stay as they are
FARTHEST = 255  # zeros that one gap can hold
TOGETHER = 1 << 16  # entries decoded at once: what a near cache holds
DTYPES = (np.float32, np.float16, np.int8)  # of values

# What the function computes, in ONNX's text form.
BODY = """
Sparse <shape> (values, gaps) => (weight) {
    shape = Constant <value_ints: ints = @shape> ()
    one = Constant <value_int = 1> ()
    first = Constant <value_int = 0> ()
    zeros_before = Cast <to = 7> (gaps)
    steps = Add (zeros_before, one)
    after = CumSum (steps, first)
    index = Sub (after, one)
    size = ReduceProd <keepdims = 1> (shape)
    zeros = ConstantOfShape (size)
    empty = CastLike (zeros, values)
    flat = ScatterElements <axis = 0> (empty, index, values)
    weight = Reshape (flat, shape)
}
"""


def encode(weight: Array) -> tuple[Array, Array]:
    """Return values and gaps of a weight of a type in ``DTYPES``, with at least one number."""
    flat = np.ascontiguousarray(weight).ravel()
    there = np.flatnonzero(flat != 0)  # faster than of the numbers themselves
    if not len(there) or there[-1] != flat.size - 1:
        there = np.append(there, flat.size - 1)
    gaps = np.diff(there, prepend=-1) - 1
    # Entries of value zero in front of each one that lies too far from the one before.
    extra = gaps // (FARTHEST + 1)
    at = np.cumsum(extra + 1) - 1
    values = np.zeros(int(at[-1]) + 1, flat.dtype)
    short = np.full(len(values), FARTHEST, np.uint8)
    values[at] = flat[there]
    short[at] = gaps % (FARTHEST + 1)
    return values, short


def decode(values: Array, gaps: Array, shape: Sequence[int]) -> Array:
    """Return the weight of ``shape`` from its values and gaps.

    Raises:
        ValueError: the entries do not cover the shape exactly.
    """
    sizes = check(values, gaps, shape)
    flat = np.zeros(math.prod(sizes), values.dtype)
    last, count = -1, np.arange(1, TOGETHER + 1)
    for first in range(0, len(values), TOGETHER):
        part = slice(first, first + TOGETHER)
        index = np.cumsum(gaps[part], dtype=np.int64)
        index += count[: len(index)] + last
        flat[index] = values[part]
        last = index[-1]
    return flat.reshape(sizes)


def check(values: Array, gaps: Array, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as sizes if the entries cover it exactly.

    Raises:
        ValueError: they do not.
    """
    sizes = tuple(int(size) for size in shape)
    if values.dtype not in DTYPES or gaps.dtype != np.uint8 or values.shape != gaps.shape:
        raise ValueError("values must be float32, float16 or int8 and gaps uint8, as many of each")
    if values.ndim != 1 or not len(values) or any(size < 1 for size in sizes):
        raise ValueError("no entries, or no shape")
    covered = int(gaps.sum(dtype=np.int64)) + len(gaps)
    if covered != math.prod(sizes):
        raise ValueError(f"its entries cover {covered} numbers of the shape {list(sizes)}")
    return sizes


def stored_weights(graph: onnx.GraphProto, types: Collection[int]) -> set[str]:
    """Return the names of constants of these types with at least ``SMALLEST`` numbers.

    Not those in files of their own, nor defaults of inputs, for which others may be passed.
    """
    inputs = {value.name for value in graph.input}
    return {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type in types
        and tensor.data_location == 0
        and math.prod(tensor.dims) >= SMALLEST
        and tensor.name not in inputs
    }


def store_sparse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each constant of ``DTYPES`` stored sparse where that is smaller.

    The network's numbers do not change (except that a negative zero becomes a zero).
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from gossamer.runtime.onnx_functions import sparse_function

    small = onnx.ModelProto()
    small.CopyFrom(model)
    weights = stored_weights(
        small.graph, [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8]
    )
    tensors: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    saved = 0
    for tensor in small.graph.initializer:
        if tensor.name not in weights:
            tensors.append(tensor)
            continue
        names = [f"{tensor.name}.values", f"{tensor.name}.gaps"]
        arrays = encode(numpy_helper.to_array(tensor))
        parts = [numpy_helper.from_array(x, name) for x, name in zip(arrays, names, strict=True)]
        node = helper.make_node(NAME, names, [tensor.name], domain=DOMAIN, shape=list(tensor.dims))
        less = tensor.ByteSize() - node.ByteSize() - sum(part.ByteSize() for part in parts)
        if less <= 0:
            tensors.append(tensor)
            continue
        saved += less
        tensors += parts
        nodes.append(node)
    function = sparse_function()
    known = (DOMAIN, NAME) in {(f.domain, f.name) for f in small.functions}
    if not nodes or (not known and saved <= function.ByteSize()):
        return model
    nodes += small.graph.node
    del small.graph.node[:], small.graph.initializer[:]
    small.graph.node.extend(nodes)
    small.graph.initializer.extend(tensors)
    if not known:
        small.functions.append(function)
    if DOMAIN not in {entry.domain for entry in small.opset_import}:
        small.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return small
