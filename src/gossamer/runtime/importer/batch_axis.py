"""Values whose batch is not their first dimension, as attention written for sequences makes them.

The engine's values have the batch first. Where a transpose takes it from there, or an axis is put
before it, the value is computed with its batch in front all the same, and a ``BatchAxis`` says how
to read it. What depends on it is computed from the value in front, whose axes are one further.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from gossamer.runtime.graph import Node, Shape
from gossamer.runtime.importer.context import (
    Attributes,
    BatchAxis,
    Context,
    Unsupported,
    Value,
    shown,
)
from gossamer.runtime.importer.operators import CONVERT
from gossamer.runtime.importer.operators.binary import BINARY
from gossamer.runtime.importer.operators.elementwise import ELEMENTWISE
from gossamer.runtime.importer.operators.layout_ops import axes_of, permutation_of, place
from gossamer.runtime.importer.operators.logic import LOGIC
from gossamer.runtime.importer.operators.pools import POOLS
from gossamer.runtime.importer.operators.shapes import target_of


def convert(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """One node of the engine's operators, wherever the batch of its inputs is."""
    moves = operator == "Transpose" and a.get("perm", [1])[:1] != [0]
    if operator == "Unsqueeze":
        axes = axes_of(context, inputs, a)
        moves = any(axis in (0, -len(context.shape(inputs[0])) - len(axes)) for axis in axes)
    if not moves and not any(_elsewhere(context, value) for value in inputs):
        CONVERT[operator](context, name, inputs, output, a)
    elif operator in WITH_BATCH_ELSEWHERE:
        WITH_BATCH_ELSEWHERE[operator](context, operator, name, inputs, output, a)
    else:
        turned = next(context.shape(v) for v in inputs if _elsewhere(context, v))
        raise Unsupported(f"its input is {shown(turned)}; the batch must stay first")


def _elsewhere(context: Context, value: str) -> bool:
    """Whether the batch of a value is not its first dimension."""
    return bool(value) and context.values[value].batch_axis is not None


def _in_front(context: Context, name: str, value: str, output: str) -> tuple[BatchAxis, Shape]:
    """Where the batch of a value is, in front if need be, and its other dimensions."""
    if (found := context.values[value].batch_axis) is not None:
        return found, context.shape(found.source)[1:]
    size, *rest = context.shape(value)
    lead = context.batch if size % context.batch == 0 else size
    within = (size // lead, *rest)
    source = f"{output} of {value} in front"
    if source not in context.values:
        context.emit(Node("reshape", name, (value,), source), (lead, *within))
    return BatchAxis(source, 0, within[0]), within


def _settle(context: Context, name: str, found: BatchAxis, output: str) -> None:
    """Lets ``output`` be read by a ``BatchAxis``, or be plain where the batch came back."""
    lead, *sizes = context.shape(found.source)
    back = found.axis == 0 and found.after == sizes[0]
    sizes[found.axis] *= lead
    if back:
        context.emit(Node("reshape", name, (found.source,), output), tuple(sizes))
        return
    context.uses[found.source] = context.uses[output]
    kind = context.kind(found.source)
    context.values[output] = Value(tuple(sizes), kind, batch_axis=found)


def _transpose(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    found, sizes = _in_front(context, name, inputs[0], output)
    perm = permutation_of(context, inputs[0], a)
    lead, source = context.shape(found.source)[0], found.source
    wide = [p for p in range(len(sizes)) if sizes[p] != 1]
    order = [wide.index(p) + 1 for p in perm if p in wide]
    if order != sorted(order):
        narrow, turned = f"{output} narrow", f"{output} turned"
        context.emit(Node("reshape", name, (source,), narrow), (lead, *(sizes[p] for p in wide)))
        place(context, name, narrow, [0, *order], turned)
        source = turned
    front = f"{output} in front"
    context.emit(Node("reshape", name, (source,), front), (lead, *(sizes[p] for p in perm)))
    _settle(context, name, BatchAxis(front, perm.index(found.axis), found.after), output)


def _reshape(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """The batch stays between the same numbers, whatever dimension that is then."""
    found, sizes = _in_front(context, name, inputs[0], output)
    lead, shape = context.shape(found.source)[0], target_of(context, operator, inputs, a)
    behind = found.after * math.prod(sizes[found.axis + 1 :])
    places = [
        (shape[axis], axis)
        for axis in range(len(shape))
        if behind % (inner := math.prod(shape[axis + 1 :])) == 0
        and (inner * shape[axis]) % (behind * lead) == 0
    ]
    if not places:
        turned = context.shape(inputs[0])
        raise Unsupported(f"it reshapes {shown(turned)} to {shown(shape)}; that tears the batch")
    _, axis = min(places)
    within = (*shape[:axis], shape[axis] // lead, *shape[axis + 1 :])
    front = f"{output} in front"
    context.emit(Node("reshape", name, (found.source,), front), (lead, *within))
    after = behind // math.prod(shape[axis + 1 :])
    _settle(context, name, BatchAxis(front, axis, after), output)


def _fronts(
    context: Context, name: str, inputs: Sequence[str], output: str, rank: int
) -> tuple[list[str], BatchAxis]:
    """The inputs with the batch in front and ``rank`` dimensions behind it, and how to read them.

    Constants stay as they are; they must be the same for all examples.
    """
    fronts, ways = [], []
    for value in inputs:
        if not value or context.is_constant(value):
            fronts.append(value)
            continue
        found, sizes = _in_front(context, name, value, output)
        missing = rank - len(sizes)
        source, lead = found.source, context.shape(found.source)[0]
        if missing:
            source = f"{output} of {value} widened"
            if source not in context.values:
                shape = (lead, *[1] * missing, *sizes)
                context.emit(Node("reshape", name, (found.source,), source), shape)
        fronts.append(source)
        ways.append((BatchAxis("", found.axis + missing, found.after), lead, sizes[found.axis]))
    if len(set(ways)) > 1:
        shapes = " and ".join(shown(context.shape(value)) for value in inputs if value)
        raise Unsupported(f"its inputs {shapes} have the batch in different places")
    way, lead, _ = ways[0]
    for value in inputs:
        if context.is_constant(value) and lead > 1:
            own = context.array(value).shape
            at = way.axis - (rank - len(own))
            if at >= 0 and own[at] != 1:
                raise Unsupported(f"a constant of shape {own} differs between examples")
    return fronts, way


def _pointwise(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    rank = max(len(context.shape(value)) for value in inputs if value)
    fronts, way = _fronts(context, name, inputs, output, rank)
    front = f"{output} in front"
    CONVERT[operator](context, name, fronts, front, a)
    _settle(context, name, BatchAxis(front, way.axis, way.after), output)


def _multiply(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """By a matrix, along the last dimension; or matrices with matrices."""
    values = [value for value in inputs[:2] if not context.is_constant(value)]
    rank = len(context.shape(values[0]))
    fronts, way = _fronts(context, name, values, output, rank)
    if way.axis >= rank - len(values) or context.is_constant(inputs[0]):
        raise Unsupported(f"it multiplies along the batch of {shown(context.shape(values[0]))}")
    front = f"{output} in front"
    CONVERT[operator](context, name, [*fronts, *inputs[len(fronts) :]], front, a)
    _settle(context, name, BatchAxis(front, way.axis, way.after), output)


def _along(default: int) -> Along:
    """Operators that work along the axis of an attribute."""

    def convert_along(
        context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
    ) -> None:
        if context.is_constant(inputs[0]) and operator == "Gather":  # an embedding
            found, _ = _in_front(context, name, inputs[1], output)
            front = f"{output} in front"
            CONVERT[operator](context, name, [inputs[0], found.source], front, a)
            _settle(context, name, BatchAxis(front, found.axis, found.after), output)
            return
        count = len(inputs) if operator == "Concat" else 1
        rank = len(context.shape(next(v for v in inputs if not context.is_constant(v))))
        axis = int(a.get("axis", default))
        fronts, way = _fronts(context, name, inputs[:count], output, rank)
        axis = axis + rank if axis < 0 else axis
        if axis == way.axis or (operator == "LayerNormalization" and axis < way.axis):
            raise Unsupported("it works along the batch")
        for i, value in enumerate(fronts):
            if context.is_constant(value):
                fronts[i] = f"{output} constant {i}"
                context.add_constant(fronts[i], context.array(value)[None])
        moved = way.axis
        if operator == "Gather" and not context.shape(inputs[1]) and axis < way.axis:
            moved -= 1
        outputs = context.outputs if operator == "Split" else [output]
        context.outputs = [f"{value} in front" if value else "" for value in outputs]
        given = {**a, "axis": axis + 1}
        CONVERT[operator](
            context, name, [*fronts, *inputs[count:]], f"{outputs[0]} in front", given
        )
        for value in filter(None, outputs):
            _settle(context, name, BatchAxis(f"{value} in front", moved, way.after), value)

    return convert_along


def _by_axes(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """Operators that work along several axes, which they name in an input or an attribute."""
    shape = context.shape(inputs[0])
    found, _ = _in_front(context, name, inputs[0], output)
    named = [inputs[0], *inputs[3:4]] if operator == "Slice" else inputs
    axes = axes_of(context, named, a)
    if not axes:
        starts = len(np.ravel(context.constant(inputs[1], "starts"))) if operator == "Slice" else 0
        ones = [i for i, size in enumerate(shape) if size == 1]
        axes = {"Slice": list(range(starts)), "Squeeze": ones}.get(operator, [])
    rank = len(shape) + (len(axes) if operator == "Unsqueeze" else 0)
    if not axes or any(not -rank <= axis < rank for axis in axes):
        raise Unsupported(f"it has no axes {axes} in {shown(shape)}")
    axes = [axis % rank for axis in axes]
    axis = found.axis
    if operator == "Unsqueeze":
        axis = [i for i in range(rank) if i not in axes][axis]
    elif axis in axes:
        raise Unsupported("it works along the batch")
    elif operator == "Squeeze" or (operator != "Slice" and not a.get("keepdims", 1)):
        axis -= sum(i < axis for i in set(axes))
    shifted, front = f"{output} axes", f"{output} in front"
    context.add_constant(shifted, np.array([i + 1 for i in axes], np.int64))
    more = [*inputs[1:3], shifted, *inputs[4:]] if operator == "Slice" else [shifted]
    given = {key: value for key, value in a.items() if key != "axes"}
    CONVERT[operator](context, name, [found.source, *more], front, given)
    _settle(context, name, BatchAxis(front, axis, found.after), output)


Along = Callable[[Context, str, str, list[str], str, Attributes], None]

WITH_BATCH_ELSEWHERE: dict[str, Along] = {
    **dict.fromkeys([*ELEMENTWISE, *BINARY, *LOGIC, "Identity", "Dropout"], _pointwise),
    **dict.fromkeys(["MatMul", "Gemm"], _multiply),
    **dict.fromkeys(["Softmax", "LogSoftmax", "LayerNormalization"], _along(-1)),
    **dict.fromkeys(["Concat", "Gather", "Split"], _along(0)),
    **dict.fromkeys(
        [op for op in POOLS if op.startswith("Reduce")] + ["Slice", "Squeeze", "Unsqueeze"],
        _by_axes,
    ),
    **dict.fromkeys(["Flatten", "Reshape"], _reshape),
    "Transpose": _transpose,
}
