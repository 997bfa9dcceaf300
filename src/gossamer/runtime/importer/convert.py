"""The passes of an import.

1. ``parse``: constants, inputs and nodes of the file as plain records.
2. Each node in turn: ``rewrite`` replaces operators of older opsets, then the first of five steps
   that applies converts the node (``STEPS``): a node of constants is folded by its operator's rule,
   or run by the engine if that has none; indices of the batch's examples are recorded; a batch that
   is not first is moved there; all other nodes are converted as they are. Each value has one record
   (``Value``: shape, type, constant, batch axis, quantization).
3. ``fuse``: a chain of nodes that computes one activation becomes one node.
4. ``absorb``: a scale, shift, clip or pool is fused into the layer before it.
5. Equal small constants become one array: an unrolled recurrent layer has thousands.

Nodes that no output depends on are dropped. The steps of 2 run node by node, not as passes over the
whole file, since only the conversion of a node makes the record of its output, and the next node
may be a ``Shape`` of it, with which exporters compute whole chains. A shape pass beforehand would
need every operator's rule twice, and again for values whose batch axis was moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array, Graph, living
from gossamer.runtime.importer.absorb import absorb
from gossamer.runtime.importer.batch_axis import move_batch
from gossamer.runtime.importer.batch_index import count_batch
from gossamer.runtime.importer.control import Control
from gossamer.runtime.importer.evaluate import evaluate
from gossamer.runtime.importer.fold import fold
from gossamer.runtime.importer.fusion import fuse
from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.importer.node import convert_node
from gossamer.runtime.importer.parse import CONTROL, Parsed, parse
from gossamer.runtime.importer.rewrite import rewritten
from gossamer.runtime.operators.batch_axis import NOWHERE
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, BatchAxis, Context, shown
from gossamer.runtime.operators.dynamic_int8 import floor, units_of
from gossamer.runtime.operators.int8 import as_numbers
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

# Whether a step has taken a node; the last one takes every node, or raises.
STEPS: tuple[Callable[[Context, Call], bool], ...] = (
    fold,
    evaluate,
    count_batch,
    move_batch,
    convert_node,
)


def graph_of(name: str, model: Any, source: Source, opset: int) -> Graph:
    """Return the engine's graph of a model whose functions are inlined.

    The first dimension of inputs of fixed sizes is taken for the batch. Where a node does not allow
    that, as with a sequence or the rows of a picture in front, the inputs are one example.
    """
    parsed, context = parse(model.graph, source), Context(name)
    try:
        return _graph(context, parsed, source, opset)
    except Unsupported as error:
        if context.batch in (1, BATCH):
            raise
        try:
            return _graph(Context(name), parsed, source, opset, whole=True)
        except Unsupported:
            raise error from None


def _graph(
    context: Context, parsed: Parsed, source: Source, opset: int, *, whole: bool = False
) -> Graph:
    outputs = parsed.outputs
    dynamic, numbers = _add_inputs(context, parsed, whole)
    control = Control(
        context,
        source,
        lambda graph: _convert(context, graph, opset, control),
        lambda call: _call(context, call),
    )
    context.free += parsed.size
    _convert(context, parsed.renamed(numbers), opset, control)
    scalars = {value for value in outputs if _finish(context, value)}
    shapes = context.engine_shapes()
    nodes = living(fuse(living(context.nodes, outputs), shapes), outputs)
    nodes = absorb(nodes, shapes, outputs)
    constants: dict[tuple[Any, ...], Array] = {}
    for node in nodes:
        node.store.share(constants)
    return Graph(
        list(parsed.inputs),
        outputs,
        nodes,
        shapes,
        dynamic,
        {name: dtype for name, dtype in parsed.dtypes.items() if name in parsed.inputs},
        {name: _dtype(context, parsed, name) for name in outputs if context.kind(name) != "f"},
        frozenset(scalars.union(numbers)),
        files=list(source.files.values()),
    )


def _dtype(context: Context, parsed: Parsed, output: str) -> np.dtype[Any]:
    """Return the declared type of an output that is not of floats."""
    return parsed.dtypes.get(output, np.dtype("b1" if context.kind(output) == "b" else "i8"))


def _add_inputs(context: Context, parsed: Parsed, whole: bool) -> tuple[bool, dict[str, str]]:
    """Whether the batch is free, as all inputs say, and what nodes read for single numbers.

    Fixed inputs are one example if they are ``whole``. The engine has a single number in a row of
    one, which the nodes read as a number.
    """
    inputs = parsed.inputs
    if not 1 <= len(inputs) <= 16:
        raise Unsupported(f"it has {len(inputs)} inputs; 1 to 16 can be run")
    numbers = {name: f"{name} as a number" for name, value in inputs.items() if not value.shape}
    free = {value.shape[0] == BATCH for value in inputs.values() if value.shape}
    if numbers and True in free:
        raise Unsupported(
            f"input {min(numbers)!r} is one number for all examples: fix the batch by naming the "
            "sizes of the other inputs (shapes, or --shape), fix its value (values, or --value), "
            "or give it a batch dimension"
        )
    if len(free) > 1:
        raise Unsupported("some inputs have a dynamic batch, some a fixed one")
    for name, value in inputs.items():
        context.values[name] = replace(value, shape=value.shape or (1,))
        if name in numbers:
            front = BatchAxis(name, NOWHERE)
            context.values[numbers[name]] = replace(value, batch_axis=front)
    context.batch = 1 if whole else math.gcd(*(context.shape(name)[0] for name in inputs))
    return True in free, numbers


def _convert(context: Context, parsed: Parsed, opset: int, control: Control) -> None:
    """Take in the constants of a graph, or of one within it, and its nodes one by one."""
    for name, array in parsed.constants.items():
        context.add_constant(name, array)
    for call in parsed.calls:
        _node(context, call, opset, control)


def _finish(context: Context, value: str) -> bool:
    """Check an output. Return whether it is a single number, which becomes a row of one."""
    if context.is_constant(value):
        raise Unsupported(f"output {value!r} is the same for all inputs; leave it out")
    if value not in context.values:
        raise Unsupported(_missing(context, value) or f"nothing computes its output {value!r}")
    known = context.values[value]
    if known.codes is not None or known.units:
        raise Unsupported(f"output {value!r} is in 8 bits; dequantize it")
    if known.batch_index is not None:
        raise Unsupported(f"output {value!r} counts the examples of the batch; leave it out")
    if known.batch_axis is None:
        return False
    if known.shape:
        raise Unsupported(
            f"output {value!r}: the batch must stay first; or fix it by naming the sizes of the "
            "inputs (shapes, or --shape)"
        )
    context.name = ""
    context.emit(Reshape(), known.batch_axis.source, value, (1,), known.kind)
    return True


def _node(context: Context, call: Call, opset: int, control: Control) -> None:
    """One ONNX node, as the operators of today."""
    for value in call.inputs:
        if value and value not in context.values:
            missing = (
                _missing(context, value) or f"reads {value!r}, which nothing before it computes"
            )
            raise Unsupported(f"{call.where}: {missing}")
    if call.output in context.values:
        raise Unsupported(f"{call.where}: computes {call.output!r} a second time")
    if call.operator in CONTROL:
        control.write_out(call)
        return
    try:
        units_of(context, call)
        for each in rewritten(context, opset, call):
            _call(context, each)
    except Unsupported as error:
        raise Unsupported(f"{call.where}: {error}".rstrip("; ")) from None
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError):
        shapes = " and ".join(shown(context.shape(value)) for value in call.inputs if value)
        raise Unsupported(
            f"{call.where}: its attributes or inputs ({shapes or 'none'}) are invalid; "
            "export it again"
        ) from None
    for further in call.outputs[1:]:
        if further and further not in context.values:
            context.uncomputed[further] = call.where


def _call(context: Context, call: Call) -> None:
    """Let the first step that applies to a node convert it."""
    context.name = call.name
    units = units_of(context, call)
    if units and call.operator == "Cast":  # of integers times a scale, which no cast may cut
        call = replace(call, operator="Identity", attributes={})
    if call.operator != "DequantizeLinear":
        inputs = [
            as_numbers(context, value)
            if value and context.values[value].codes is not None
            else value
            for value in call.inputs
        ]
        call = replace(call, inputs=inputs)
    if units and call.operator == "Floor":
        floor(context, call, units)
    else:
        next(step for step in STEPS if step(context, call))
    if units:
        context.values[call.output].units = units


def _missing(context: Context, value: str) -> str | None:
    """Why nothing computes a value that a node before does have as an output."""
    where = context.uncomputed.get(value)
    return where and (
        f"{value!r} is a further output of {where}, and the engine computes the first only; "
        "export without"
    )
