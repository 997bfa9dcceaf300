"""K-winners, stored as functions of gossamer's own domain."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.context import Attributes, Context, Convert, Unsupported, floats


def _winners(local: bool) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = context.shape(inputs[0])
        k = int(a.get("k", 0))
        group = shape[1] if local else math.prod(shape[1:])
        if not 0 < k <= group:
            raise Unsupported(f"it keeps {k} winners of {group}; k must be 1 to {group}")
        constants = {}
        if len(inputs) > 1 and inputs[1]:
            boost = floats(context.constant(inputs[1], "boost"))
            if not np.all(boost == 1.0):
                constants["boost"] = np.broadcast_to(boost, shape[1:]).astype(np.float32)
        context.emit(
            Node("winners", name, (inputs[0],), output, {"k": k, "local": local}, constants), shape
        )

    return convert


WINNERS: dict[str, Convert] = {
    "gossamer.KWinners": _winners(False),
    "gossamer.KWinnersLocal": _winners(True),
}
