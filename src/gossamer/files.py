"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gossamer.errors import UserError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when the block ends well.

    Whoever looks sees the old file or the new one, never a half of either; after an error or
    an interruption nothing is left behind.

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(path)
    if not target.name:
        raise UserError(f"cannot write {str(path)!r}: that names no file; give one")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; "
            "choose a place that can be written to"
        ) from None
    finally:
        with suppress(OSError):  # where the folder cannot be used, there is nothing to remove
            temporary.unlink()
