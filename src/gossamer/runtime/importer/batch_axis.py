"""One node of the engine's operators, wherever the batch of its inputs is.

A batch that is fixed at one is nowhere: what would work along it has an axis put in front.
"""

from __future__ import annotations

from gossamer.runtime.operators.context import Attributes, Context, Unsupported, axes_of, shown
from gossamer.runtime.operators.operator import Operator


def convert(
    context: Context,
    operator: str,
    known: Operator,
    name: str,
    inputs: list[str],
    output: str,
    a: Attributes,
) -> None:
    """Converts a node by its operator; by its rule for it where the batch is not first."""
    assert known.convert is not None
    moves = operator == "Transpose" and a.get("perm", [1])[:1] != [0]
    if operator == "Unsqueeze":
        axes = axes_of(context, inputs, a)
        moves = any(axis in (0, -len(context.shape(inputs[0])) - len(axes)) for axis in axes)
    turned = [value for value in inputs if value and context.values[value].batch_axis is not None]
    if not moves and not turned:
        before = len(context.nodes)
        try:
            known.convert(context, name, inputs, output, a)
        except Unsupported as error:
            if context.batch != 1 or known.turned is None:
                raise
            for node in context.nodes[before:]:
                context.values.pop(node.output, None)
            del context.nodes[before:]
            try:
                known.turned(context, known.convert, name, inputs, output, a)
            except Unsupported:
                raise error from None
    elif known.turned is not None:
        known.turned(context, known.convert, name, inputs, output, a)
    else:
        raise Unsupported(
            f"its input is {shown(context.shape(turned[0]))}; the batch must stay first"
        )
