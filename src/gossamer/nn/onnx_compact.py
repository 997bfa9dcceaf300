"""Size reduction of exported files: in small networks, names and remarks outweigh the weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import onnx
from onnx import defs, helper

from gossamer.runtime.subgraphs import graphs_of

_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def compact(model: onnx.ModelProto) -> None:
    """Remove redundant parts: the exporter's remarks, inferable shapes, default attributes.

    Names added by :func:`gossamer.quantize` are shortened; codes of a weight take its name.
    """
    graphs = list(graphs_of(model.graph))
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for graph in graphs:
        # Torch leaves stack traces with the paths of this machine in every node.
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            del part.metadata_props[:]
        del graph.value_info[:]
        for node in graph.node:
            _drop_defaults(node, versions)
    _shorten(graphs)


def _drop_defaults(node: onnx.NodeProto, versions: dict[str, int]) -> None:
    if not defs.has(node.op_type, node.domain):
        return
    known = defs.get_schema(node.op_type, versions[node.domain], node.domain).attributes
    for attribute in list(node.attribute):
        default = known[attribute.name].default_value
        if default.name and helper.get_attribute_value(attribute) == (
            helper.get_attribute_value(default)
        ):
            node.attribute.remove(attribute)


def _shorten(graphs: list[onnx.GraphProto]) -> None:
    constants = {tensor.name for graph in graphs for tensor in graph.initializer}
    ends = {value.name for graph in graphs for value in (*graph.input, *graph.output)}
    nodes = [node for graph in graphs for node in graph.node]
    taken = constants | ends | {name for node in nodes for name in node.output}
    short = _free(taken)
    names: dict[str, str] = {}
    for node in nodes:
        if node.op_type not in _ROUNDING:
            continue
        node.name = ""
        codes, *steps = node.input
        weight = codes.removesuffix("_int8")
        if codes in constants and weight not in taken:
            names[codes] = weight
            taken.add(weight)
        for name in (*steps, *node.output):
            if name not in ends and name not in names:
                names[name] = next(short)
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in (tensor for graph in graphs for tensor in graph.initializer):
        tensor.name = names.get(tensor.name, tensor.name)


def _free(taken: set[str]) -> Iterator[str]:
    return (name for name in (f"q{number}" for number in count()) if name not in taken)
