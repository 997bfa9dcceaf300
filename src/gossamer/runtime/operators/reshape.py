"""Reshape: the same numbers in another shape."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Single
from gossamer.runtime.lowering.layouts import Lowering


@dataclass(frozen=True)
class Reshape(Single):
    """The same numbers in the same order."""

    op = "reshape"

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        # A flattened value keeps all its forms; any other shape only the plain one.
        if (len(result.shape) == 2 and result.items == value.items) or result.shape == value.shape:
            result.channels, result.pixels = value.channels, value.pixels
            if not any(form in value.forms for form in ("dense", "last", "list", "list last")):
                lowering.form(value, "dense")
            result.forms = {
                f: b for f, b in value.forms.items() if f in ("dense", "last", "list", "list last")
            }
            return
        result.forms["dense"] = lowering.form(value, "dense")

    def write(self, writer: Writer, node: AnyNode) -> None:
        """Write a copy for the network's own outputs; other values share their input's memory."""
        if node.output in writer.graph.outputs:
            writer.function(
                node, "i", f"for (i = 0; i < {writer.size(node.output)}; ++i) y[i] = x[i];"
            )
