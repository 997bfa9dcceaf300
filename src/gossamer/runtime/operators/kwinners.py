"""K-winners, stored as functions of gossamer's own domain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Node, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.context import Attributes, Context, Unsupported, floats
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.packing import BLOCK
from gossamer.runtime.program import LIST_HEADER


@dataclass(frozen=True)
class Winners(Single):
    """The k largest numbers of an example, or (``local``) of its channels at each position."""

    op = "winners"

    k: int
    local: bool

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        k, local = self.k, self.local
        plain = "last" if local and value.pixels > 1 else lowering.layout(value)
        source = lowering.form(value, plain)
        size, groups = (value.channels, value.pixels) if local else (value.item, 1)
        last = plain == "last"
        inner, outer = (value.channels, value.pixels) if last and not local else (1, 1)
        capacity = k * groups
        buffer = lowering.new(result, "list last" if last else "list", LIST_HEADER + 2 * capacity)
        boost = node.constants.get("boost")
        data: Array = np.zeros(1, np.float32)
        if boost is not None:
            data = boost.reshape(value.channels, value.pixels)
            data = (data.T if last else data).reshape(-1).copy()
        lowering.add(
            node.name,
            lowering.kernel("winners"),
            (source,),
            buffer,
            {
                "size": size,
                "k": k,
                "groups": groups,
                "capacity": capacity,
                "inner": inner,
                "outer": outer,
                "boosted": boost is not None,
            },
            data=[data],
            lead=value.lead,
            scratch=3 * (size + 2 * BLOCK),
        )
        result.density = min(result.density, capacity / value.item)

    def write(self, writer: Writer, node: AnyNode) -> None:
        shape = writer.shape(node.output)
        channels, pixels = shape[1], math.prod(shape[2:])
        boost, each = _boost(writer, node, pixels)
        writer.helpers.add("winners")
        item, k = channels * pixels, self.k
        select = f"{writer.name}_winners"
        if self.local:
            body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    for (p = 0; p < {pixels}; ++p) {select}(x, {boost}, {each}, y, p, {pixels}, {item}, {k});
}}"""
            writer.function(node, "n, p", body)
        else:
            body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    {select}(x, {boost}, {each}, y, 0, 1, {item}, {k});
}}"""
            writer.function(node, "n", body)


def _boost(writer: Writer, node: AnyNode, pixels: int) -> tuple[str, int]:
    """The table of boosts (NULL where all are one), and for how many pixels each stands."""
    boost: Array | None = node.constants.get("boost")
    if boost is None:
        return "0", 1
    planes = boost.reshape(-1, pixels)
    same = bool(np.all(planes == planes[:, :1]))
    table = f"{writer.called(node)}_boost"
    return writer.tables.floats(table, planes[:, 0] if same else boost), pixels if same else 1


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
        context.emit(Node(Winners(k, local), name, (inputs[0],), output, constants), shape)

    return convert


KWINNERS: Operators = {
    "gossamer.KWinners": Operator(_winners(False)),
    "gossamer.KWinnersLocal": Operator(_winners(True)),
}
