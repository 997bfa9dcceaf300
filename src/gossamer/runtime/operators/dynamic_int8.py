"""Quantization by the range of each input: DynamicQuantizeLinear, and the products that follow.

The engine's numbers are the quantized values times their scale, and its scale is one: a product
that is multiplied by the scale later has it already. ``Value.units`` counts, for each node of
this operator (by its output), how many times its scale is in a value of the engine and not in the
file's; so whatever reads such a value has to be a product that settles the count, or is refused.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.context import BATCH, Attributes, Context, Unsupported
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.pools import reduce_by
from gossamer.runtime.operators.reshape import Reshape

PRODUCTS = {"Conv", "ConvInteger", "DequantizeLinear", "MatMul", "MatMulInteger", "Mul"}
MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# Scales below it are numbers that the processor may take for zero.
SMALLEST = float(np.finfo(np.float32).tiny)


def units_of(context: Context, operator: str, inputs: list[str]) -> dict[str, int]:
    """The units of an operator's output; raises where its inputs may not be used so."""
    known = {value: context.values[value].units for value in inputs if value in context.values}
    if not any(known.values()):
        return {}
    values = inputs
    if operator == "DequantizeLinear":
        values = inputs[:2]
        sources = known[inputs[0]].keys()
        zeros = known.get(inputs[2] if len(inputs) > 2 else "", {})
        fits = dict.fromkeys(sources, 0) == zeros
    else:
        zeros = {}
        fits = operator in PRODUCTS or (operator in MOVES and not any(map(known.get, inputs[1:])))
        if operator in ("ConvInteger", "MatMulInteger"):  # their own calls are looked at
            return {}
    total = Counter[str]()
    for value in values:
        total.update(known.get(value, {}))
        fits = fits and 0 not in known.get(value, {}).values()
    if not fits:
        raise Unsupported("it reads what DynamicQuantizeLinear computes, other than in a product")
    return {source: count for source, count in total.items() if count}


def _quantize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """Quantize each example or, where the batch is fixed, the whole batch, as ONNX defines it."""
    value, shape = inputs[0], context.shape(inputs[0])
    lead = BATCH if context.batch == BATCH else 1
    flat, turned, top, bottom, over, under, span, unsafe, step, axes = (
        f"{output} {part}"
        for part in (
            *("flat", "turned", "top", "bottom", "over", "under", "span", "unsafe", "step"),
            "axes",
        )
    )
    context.emit(Node(Reshape(), name, (value,), flat), (lead, int(np.prod(shape)) // lead))
    context.emit(Node(Unary("neg"), name, (flat,), turned), context.shape(flat))
    context.add_constant(axes, np.array([1]))
    for source, end, limit in ((flat, top, over), (turned, bottom, under)):
        reduce_by("max")(context, name, [source, axes], end, {})
        context.emit(Node(Unary("clip", 0.0, np.inf), name, (end,), limit), (lead, 1))
    combine(context, "add", name, over, under, span)
    constant_binary(context, "div", name, span, unsafe, np.array(255))
    constant_binary(context, "max", name, unsafe, step, np.array(SMALLEST, np.float32))

    def in_steps(source: str, result: str) -> None:
        combine(context, "div", name, source, step, f"{result} exact")
        node = Node(Unary("round"), name, (f"{result} exact",), result)
        context.emit(node, context.shape(source))

    steps, zero, sums, codes, whole, numbers = (
        f"{output} {part}" for part in ("steps", "zero", "sums", "codes", "whole", "numbers")
    )
    in_steps(flat, steps)
    in_steps(under, f"{zero} unlimited")
    clip = Unary("clip", 0.0, 255.0)
    context.emit(Node(clip, name, (f"{zero} unlimited",), zero), (lead, 1))
    combine(context, "add", name, steps, zero, sums)
    context.emit(Node(clip, name, (sums,), codes), context.shape(sums))
    combine(context, "sub", name, codes, zero, whole)
    combine(context, "mul", name, whole, step, numbers)
    context.emit(Node(Reshape(), name, (numbers,), output), shape)
    context.values[output].units = {output: 1}
    constants: list[tuple[Array, int]] = [
        (np.ones((), np.float32), -1),
        (np.zeros((), np.uint8), 0),
    ]
    for result, (constant, count) in zip(context.outputs[1:], constants, strict=False):
        context.add_constant(result, constant)
        context.values[result].units = {output: count}


DYNAMIC_INT8: Operators = {"DynamicQuantizeLinear": Operator(_quantize)}
