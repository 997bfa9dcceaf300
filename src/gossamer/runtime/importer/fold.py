"""Constant folding: nodes that depend on constants or shapes only are computed during the import.

Exporters compute shapes with chains of small operators; folding removes them all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gossamer.kernels._kernels import MOST_DIMENSIONS
from gossamer.runtime import sparse_file
from gossamer.runtime.constants import Packed
from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.importer.batch_index import counts
from gossamer.runtime.importer.tensors import constant_node
from gossamer.runtime.operators import OPERATORS
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.constants import SPARSE
from gossamer.runtime.operators.context import (
    BATCH,
    LARGEST,
    LARGEST_FOLDED,
    Context,
    check_rank,
    reshaped,
    shown,
)
from gossamer.runtime.operators.folding import DTYPES, LEFT_OUT
from gossamer.runtime.operators.unsupported import Unsupported

# Of vectors, Equal is not among them: exporters broadcast shapes with it.
ARITHMETIC = {"Add", "Sub", "Div", "Mod", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
ARITHMETIC |= {"Equal", "Max", "Min", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}

COUNTED = (
    "it computes with the number of examples in the batch, which a result must not depend on; or "
    "fix it by naming the sizes of the inputs (shapes, or --shape)"
)


def fold(context: Context, call: Call) -> bool:
    """Fold a node that depends on constants or a shape only; return whether it does."""
    operator, inputs, output = call.operator, call.inputs, call.output
    known = OPERATORS.get(operator)
    if operator == "Constant":
        context.add_constant(output, constant_node(call.attributes))
    elif operator == "Shape":
        part = slice(call.get("start"), call.get("end"))
        context.add_constant(output, np.array(context.shape(inputs[0])[part], np.int64))
    elif operator == "Size":
        context.add_constant(output, np.array(math.prod(context.shape(inputs[0])), np.int64))
    elif (
        known is not None
        and known.fold is not None
        and inputs
        and all(context.is_constant(value) for value in inputs if value)
        and not counts(context, call)
    ):
        _compute(context, call)
    else:
        if known is not None and known.shared == "elementwise" and not counts(context, call):
            known_numbers = [v for v in inputs if context.is_constant(v) and context.kind(v) == "i"]
            if any(_is_batch(context.array(v)) for v in known_numbers):
                raise Unsupported(COUNTED)
        return False
    return True


def _compute(context: Context, call: Call) -> None:
    """Fold a node, within the number of folded numbers that a file of this size may ask for."""
    operator, inputs, a = call.operator, call.inputs, call.attributes
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    values = [context.array(name) if name else LEFT_OUT for name in inputs]
    shape: Shape | None = None  # where the result is stored once for all examples
    if operator in ("ConstantOfShape", "Expand"):
        sizes = np.ravel(values[-1])
        if np.any(sizes == BATCH):  # the same for every example
            values[-1] = np.where(sizes == BATCH, 1, sizes)
            own = values[0].shape if operator == "Expand" else ()
            shape = np.broadcast_shapes(own, tuple(int(size) for size in sizes))
    once = any(context.is_once(name) for name in inputs)
    if once and _joins(context, call, values):
        raise Unsupported("it may mix the examples of a batch; compute it within one example")
    if operator == "Tile" and values[1].size and values[1].flat[0] % BATCH == 0:
        times = [int(n) for n in np.ravel(values[1])]
        shape = tuple(n * by for n, by in zip(values[0].shape, times, strict=True))
        values[1] = np.array([times[0] // BATCH, *times[1:]])
    if operator == "Range" and any(value % BATCH == 0 and value for value in values):
        raise Unsupported("it counts the examples of the batch")
    as_number = operator == "Cast" and np.dtype(DTYPES[a["to"]]).kind == "f"
    if (as_number and _is_batch(values[0])) or _depends(operator, values, a):
        raise Unsupported(COUNTED)
    if once:
        shape = _repeated(context, call, values) or shape
    known = OPERATORS[operator]
    wanted = known.size(values, a) if known.size is not None else values[0].size
    limit = LARGEST if operator == SPARSE else LARGEST_FOLDED
    context.spend(wanted, max(limit, *(value.size for value in values)))
    if operator == SPARSE:  # stays as it is until a kernel is made of it
        try:
            dense = sparse_file.check(values[0], values[1], a["shape"])
        except ValueError as error:
            raise Unsupported(str(error)) from None
        context.add_constant(call.output, Packed(values[0], values[1], dense), once=once)
        return
    assert known.fold is not None
    folded = np.asarray(known.fold(values, a))
    check_rank(folded.ndim)
    context.add_constant(call.output, folded, shape, once=once)


def _depends(operator: str, values: list[Array], attributes: dict[str, Any]) -> bool:
    """Whether arithmetic with the number of examples gives what is no number of rows."""
    compute = OPERATORS[operator].fold
    if operator not in ARITHMETIC or compute is None or not any(map(_has_batch, values)):
        return False
    if operator == "Equal" and any(value.size > 1 for value in values):
        return False
    results = []
    for n in (1, 2, BATCH):
        of_n = [np.where(value % BATCH, value, value // BATCH * n) for value in values]
        results.append(np.asarray(compute(of_n, attributes), np.float64))
    one, two, result = results
    same, rows = (one == two) & (one == result), (2 * one == two) & (one * BATCH == result)
    return bool(np.any(~same & ~rows))


def _has_batch(value: Array) -> bool:
    """Whether a constant, such as a shape, has a number that was made of the number of examples."""
    small = value.size <= MOST_DIMENSIONS and value.dtype.kind in "iuf"
    return small and bool(np.any((value != 0) & (np.remainder(value, BATCH) == 0)))


def _is_batch(value: Array) -> bool:
    """Whether a constant is one number that was made of the number of examples."""
    return value.size == 1 and value.dtype.kind in "iu" and _has_batch(value)


def _whole(context: Context, value: str) -> Shape | None:
    """Return the shape, batch included, of a constant stored once for all examples, else None."""
    known = context.values[value]
    return known.shape if known.repeated else None


def _joins(context: Context, call: Call, values: list[Array]) -> bool:
    """Whether an operator may combine numbers of different examples of such a constant."""
    operator, shape = call.operator, _whole(context, call.value) or ()
    if operator in ("CumSum", "Softmax"):
        axis = values[1].item() if operator == "CumSum" else call.get("axis", -1)
        return not shape or shape[int(axis)] % BATCH == 0
    if operator in ("Gemm", "MatMul"):
        whole = len(shape) > 1 and shape[0] % BATCH == 0 and values[1].ndim == 2
        return not whole or bool(call.get("transA")) or any(map(context.is_once, call.inputs[1:]))
    return OPERATORS[operator].shared == "joins"


def _repeated(context: Context, call: Call, values: list[Array]) -> Shape | None:
    """Return the result's shape, batch included, if it too is stored once for all examples."""
    operator, known = call.operator, OPERATORS[call.operator]
    shapes = [context.shape(name) for name in call.inputs if name]
    if known.shared == "elementwise":
        return np.broadcast_shapes(*shapes)
    if _whole(context, call.value) is None:
        return None
    if known.shared == "pointwise" or operator in ("CumSum", "Softmax"):
        return shapes[0]
    if known.shared == "view" and known.fold is not None:
        view = np.broadcast_to(np.int8(0), shapes[0])
        made = known.fold([view, *values[1:]], call.attributes).shape
        if any(size and size % BATCH == 0 for size in made):
            return made
        if known.fold(values, call.attributes).shape != made:
            raise Unsupported("it takes a part of the batch")
        return None
    if operator == "Concat" and all(_whole(context, name) for name in call.inputs):
        axis = int(call.attributes["axis"]) % len(shapes[0])
        if shapes[0][axis] % BATCH:
            joined = sum(shape[axis] for shape in shapes)
            return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])
    if operator in ("Gemm", "MatMul"):
        return (*shapes[0][:-1], shapes[1][0 if call.get("transB") else 1])
    if operator == "Reshape" and shapes[0][0] % BATCH == 0:
        shape = reshaped(shapes[0], [int(size) for size in np.ravel(values[1])])
        if shape[0] % BATCH:
            raise Unsupported(f"it reshapes {shown(shapes[0])} to {shown(shape)}")
        values[1] = np.array([shape[0] // BATCH, *shape[1:]])
        return shape
    return None
