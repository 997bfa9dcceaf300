"""Inlining of a file's functions, except those that the engine has an operator for."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any

from gossamer.runtime.operators.unsupported import Unsupported

MOST_NODES = 1 << 18
DEEPEST = 100  # functions within one another; onnx's inliner takes no more

Key = tuple[str, str]  # domain, name


def inlined(model: Any) -> Any:
    """Return the model with its functions inlined, except those that are operators of the engine.

    A function with the name of such an operator but another body is inlined too: the engine runs
    what the file defines.
    """
    if not model.functions:
        return model
    import onnx.inliner

    from gossamer.runtime.onnx_functions import own_functions

    own = {(f.domain, f.name): _canonical(f) for f in own_functions()}
    bodies = {(f.domain, f.name): f for f in model.functions}
    others = [key for key, f in bodies.items() if key not in own or _canonical(f) != own[key]]
    if not others:
        return model
    others.sort(key=repr)
    _check_size(model, {key: bodies[key].node for key in others})
    try:
        return onnx.inliner.inline_selected_functions(model, others, exclude=False)
    except Exception as error:  # the library raises whatever its C++ side threw
        raise Unsupported(f"its functions cannot be inlined ({str(error)[:80]})") from None


def _canonical(function: Any) -> tuple[Any, ...]:
    """Return what a function computes, independent of the names in it, for comparison."""
    names: dict[str, int] = {"": -1}
    signature = [names.setdefault(value, len(names)) for value in function.input]
    nodes = [
        (
            node.domain,
            node.op_type,
            tuple(names.setdefault(value, len(names)) for value in node.input),
            tuple(names.setdefault(value, len(names)) for value in node.output),
            tuple(sorted((_attribute(a) for a in node.attribute), key=repr)),
        )
        for node in function.node
    ]
    results = [names.setdefault(value, len(names)) for value in function.output]
    # By their text: a damaged name is bytes, which do not compare with texts.
    return signature, sorted(function.attribute, key=repr), nodes, results


def _attribute(attribute: Any) -> tuple[str, bytes]:
    """Return an attribute's name and its content without names and doc strings."""
    plain = type(attribute)()
    plain.CopyFrom(attribute)
    plain.ClearField("doc_string")
    plain.t.ClearField("name")
    if not attribute.HasField("t"):
        plain.ClearField("t")
    return attribute.name, plain.SerializeToString(deterministic=True)


def _check_size(model: Any, bodies: dict[Key, Any]) -> None:
    """Refuse recursive functions, and functions that expand to too many nodes."""

    def called(nodes: Any) -> set[Key]:
        return {(node.domain, node.op_type) for node in nodes} & bodies.keys()

    calls = {key: called(nodes) for key, nodes in bodies.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise Unsupported(f"its function {error.args[1][0][1]!r} calls itself") from None
    depths: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    for key in order:
        depths[key] = 1 + max((depths[inner] for inner in calls[key]), default=0)
        counts[key] = sum(counts.get((n.domain, n.op_type), 1) for n in bodies[key])
    total = sum(counts.get((n.domain, n.op_type), 1) for n in model.graph.node)
    if max(depths.values()) > DEEPEST:
        raise Unsupported(f"its functions call one another more than {DEEPEST} deep; inline them")
    if total > MOST_NODES:
        raise Unsupported(f"its functions make more than {MOST_NODES} nodes")
