"""First pass: the parts of an ONNX graph as plain records, each checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array
from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.importer.tensors import attributes_of, sparse_tensor, tensor_of
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.constants import SPARSE
from gossamer.runtime.operators.context import BATCH, LARGEST, Value, check_rank
from gossamer.runtime.operators.folding import DTYPES
from gossamer.runtime.operators.unsupported import Unsupported
from gossamer.runtime.sparse_file import FARTHEST

# Operators of which often only a further output is named, the last state.
RECURRENT = ("GRU", "LSTM", "RNN")

GRAPH = 5  # the type of an attribute that is a graph
CONTROL = ("If", "Loop")  # operators that have graphs


@dataclass(frozen=True)
class Parsed:
    """A parsed graph; ``dtypes`` are the types of inputs and outputs that are not floats."""

    constants: dict[str, Array]
    inputs: dict[str, Value]
    dtypes: dict[str, np.dtype[Any]]
    calls: list[Call]
    outputs: list[str]

    @property
    def size(self) -> int:
        """Numbers that may be folded for this graph, by its size (``Context.free``)."""
        sizes = {name: array.size for name, array in self.constants.items()}
        sparse = {call.inputs[0] for call in self.calls if call.operator == SPARSE and call.inputs}
        packed = sum(sizes.get(value, 0) for value in sparse)
        return 4 * sum(sizes.values()) + (FARTHEST + 1) * packed

    def renamed(self, names: Mapping[str, str], prefix: str = "") -> Parsed:
        """Return the graph with its values renamed by ``names``, all others with a prefix."""
        own = [*self.constants, *self.inputs, *(v for call in self.calls for v in call.outputs)]
        names = {**names, **{v: prefix + v for v in own if v and prefix and v not in names}}

        def of(values: list[str]) -> list[str]:
            return [names.get(value, value) for value in values]

        calls = [
            replace(
                call,
                inputs=of(call.inputs),
                outputs=of(call.outputs),
                names={**call.names, **names} if call.graphs else call.names,
            )
            for call in self.calls
        ]
        constants = {names.get(name, name): array for name, array in self.constants.items()}
        return replace(self, constants=constants, calls=calls, outputs=of(self.outputs))


def parse(graph: Any, source: Source) -> Parsed:
    constants = _constants(graph, source)
    inputs, dtypes = {}, {}
    for value in graph.input:
        if value.name in constants:
            continue
        inputs[value.name], dtype = _input(value)
        if dtype.kind != "f":
            dtypes[value.name] = dtype
    for value in graph.output:
        dtype = np.dtype(DTYPES.get(value.type.tensor_type.elem_type, np.float32))
        if dtype.kind != "f":
            dtypes[value.name] = dtype
    outputs = [value.name for value in graph.output]
    return Parsed(constants, inputs, dtypes, _calls(graph, source), outputs)


def parse_inner(graph: Any, source: Source) -> Parsed:
    """Parse a graph within another (a branch or a loop's body)."""
    inputs = {value.name: Value(()) for value in graph.input}
    outputs = [value.name for value in graph.output]
    return Parsed(_constants(graph, source), inputs, {}, _calls(graph, source), outputs)


def _constants(graph: Any, source: Source) -> dict[str, Array]:
    constants = {tensor.name: tensor_of(tensor, source) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = sparse_tensor(sparse, source)
    return constants


def _input(value: Any) -> tuple[Value, np.dtype[Any]]:
    kind = value.type.tensor_type
    dtype = np.dtype(DTYPES.get(kind.elem_type, object))
    if dtype not in (np.float32, np.float16) and dtype.kind not in "iub":
        raise Unsupported(f"input {value.name!r} is not float32; export it so")
    check_rank(len(kind.shape.dim))
    dims = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if not dims:
        return Value((), dtype.kind.replace("u", "i")), dtype
    if dims[0] < 0 or any(d < 1 for d in dims[1:]) or any(d > LARGEST for d in dims):
        raise Unsupported(
            f"input {value.name!r}: all dimensions but the first must be fixed; name its "
            "sizes (shapes, or --shape), or export with only the batch dynamic"
        )
    if math.prod(dims[1:]) > LARGEST:
        raise Unsupported(f"input {value.name!r} is too large")
    return Value((dims[0] or BATCH, *dims[1:]), dtype.kind.replace("u", "i")), dtype


def _calls(graph: Any, source: Source) -> list[Call]:
    return [_call(node, position, source) for position, node in enumerate(graph.node)]


def _call(node: Any, position: int, source: Source) -> Call:
    standard = node.domain in ("", "ai.onnx")
    operator = node.op_type if standard else f"{node.domain}.{node.op_type}"
    name = node.name or f"{node.op_type} {position}"
    graphs = {a.name: a.g for a in node.attribute if a.type == GRAPH and operator in CONTROL}
    call = Call(operator, name, list(node.input), list(node.output), {}, graphs)
    if operator in RECURRENT and any(node.output):
        call.outputs[0] = node.output[0] or f"first output beside {max(node.output)}"
    if not any(call.outputs) or (operator != "Loop" and not call.outputs[0]):
        raise Unsupported(f"{call.where}: has no output")
    try:
        call.attributes.update({} if operator in CONTROL else attributes_of(node, source))
    except Unsupported as error:
        raise Unsupported(f"{call.where}: {error}") from None
    except (ValueError, OverflowError, MemoryError):
        raise Unsupported(f"{call.where}: its attributes are invalid; export it again") from None
    return call
