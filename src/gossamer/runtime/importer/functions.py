"""The functions of a file: those that are no operators of the engine are inlined."""

from __future__ import annotations

from typing import Any

from gossamer.runtime.importer.folding import SPARSE
from gossamer.runtime.importer.operators import CONVERT
from gossamer.runtime.importer.reader import Unsupported

MOST_NODES = 1 << 18


def inlined(model: Any) -> Any:
    """The model without functions, but for those that are operators of the engine."""
    known = {*CONVERT, SPARSE}
    ours = {(f.domain, f.name) for f in model.functions if f"{f.domain}.{f.name}" in known}
    others = {(f.domain, f.name) for f in model.functions} - ours
    if not others:
        return model
    _count_nodes(model, ours)
    import onnx.inliner

    try:
        return onnx.inliner.inline_selected_functions(model, sorted(others), exclude=False)
    except Exception as error:  # the library raises whatever its C++ side threw
        raise Unsupported(f"its functions cannot be inlined ({str(error)[:80]})") from None


def _count_nodes(model: Any, ours: set[tuple[str, str]]) -> None:
    """Refuses functions that call themselves, and bodies that grow without measure."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    counts: dict[tuple[str, str], int] = dict.fromkeys(ours, 1)

    def count(nodes: Any, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in bodies and key not in counts:
                if key in within or len(within) > 50:
                    raise Unsupported(f"its function {node.op_type!r} calls itself")
                counts[key] = count(bodies[key], (*within, key))
            total += counts.get(key, 1)
        if total > MOST_NODES:
            raise Unsupported(f"its functions make more than {MOST_NODES} nodes")
        return total

    count(model.graph.node, ())
