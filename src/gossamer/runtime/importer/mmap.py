"""Memory-mapped models: large constants are not read but used where they are in the file.

protobuf copies every field that it parses. So the bytes of large initializers are cut out of the
message before it is parsed, by their position in it, and are used as views of the mapped file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.errors import UserError

LARGE = 4096  # bytes of a constant that is left in place: a page
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto and TensorProto
VARINT, BYTES, FIXED = 0, 2, {1: 8, 5: 4}  # how a field is written, and its bytes


@dataclass
class Source:
    """The constants of a model that are not in its parsed message."""

    path: Path | None = None  # of the model; external data lies next to it
    lifted: dict[str, memoryview] = field(default_factory=dict)  # initializer -> its bytes
    files: dict[Path, Mapped] = field(default_factory=dict)

    def folders(self) -> list[Path]:
        """Folders that may contain external data: the model's, and that of its link's target.

        Caches (Hugging Face's) store a model and its data as links into one folder of blobs.
        """
        if self.path is None:
            return []
        return [self.path.parent.resolve(), self.path.resolve().parent]

    def file(self, path: Path) -> Mapped:
        """Return a mapped file, opened at the first call.

        Raises:
            UserError: it cannot be opened.
        """
        if path not in self.files:
            self.files[path] = Mapped(path)
        return self.files[path]


class Mapped:
    """A file's bytes; the mapping exists as long as an array refers to it.

    Meanwhile the file may be removed, or replaced by renaming, which do not change the mapped
    bytes; it must not be written to.

    Raises:
        UserError: it cannot be opened, or is not a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.is_dir():
                inside = path / "model.onnx"
                remedy = f"; give {inside}" if inside.is_file() else ""
                raise ValueError(f"a folder, not a file{remedy}")
            if path.exists() and not path.is_file():
                raise ValueError("not a file")
            with path.open("rb", buffering=0) as file:
                self._opened = os.fstat(file.fileno())
                size = self._opened.st_size
                content = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: cannot be read ({reason})") from None
        self.data = memoryview(content)

    def release(self) -> None:
        """Drop the pages from this process's memory; they are read again when they are used."""
        if isinstance(self.data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.data.obj.madvise(mmap.MADV_DONTNEED)

    def check(self) -> None:
        """Check that the file is unchanged; call this before its bytes are read again later.

        Raises:
            UserError: the file was written to (reading a truncated one crashes the process).
        """
        opened = self._opened
        try:  # by name: an open descriptor for each engine would soon reach the limit
            now = os.stat(self.path)
        except OSError:
            return
        same = (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)
        if same and (now.st_size, now.st_mtime_ns) != (opened.st_size, opened.st_mtime_ns):
            raise UserError(
                f"{self.path}: was changed while in use; open it again, "
                "and replace such files by renaming"
            )


def lifted(message: memoryview) -> tuple[bytes, list[memoryview | None]]:
    """Return a ModelProto without the bytes of its large initializers, and these bytes.

    The list has an entry for each initializer, in order; None if its bytes are still in the
    message.

    Raises:
        ValueError: the message is damaged.
    """
    contents: list[memoryview | None] = []

    def without(message: memoryview, path: tuple[int, ...]) -> bytes:
        """Return the message without the field at the end of the path."""
        parts: list[bytes | memoryview] = []
        for number, start, content, end in _fields(message):
            if number != path[0]:
                parts.append(message[start:end])
            elif len(path) > 1:
                if len(path) == 2:
                    contents.append(None)
                inner = without(message[content:end], path[1:])
                parts += [_varint(number << 3 | BYTES), _varint(len(inner)), inner]
            elif end - content < LARGE:
                parts.append(message[start:end])
            else:
                contents[-1] = message[content:end]
        return b"".join(parts)

    return without(message, (GRAPH, INITIALIZER, RAW_DATA)), contents


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, start, start of the content, end) of each field of a message.

    The number is 0 for a field that is not of bytes.
    """
    at, size = 0, len(message)
    while at < size:
        start = at
        tag, content = _number(message, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _number(message, content)
        elif kind == BYTES:
            length, content = _number(message, content)
            at = content + length
        elif kind in FIXED:
            at = content + FIXED[kind]
        else:
            raise ValueError("no field")
        if at > size:
            raise ValueError("a field reaches past the end")
        yield tag >> 3 if kind == BYTES else 0, start, content, at


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """Return a varint (groups of seven bits, lowest first) and the position after it."""
    value = 0
    for i, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number without an end")


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
