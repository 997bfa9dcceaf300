"""Reading and atomic writing of files.

Everything that gossamer writes goes through :func:`writing`.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from gossamer.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: leftovers of killed processes stay
    fcntl = None  # type: ignore[assignment]

Name = str | os.PathLike[str]

# A temporary file whose process is gone is deleted by a later save, after so many seconds.
_ABANDONED = 60.0

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Name) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` atomically when the block ends without an error.

    Readers see the old or the new file, never a part; after an error or an interruption no
    temporary file remains. Links are followed. A pipe or a device receives the bytes at the end of
    the block. A new file has the mode of the umask; a replaced file's mode does not change.

    Raises:
        UserError: the file cannot be written; what was there before is unchanged.
    """
    if not Path(path).name:
        raise UserError(f"cannot write {str(path)!r}: this is not the name of a file; name one")
    try:
        if is_stream(path):
            buffer = io.BytesIO()
            yield buffer
            with _open_stream(path) as stream:
                stream.write(buffer.getbuffer())
        else:
            with _replacing(path) as file:
                yield file
    except OSError as error:
        if error.errno in _FULL:
            remedy = "make room, or choose another place"
        else:
            remedy = "choose a place that can be written to"
        raise UserError(f"cannot write {path}: {error.strerror or error}; {remedy}") from None


def read_bytes(path: Name) -> bytes:
    """Read a file as bytes.

    Raises:
        UserError: it does not exist, or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the name") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(path: Name) -> str:
    """Read a text file in UTF-8, without the byte order mark that some editors write.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    content = read_bytes(path)
    try:
        return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def write_text(path: Name, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, see :func:`writing`."""
    with writing(path) as file:
        file.write(text.encode("utf-8", "replace"))  # names of files may hold lone surrogates


def copy_file(source: Name, path: Name) -> None:
    """Copy a file's bytes to ``path``, see :func:`writing`."""
    with open(source, "rb") as read, writing(path) as file:
        shutil.copyfileobj(read, file)


def check_folder(path: Name) -> Path:
    """Refuse a folder that cannot be created or written to; call this before long work.

    Nothing is created.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    folder = Path(path)
    try:
        above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        fault = None if above.is_dir() else f"{above} is no folder"
        fault = fault if os.access(above, os.W_OK) else fault or f"{above} is read-only"
    except OSError as error:
        fault = error.strerror
    if fault:
        raise UserError(f"cannot write the folder {folder}: {fault}; name another")
    return folder


def check_file(path: Name) -> Path:
    """Refuse a file that cannot be written or replaced; call this before long work.

    Its folder must exist. Nothing is created.

    Raises:
        UserError: it is a folder, or may not be written to.
    """
    try:
        _check_target(Path(path))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; move it away, or choose another place"
        ) from None
    return Path(path)


def subfolders_with(folder: Name, name: str) -> str:
    """Return the first subfolders that have a file ``name``, as "A, B"; empty if there are none.

    For errors on a folder that lacks the file, because it holds the folders that were meant.
    """
    found = sorted(str(file.parent) for file in Path(folder).glob(f"*/{name}"))
    return ", ".join(found[:3])


def make_folder(path: Name) -> Path:
    """Create a folder if it does not exist, and check that it can be written to.

    Raises:
        UserError: it cannot be created or written to.
    """
    folder = check_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the folder {folder}: {error.strerror}; name another"
        ) from None
    return folder


def is_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def named_storage(source: Name) -> str | None:
    """Return the address of a storage: ``source`` itself, or that of the SQLite file it names.

    None if it is neither, such as an experiment's TOML file. This imports no database.
    """
    text = os.fspath(source)
    if "://" in text:
        return text
    path = Path(text)
    return f"sqlite:///{quote(text)}" if path.is_file() and is_sqlite(path) else None


def is_stream(path: Name) -> bool:
    """Return whether ``path`` is a pipe, a device or this process's output, not to be replaced."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    kind = stat.S_IFMT(status.st_mode)
    return kind not in (stat.S_IFREG, stat.S_IFDIR) or _own_output(status) is not None


def refuse_overwrite(output: Name, inputs: Iterable[Name | None]) -> None:
    """Refuse an output that is the same file as one of the inputs, also through links.

    Raises:
        UserError: the output is one of the inputs.
    """
    for path in inputs:
        if path is not None and not is_stream(output) and _same(output, path):
            raise UserError(f"{output} is read as {path}; name another file to write")


def _same(one: Name, other: Name) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them does not exist
        return False


def _own_output(status: os.stat_result) -> int | None:
    """Return the descriptor of standard output or error if that is the file ``status``, or None."""
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            if stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None


def _open_stream(path: Name) -> BinaryIO:
    own = _own_output(os.stat(path))
    if own is not None:  # opened by its name it would be written from its beginning again
        return os.fdopen(os.dup(own), "wb")
    return os.fdopen(os.open(path, os.O_WRONLY), "wb")


@contextmanager
def _replacing(path: Name) -> Iterator[BinaryIO]:
    """Open a temporary file next to the target of ``path``, and rename it to that at the end."""
    if Path(path).is_symlink():
        path = os.path.realpath(path)
        if os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    target = Path(path)
    _check_target(target)
    prefix = f".{target.name[:100]}."
    _delete_abandoned(target.parent, prefix)
    temporary, descriptor = _new_file(target.parent, prefix)
    try:
        # Read and write: numpy writes to a file that is only written past Python, and then a
        # full disk has no name.
        with os.fdopen(descriptor, "w+b") as file:
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a crash of the machine may leave an empty file
        temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _new_file(folder: Path, prefix: str) -> tuple[Path, int]:
    """Create a file with a new random name, locked while it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{prefix}{secrets.token_hex(8)}.tmp"
        with suppress(FileExistsError):
            descriptor = os.open(path, flags, 0o666)
            if not fcntl:
                return path, descriptor
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return path, descriptor


def _delete_abandoned(folder: Path, prefix: str) -> None:
    """Delete temporary files of killed processes, which nobody has locked."""
    if not fcntl:
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            if not (name.startswith(prefix) and name.endswith(".tmp")):
                continue
            path = folder / name
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime < _ABANDONED:
                    continue
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)
