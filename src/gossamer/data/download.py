"""The folders of data sets, and downloads with checksums."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pooch

from gossamer.errors import UserError, one_line

Root = str | os.PathLike[str] | None


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/gossamer``, or ``~/.cache/gossamer``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gossamer"


def data_root(root: Root) -> Path:
    """Return ``root``, or else the environment variable GOSSAMER_DATA, or the cache folder."""
    chosen = root if root is not None else os.environ.get("GOSSAMER_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def find(root: Path, names: Sequence[str], landmarks: Sequence[str]) -> Path | None:
    """Return the first folder of ``root/name`` and ``root`` with one of the landmarks, or None."""
    for folder in [*(root / name for name in names), root]:
        if any((folder / landmark).exists() for landmark in landmarks):
            return folder
    return None


def missing(task: str, root: Path, names: Sequence[str], landmarks: Sequence[str]) -> UserError:
    """Return the error of a missing data set: the folders searched and two ways to get it."""
    places = ", ".join(str(root / name) for name in [*names, "."])
    return UserError(
        f"{task}: no {' or '.join(landmarks)} in {places}; set GOSSAMER_DATA to the folder that "
        f"holds the data, or fetch them: gossamer train --download, in Python "
        f"gossamer.data.load('{task}', download=True)"
    )


def fetch(url: str, checksum: str, folder: Path) -> Path:
    """Fetch ``url`` into ``folder``, verify ``checksum`` (``algorithm:hex``), return the file.

    Raises UserError if there is no network, the checksum differs or the folder is unwritable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = Path(pooch.retrieve(url, checksum, url.rsplit("/", 1)[1], folder))
        with suppress(PermissionError):  # pooch leaves files that nobody else may read
            path.chmod(folder.stat().st_mode & 0o666)
        return path
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a bad hash ValueError
        reason = one_line(error)
        raise UserError(
            f"cannot download {url} into {folder}: {reason[:200]}; try again, fetch it by other "
            f"means, or set GOSSAMER_DATA to a folder that holds the data"
        ) from error


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar archive as the new folder ``target``, atomically, and remove the archive.

    A single folder at the top of the archive becomes ``target`` itself.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as name:
            inside = Path(name) / target.name
            with tarfile.open(archive) as tar:
                tar.extractall(inside, filter="data")
            top = list(inside.iterdir())
            (top[0] if len(top) == 1 and top[0].is_dir() else inside).rename(target)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(
            f"cannot unpack {archive} as {target} ({error}): make room or remove {target}, and "
            f"try again"
        ) from error
    archive.unlink()
