"""Reads an ONNX file, or its bytes, into a ``Graph``."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from gossamer.errors import UserError
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer.functions import inlined
from gossamer.runtime.importer.network import graph_of
from gossamer.runtime.importer.reader import Unsupported

OLDEST_OPSET = 13


def read(source: str | os.PathLike[str] | bytes) -> Graph:
    """The graph of an ONNX model, given its path or its bytes.

    Raises:
        UserError: the file cannot be read, is damaged, or holds an operator (named, with
            its node) that the engine lacks.
    """
    folder = None
    data: memoryview | bytes
    if isinstance(source, bytes):
        name, data = "the model", source
    else:
        path = Path(source)
        name, folder = str(path), path.parent
        data = _mapped(path)
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError, whichever implementation is installed
        raise UserError(f"{name}: not an ONNX model, or damaged; export it again") from None
    if not model.graph.node and not model.graph.output:
        raise UserError(f"{name}: holds no network; export it again")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < OLDEST_OPSET:
        raise UserError(f"{name}: opset {opset} is too old; export with opset 17 or later")
    try:
        graph = graph_of(name, inlined(model), folder)
    except Unsupported as error:
        raise UserError(f"{name}: {_printable(str(error))}") from None
    except MemoryError:
        raise UserError(f"{name}: takes more memory than there is") from None
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    return graph


def _printable(text: str) -> str:
    """Texts in a file may hold any character; a message is one line of plain ones."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _mapped(path: Path) -> memoryview | bytes:
    """A file's bytes, mapped rather than read."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be read (not a file)")
        with path.open("rb") as file:
            if not path.stat().st_size:
                return b""
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None
