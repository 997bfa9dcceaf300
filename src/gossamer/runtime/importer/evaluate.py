"""Constant folding by execution: the engine computes nodes whose operators have no rule for it.

A network of the node alone, whose only input is the node's first constant, is converted as any
other and runs once.
"""

from __future__ import annotations

import numpy as np

from gossamer.kernels.registry import chosen_isa
from gossamer.runtime.graph import Array, Graph, living
from gossamer.runtime.importer.batch_axis import move_batch
from gossamer.runtime.importer.batch_index import counts
from gossamer.runtime.importer.node import convert_node
from gossamer.runtime.lowered import lower
from gossamer.runtime.operators import OPERATORS
from gossamer.runtime.operators.batch_axis import NOWHERE
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import (
    BATCH,
    LARGEST_FOLDED,
    BatchAxis,
    Context,
    Value,
    numbers,
)
from gossamer.runtime.operators.unsupported import Unsupported
from gossamer.runtime.program import assemble

# Converts constants itself: a layer may store the integers of a dequantized weight.
OWN_RULE = ("DequantizeLinear",)

# The input that stands for a constant of no dimensions: the engine has it in a row of one.
ROW = "constant in a row of one"


def evaluate(context: Context, call: Call) -> bool:
    """Compute a node that depends on constants only; return whether it does."""
    operator = OPERATORS.get(call.operator)
    if (
        operator is None
        or operator.convert is None
        or call.operator in OWN_RULE
        or not call.inputs
        or not all(context.is_constant(value) for value in call.inputs if value)
        or counts(context, call)
    ):
        return False
    constant = context.array(call.value)
    alone = _alone(context, call, constant)
    if not move_batch(alone, call):
        convert_node(alone, call)
    context.free = alone.free  # the conversion may compute constants, too
    context.spend(alone.floats, max(LARGEST_FOLDED, constant.size))
    outputs = [output for output in call.outputs if output in alone.values]
    for output, array in zip(outputs, _computed(alone, call.value, constant, outputs), strict=True):
        known = alone.values[output]
        repeated = alone.batch == BATCH
        array = array if repeated else array.reshape(known.shape)
        dtype = {"i": np.int64, "b": np.bool_}.get(known.kind, np.float32)
        context.add_constant(output, array.astype(dtype), known.shape if repeated else None)
    return True


def _alone(context: Context, call: Call, constant: Array) -> Context:
    """Return a context in which the node's first constant is an input, others are as they are."""
    alone = Context(context.source)
    alone.name, alone.free = context.name, context.free
    alone.values = {value: context.values[value] for value in call.inputs if value}
    known = context.values[call.value]
    if known.repeated and known.shape[0] == BATCH:
        alone.values[call.value] = Value(known.shape, known.kind)
    elif any(context.is_once(value) for value in call.inputs):
        raise Unsupported("it may mix the examples of a batch; compute it within one example")
    else:  # one example, whatever its first dimension
        alone.batch = 1
        row = Value(constant.shape or (1,), known.kind)
        alone.values[ROW if not constant.ndim else call.value] = row
        if not constant.ndim:
            alone.values[call.value] = Value((), known.kind, batch_axis=BatchAxis(ROW, NOWHERE))
    return alone


def _computed(alone: Context, source: str, constant: Array, outputs: list[str]) -> list[Array]:
    """Return the numbers of outputs, run on the constant."""
    values = [alone.values[output] for output in outputs]
    axes = [value.batch_axis for value in values]
    names = [
        name if axis is None else axis.source for name, axis in zip(outputs, axes, strict=True)
    ]
    for value in values:
        unread = value.constant is not None or value.codes is not None or value.units
        if unread or (value.batch_axis is not None and alone.batch == BATCH):
            raise Unsupported("it works on a constant; export with constants folded")
    shapes = alone.engine_shapes()
    source = source if constant.ndim else ROW
    graph = Graph([source], names, living(alone.nodes, names), shapes, dynamic=False)
    steps, inputs, results = lower(graph, chosen_isa(), {}, threads=1, sparse=False)
    program = assemble(steps, inputs, results, [shapes[source]], [shapes[name] for name in names])
    computed = program.run([numbers(constant).reshape(shapes[source])], False)
    return computed if len(names) > 1 else [computed]
