"""First pass: the parts of an ONNX graph as plain records, each checked before it is used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array
from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.importer.tensors import attributes_of, sparse_tensor, tensor_of
from gossamer.runtime.operators.context import (
    BATCH,
    LARGEST,
    Attributes,
    Unsupported,
    Value,
    check_rank,
)
from gossamer.runtime.operators.folding import DTYPES

# Operators of which often only a further output is named, the last state.
RECURRENT = ("GRU", "LSTM", "RNN")

GRAPH = 5  # the type of an attribute that is a branch of an If


@dataclass(frozen=True)
class Call:
    """One node of a file: an operator applied to values.

    ``branches`` are graphs of the file, which are parsed where they are taken.
    """

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: Attributes
    branches: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"node {self.name!r} ({self.operator})"


@dataclass(frozen=True)
class Parsed:
    """A graph of a file. ``dtypes`` has the types of the inputs that are not floats."""

    constants: dict[str, Array]
    inputs: dict[str, Value]
    dtypes: dict[str, np.dtype[Any]]
    calls: list[Call]
    outputs: list[str]


def parse(graph: Any, source: Source) -> Parsed:
    constants = {tensor.name: tensor_of(tensor, source) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = sparse_tensor(sparse, source)
    inputs, dtypes = {}, {}
    for value in graph.input:
        if value.name in constants:
            continue
        inputs[value.name], dtype = _input(value)
        if dtype.kind != "f":
            dtypes[value.name] = dtype
    calls = [_call(node, position, source) for position, node in enumerate(graph.node)]
    return Parsed(constants, inputs, dtypes, calls, [value.name for value in graph.output])


def _input(value: Any) -> tuple[Value, np.dtype[Any]]:
    kind = value.type.tensor_type
    dtype = np.dtype(DTYPES.get(kind.elem_type, object))
    if dtype not in (np.float32, np.float16) and dtype.kind not in "iub":
        raise Unsupported(f"input {value.name!r} is not float32; export it so")
    check_rank(len(kind.shape.dim))
    dims = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if not dims:
        raise Unsupported(
            f"input {value.name!r} is one number for all examples: make it a constant of the "
            "file, or give it a batch dimension"
        )
    if dims[0] < 0 or any(d < 1 for d in dims[1:]) or any(d > LARGEST for d in dims):
        raise Unsupported(
            f"input {value.name!r}: all dimensions but the first must be fixed; name its "
            "sizes (shapes, or --shape), or export with only the batch dynamic"
        )
    if math.prod(dims[1:]) > LARGEST:
        raise Unsupported(f"input {value.name!r} is too large")
    return Value((dims[0] or BATCH, *dims[1:]), dtype.kind.replace("u", "i")), dtype


def _call(node: Any, position: int, source: Source) -> Call:
    standard = node.domain in ("", "ai.onnx")
    operator = node.op_type if standard else f"{node.domain}.{node.op_type}"
    name = node.name or f"{node.op_type} {position}"
    branches = {a.name: a.g for a in node.attribute if a.type == GRAPH and operator == "If"}
    call = Call(operator, name, list(node.input), list(node.output), {}, branches)
    if operator in RECURRENT and any(node.output):
        call.outputs[0] = node.output[0] or f"first output beside {max(node.output)}"
    if not call.outputs or not call.outputs[0]:
        raise Unsupported(f"{call.where}: has no output")
    try:
        call.attributes.update({} if operator == "If" else attributes_of(node, source))
    except Unsupported as error:
        raise Unsupported(f"{call.where}: {error}") from None
    except (ValueError, OverflowError, MemoryError):
        raise Unsupported(f"{call.where}: its attributes are invalid; export it again") from None
    return call
