"""Conversion of an ONNX file, or of its bytes, to a ``Graph``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError, nearest
from gossamer.runtime.graph import Graph, Shape
from gossamer.runtime.importer.convert import graph_of
from gossamer.runtime.importer.functions import inlined
from gossamer.runtime.importer.mmap import Source, lifted
from gossamer.runtime.operators.context import in_words
from gossamer.runtime.operators.folding import DTYPES
from gossamer.runtime.operators.unsupported import Unsupported

OLDEST_OPSET = 7  # from here on operators broadcast as numpy does


def read(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, Shape] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Graph:
    """Read an ONNX model and return its graph.

    Args:
        source: path or bytes of the model.
        shapes: sizes of inputs with dynamic dimensions, by input; -1 as the first size leaves the
            batch dynamic.
        values: numbers of inputs that are the same in every call, by input. They become
            constants, so that conditions of branches may depend on them.

    Raises:
        UserError: the file cannot be read or is damaged, or the engine lacks an operator; the
            message names the operator and its node.
    """
    outside = Source()
    if isinstance(source, bytes):
        name, data = "the model", memoryview(source)
    else:
        path = Path(source)
        name, outside.path = str(path), path
        data = outside.file(path).data
    import onnx

    model = onnx.ModelProto()
    try:
        message, large = lifted(data)
        model.ParseFromString(message)
    except Exception:  # protobuf's DecodeError, whichever implementation is installed
        raise UserError(f"{name}: not an ONNX model, or damaged; export it again") from None
    for tensor, raw in zip(model.graph.initializer, large, strict=True):
        if raw is not None:
            # Bytes that were given to us are not kept for the sake of some of them.
            outside.lifted[tensor.name] = raw if outside.path else memoryview(bytes(raw))
    if not model.graph.node and not model.graph.output:
        raise UserError(f"{name}: holds no network; export it again")
    if not model.graph.output:
        raise UserError(f"{name}: its network has no output; export it again")
    opset = _checked_opset(name, model)
    _fix_shapes(name, model.graph, shapes or {})
    fix_values(name, model.graph, values or {})
    try:
        with np.errstate(all="ignore"):  # constants may be anything
            graph = graph_of(name, inlined(model), outside, opset)
    except Unsupported as error:
        raise UserError(f"{name}: {_printable(in_words(str(error)))}") from None
    except MemoryError:
        raise UserError(f"{name}: takes more memory than there is") from None
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    return graph


def _inputs(name: str, graph: Any, wanted: Iterable[str], what: str) -> dict[str, Any]:
    """Return the inputs of an ONNX graph by name; raise if an input that was named is missing."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    for value in wanted:
        if value not in inputs:
            known = nearest(value, [*inputs])
            raise UserError(f"{name}: a {what} for input {value!r}, which does not exist: {known}")
    return inputs


def fix_values(name: str, graph: Any, values: Mapping[str, Any]) -> None:
    """Make inputs of an ONNX graph constants.

    Args:
        name: of the file, for errors.
        graph: an ``onnx.GraphProto``, which is changed.
        values: numbers by input, of its shape or as many in a row.

    Raises:
        UserError: there is no such input, or the numbers do not fit its type or shape.
    """
    from onnx import numpy_helper

    inputs = _inputs(name, graph, values, "value")
    for value, numbers in values.items():
        kind = inputs[value].type.tensor_type
        dims = [dim.dim_value if dim.dim_value > 0 else -1 for dim in kind.shape.dim]
        dtype = DTYPES.get(kind.elem_type)
        array = None if dtype is None else _converted(numbers, dtype, dims)
        if array is None:
            sizes = ", ".join(str(size) if size > 0 else "?" for size in dims)
            known = "not of numbers" if dtype is None else f"{np.dtype(dtype)} [{sizes}]"
            raise UserError(
                f"{name}: the value {numbers} does not fit input {value!r}, which is {known}"
            )
        graph.initializer.append(numpy_helper.from_array(array, value))
        graph.input.remove(inputs[value])


def _converted(numbers: Any, dtype: type, dims: list[int]) -> NDArray[Any] | None:
    """Return the numbers as an array; None if its type cannot represent them (but for rounding)."""
    try:
        source = np.asarray(numbers)
        if source.dtype.kind not in "fiub":
            return None
        with np.errstate(all="ignore"):
            array: NDArray[Any] = source.astype(dtype).reshape(dims)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.dtype.kind == "f":
        fits = np.isfinite(array.ravel()) == np.isfinite(source.ravel())
    else:
        fits = array.ravel() == source.ravel()
    return array if np.all(fits) else None


def _fix_shapes(name: str, graph: Any, shapes: Mapping[str, Shape]) -> None:
    """Set dynamic dimensions of an ONNX graph's inputs."""
    inputs = _inputs(name, graph, shapes, "shape")
    for value, shape in shapes.items():
        dims = inputs[value].type.tensor_type.shape.dim
        fits = len(dims) == len(shape) and all(
            size == dim.dim_value if dim.dim_value > 0 else size > 0 or (size == -1 and i == 0)
            for i, (dim, size) in enumerate(zip(dims, shape, strict=True))
        )
        if not fits:
            own = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]
            raise UserError(
                f"{name}: the shape {list(shape)} does not fit input {value!r}, which is "
                f"[{', '.join(map(str, own))}]"
            )
        for dim, size in zip(dims, shape, strict=True):
            if size > 0:
                dim.dim_value = size


def _checked_opset(name: str, model: Any) -> int:
    import onnx

    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise UserError(f"{name}: does not say which opset it uses; export it again")
    if opset < OLDEST_OPSET:
        raise UserError(
            f"{name}: opset {opset} is too old; export with opset {OLDEST_OPSET} or later"
        )
    if opset > newest:
        raise UserError(
            f"{name}: opset {opset} is newer than {newest}, the newest that the installed onnx "
            "knows; update onnx, or export with an older opset"
        )
    return int(opset)


def _printable(text: str) -> str:
    """Return a text of the file as one line of printable characters."""
    return "".join(c if c.isprintable() else "?" for c in text)
