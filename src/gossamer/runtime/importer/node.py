"""Conversion of a node whose batch is the first dimension of its inputs."""

from __future__ import annotations

from gossamer.errors import nearest
from gossamer.runtime.importer.batch_axis import put_in_front
from gossamer.runtime.operators import OPERATORS
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.unsupported import Unsupported


def convert_node(context: Context, call: Call) -> bool:
    """Convert a node by its operator.

    If the batch is fixed at one and the node cannot work along the first dimension, a new first
    dimension is added for the batch.
    """
    known = OPERATORS.get(call.operator)
    if known is None:
        convertible = [op for op, each in OPERATORS.items() if each.convert is not None]
        raise Unsupported(
            "the engine has no such operator; replace it or run that part elsewhere; "
            + nearest(call.operator, convertible).partition("Known:")[0].rstrip("? ").strip(" ;")
        )
    if known.convert is None:
        raise Unsupported(
            "the engine runs it on constants only, and an input is not constant; "
            "replace it or run that part elsewhere"
        )
    before = len(context.nodes)
    try:
        known.convert(context, call)
    except Unsupported as error:
        constant = all(context.is_constant(value) for value in call.inputs if value)
        if context.batch != 1 or known.turned is None or constant:
            raise
        for node in context.nodes[before:]:
            context.values.pop(node.output, None)
        del context.nodes[before:]
        try:
            put_in_front(context, call)
        except Unsupported:
            raise error from None
    return True
