"""Folders and files that one process at a time writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gossamer.errors import UserError
from gossamer.files import check_file, make_folder


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Context in which no other process writes to ``path``, a file or a folder that exists.

    The operating system frees the lock of a process that is killed.

    Raises:
        UserError: another process is writing to it, or nothing can be written there.
    """
    place = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    lock = FileLock(place, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another training is writing to {path}: wait until it ends, or choose another place"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another place"
        ) from None
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()


@contextmanager
def folder_for(path: Path, *files: str) -> Iterator[Path]:
    """``path`` as a folder that only this process writes to; see `make_folder`, `exclusive`.

    After an error, what is new and empty is removed.

    Raises:
        UserError: the folder, or one of ``files`` in it, cannot be written.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        with exclusive(make_folder(path)):
            for file in files:
                check_file(path / file)
            yield path
    except BaseException:
        with suppress(OSError):  # one holds something
            for folder in new:
                folder.rmdir()
        raise
