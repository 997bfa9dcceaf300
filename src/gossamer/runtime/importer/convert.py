"""From the nodes of a file to those of the engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gossamer.errors import nearest
from gossamer.runtime.graph import AnyNode, Graph, Shape
from gossamer.runtime.importer import batch_index
from gossamer.runtime.importer.batch_axis import convert
from gossamer.runtime.importer.fold import fold, foldable
from gossamer.runtime.importer.fusion import fuse
from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.importer.rewrite import Call, rewritten
from gossamer.runtime.importer.tensors import attributes_of, constant_node, sparse_tensor, tensor_of
from gossamer.runtime.operators import OPERATORS
from gossamer.runtime.operators.context import (
    BATCH,
    LARGEST,
    Context,
    Unsupported,
    Value,
    check_rank,
    shown,
)
from gossamer.runtime.operators.folding import DTYPES
from gossamer.runtime.operators.int8 import as_numbers
from gossamer.runtime.sparse_file import FARTHEST, NAME

GRAPH = 5  # the type of an attribute that is a branch of an If
DEEPEST_BRANCH = 16


def graph_of(name: str, model: Any, source: Source, opset: int) -> Graph:
    """The engine's graph of a model whose functions are inlined: one pass after the other.

    Constants and inputs are parsed; every node is folded if it depends on constants alone, else
    converted (which fuses it into the node before where that can be) with the place of the batch
    in each value; what no output depends on is dropped.
    """
    context, graph = Context(name), model.graph
    _constants(context, graph, source)
    inputs, dynamic, dtypes = _inputs(context, graph)
    outputs = [value.name for value in graph.output]
    context.uses.update(_reads(graph))
    context.uses.update(outputs)  # an output's node keeps its own value
    for position, node in enumerate(graph.node):
        _convert(context, node, node.name or f"{node.op_type} {position}", source, opset)
    for value in outputs:
        _check_output(context, value)
    shapes = _shapes(context, dynamic)
    nodes = _living(fuse(context.nodes, shapes), outputs)
    return Graph(inputs, outputs, nodes, shapes, dynamic, dtypes, files=list(source.files.values()))


def _constants(context: Context, graph: Any, source: Source) -> None:
    for tensor in graph.initializer:
        context.add_constant(tensor.name, tensor_of(tensor, source))
    for sparse in graph.sparse_initializer:
        context.add_constant(sparse.values.name, sparse_tensor(sparse, source))
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    context.free += 4 * sum(context.array(tensor.name).size for tensor in tensors)
    sparse_values = {n.input[0] for n in graph.node if n.op_type == NAME and n.input}
    context.free += (FARTHEST + 1) * sum(
        context.array(value).size for value in sparse_values if context.is_constant(value)
    )


def _check_output(context: Context, value: str) -> None:
    if context.is_constant(value):
        raise Unsupported(f"output {value!r} is the same for all inputs; leave it out")
    if value not in context.values:
        raise Unsupported(_missing(context, value) or f"nothing computes its output {value!r}")
    known = context.values[value]
    if known.codes is not None:
        raise Unsupported(f"output {value!r} is in 8 bits; dequantize it")
    if known.batch_axis is not None:
        raise Unsupported(f"output {value!r}: the batch must stay first")
    if known.kind != "f":
        raise Unsupported(f"output {value!r} holds no floats; leave it out of the export")


def _shapes(context: Context, dynamic: bool) -> dict[str, Shape]:
    """The shapes of the engine's values, for one example where the batch is free."""
    shapes: dict[str, Shape] = {}
    for value, known in context.values.items():
        if any(v is not None for v in (known.constant, known.batch_axis, known.batch_index)):
            continue
        shape = known.shape
        if dynamic:
            if not shape or shape[0] % BATCH:
                raise Unsupported(f"value {value!r} of shape {shown(shape)} lost the batch")
            shape = (shape[0] // BATCH, *shape[1:])
        if not shape or any(size >= BATCH and size % BATCH == 0 for size in shape[1:]):
            raise Unsupported(f"the batch is not the first dimension of value {value!r}")
        shapes[value] = shape
    return shapes


def _inputs(context: Context, graph: Any) -> tuple[list[str], bool, dict[str, np.dtype[Any]]]:
    """Names, whether the batch is free, and the types of those that are not float32."""
    inputs: list[str] = []
    dtypes: dict[str, np.dtype[Any]] = {}
    dynamic = False
    for value in graph.input:
        if context.is_constant(value.name):
            continue
        kind = value.type.tensor_type
        dtype = np.dtype(DTYPES.get(kind.elem_type, object))
        if dtype != np.float32 and dtype.kind not in "iub":
            raise Unsupported(f"input {value.name!r} is not float32; export it so")
        check_rank(len(kind.shape.dim))
        dims = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if (
            not dims
            or any(d < 1 for d in dims[1:])
            or dims[0] < 0
            or any(d > LARGEST for d in dims)
        ):
            raise Unsupported(
                f"input {value.name!r}: all dimensions but the first must be fixed; name its "
                "sizes (shapes, or --shape), or export with only the batch dynamic"
            )
        if dims[0] == 0:
            dims[0], dynamic = BATCH, True
        if math.prod(dims[1:]) > LARGEST:
            raise Unsupported(f"input {value.name!r} is too large")
        context.values[value.name] = Value(tuple(dims), dtype.kind.replace("u", "i"))
        if dtype != np.float32:
            dtypes[value.name] = dtype
        inputs.append(value.name)
    if not 1 <= len(inputs) <= 16:
        raise Unsupported(f"it has {len(inputs)} inputs; 1 to 16 can be run")
    if dynamic and any(context.shape(i)[0] != BATCH for i in inputs):
        raise Unsupported("some inputs have a dynamic batch, some a fixed one")
    context.batch = context.shape(inputs[0])[0]
    return inputs, dynamic, dtypes


def _convert(context: Context, node: Any, name: str, source: Source, opset: int) -> None:
    """One ONNX node, as the operators of today."""
    operator = (
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    )
    where = f"node {name!r} ({operator})"
    if not node.output or not node.output[0]:
        raise Unsupported(f"{where}: has no output")
    for value in node.input:
        if value and value not in context.values:
            missing = (
                _missing(context, value) or f"reads {value!r}, which nothing before it computes"
            )
            raise Unsupported(f"{where}: {missing}")
    if node.output[0] in context.values:
        raise Unsupported(f"{where}: computes {node.output[0]!r} a second time")
    if operator == "If":
        _branch(context, node, where, source, opset)
        return
    inputs = list(node.input)
    try:
        call = Call(operator, name, inputs, list(node.output), attributes_of(node, source))
        for each in rewritten(context, opset, call):
            _call(context, each)
    except Unsupported as error:
        raise Unsupported(f"{where}: {error}".rstrip("; ")) from None
    except (
        ArithmeticError,
        IndexError,
        KeyError,
        MemoryError,
        OverflowError,
        TypeError,
        ValueError,
    ):
        there = [i for i in inputs if i in context.values]
        shapes = " and ".join(shown(context.shape(i)) for i in there) or "none"
        raise Unsupported(
            f"{where}: its attributes or inputs ({shapes}) are invalid; export it again"
        ) from None
    for further in node.output[1:]:
        if further and further not in context.values:
            context.uncomputed[further] = where


def _branch(context: Context, node: Any, where: str, source: Source, opset: int) -> None:
    """The branch of an ``If`` that its constant condition takes, in place of the node."""
    condition = node.input[0] if node.input else ""
    if not context.is_constant(condition) or context.array(condition).size != 1:
        raise Unsupported(f"{where}: its condition is computed; only constant ones can run")
    name = "then_branch" if context.array(condition).item() else "else_branch"
    branch = next((a.g for a in node.attribute if a.name == name and a.type == GRAPH), None)
    if branch is None or len(branch.output) != len(node.output):
        raise Unsupported(f"{where}: its {name} is missing or has other outputs")
    _constants(context, branch, source)
    for position, inner in enumerate(branch.node):
        _convert(context, inner, inner.name or f"{inner.op_type} {position}", source, opset)
    for inside, outside in zip(branch.output, node.output, strict=True):
        if inside.name not in context.values:
            raise Unsupported(f"{where}: nothing computes {inside.name!r} of its {name}")
        _call(context, Call("Identity", node.name, [inside.name], [outside], {}))


def _call(context: Context, call: Call) -> None:
    """Folded if its inputs are constants, else made of the engine's operations."""
    operator, name, inputs, attributes = call.operator, call.name, call.inputs, call.attributes
    output = call.outputs[0]
    context.outputs = call.outputs
    known = OPERATORS.get(operator)
    if operator != "DequantizeLinear":
        inputs = [
            as_numbers(context, name, value)
            if value and context.values[value].codes is not None
            else value
            for value in inputs
        ]
    if operator == "Constant":
        context.add_constant(output, constant_node(attributes))
    elif operator == "Shape":
        shape = context.shape(inputs[0])
        part = slice(attributes.get("start"), attributes.get("end"))
        context.add_constant(output, np.array(shape[part], np.int64))
    elif batch_index.counts(context, operator, inputs):
        batch_index.convert(context, operator, name, inputs, output, attributes)
    elif foldable(context, operator, inputs):
        fold(context, operator, output, inputs, attributes)
    elif known is not None and known.convert is not None:
        convert(context, operator, known, name, inputs, output, attributes)
    elif known is not None:
        raise Unsupported(
            "the engine runs it on constants only, and an input is not constant; "
            "replace it or run that part elsewhere"
        )
    else:
        convertible = [op for op, each in OPERATORS.items() if each.convert is not None]
        raise Unsupported(
            "the engine has no such operator; replace it or run that part elsewhere; "
            + nearest(operator, convertible).partition("Known:")[0].rstrip("? ").strip(" ;")
        )


def _reads(graph: Any, depth: int = 0) -> Iterator[str]:
    """The values that nodes read, those of branches within as well."""
    for node in graph.node:
        yield from filter(None, node.input)
        for attribute in node.attribute:
            if attribute.type == GRAPH and depth < DEEPEST_BRANCH:
                yield from _reads(attribute.g, depth + 1)
                yield from (value.name for value in attribute.g.output)


def _missing(context: Context, value: str) -> str | None:
    """Why nothing computes a value that a node before does have as an output."""
    where = context.uncomputed.get(value)
    return where and (
        f"{value!r} is a further output of {where}, and the engine computes the first only; "
        "export without"
    )


def _living(nodes: list[AnyNode], outputs: list[str]) -> list[AnyNode]:
    """The nodes that an output depends on."""
    wanted = set(outputs)
    living = []
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            living.append(node)
    return living[::-1]
