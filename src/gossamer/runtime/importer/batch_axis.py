"""Conversion of a node whose batch is not, or does not stay, the first dimension."""

from __future__ import annotations

from gossamer.runtime.operators import OPERATORS
from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, axes_of, shown
from gossamer.runtime.operators.unsupported import Unsupported


def move_batch(context: Context, call: Call) -> bool:
    """Convert a node by its operator's rule for a batch that is elsewhere, if it is."""
    known = OPERATORS.get(call.operator)
    if known is None or known.convert is None:
        return False
    moves = call.operator == "Transpose" and call.get("perm", [1])[:1] != [0]
    if call.operator == "Unsqueeze":
        axes = axes_of(context, call)
        moves = any(axis in (0, -len(context.shape(call.value)) - len(axes)) for axis in axes)
    elif known.turned is pointwise:
        moves = _widens(context, call)
    turned = [i for i in call.inputs if i and context.values[i].batch_axis is not None]
    if not moves and not turned:
        return False
    if known.turned is None:
        raise Unsupported(
            f"its input is {shown(context.shape(turned[0]))}; the batch must stay first"
        )
    put_in_front(context, call)
    return True


def _widens(context: Context, call: Call) -> bool:
    """Whether a constant has more dimensions than every value, whose batch so moves behind them."""
    rank = {name: len(context.shape(name)) for name in call.inputs if name}
    constants = {name for name in rank if context.is_constant(name)}
    highest = max((rank[name] for name in rank.keys() - constants), default=0)
    return any(rank[name] > highest for name in constants if not context.is_once(name))


def put_in_front(context: Context, call: Call) -> None:
    """Convert a node by its operator's rule for a batch that is not the first dimension."""
    known = OPERATORS[call.operator]
    assert known.convert is not None
    assert known.turned is not None
    known.turned(context, known.convert, call)
