"""Where data lie: the root, the cache folder, and downloads with checksums."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pooch

from gossamer.errors import UserError

Root = str | os.PathLike[str] | None


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/gossamer``, or ``~/.cache/gossamer``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gossamer"


def data_root(root: Root) -> Path:
    """The argument, else the environment variable GOSSAMER_DATA, else the cache folder."""
    chosen = root if root is not None else os.environ.get("GOSSAMER_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def find(root: Path, names: Sequence[str], landmarks: Sequence[str]) -> Path | None:
    """The first folder ``root/name``, or ``root`` itself, that holds one of the landmarks."""
    for folder in [*(root / name for name in names), root]:
        if any((folder / landmark).exists() for landmark in landmarks):
            return folder
    return None


def missing(task: str, root: Path, names: Sequence[str], landmarks: Sequence[str]) -> UserError:
    """What was looked for and where, and the two ways to get it."""
    places = ", ".join(str(root / name) for name in [*names, "."])
    return UserError(
        f"{task}: no {' or '.join(landmarks)} in {places}; set GOSSAMER_DATA to the folder that "
        f"holds the data, or fetch them with gossamer.data.load('{task}', download=True)"
    )


def download(url: str, checksum: str, folder: Path, unpack: bool = False) -> None:
    """Fetch ``url`` into ``folder``, verify ``checksum`` (``algorithm:hex``), optionally unpack it.

    Raises UserError where there is no network, the checksum differs or the folder is unwritable.
    """
    processor = pooch.Untar(extract_dir=".") if unpack else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(url, checksum, url.rsplit("/", 1)[1], folder, processor)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a bad hash ValueError
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot download {url} into {folder}: {reason[:200]}; fetch the file by other means, "
            f"put it into that folder, or set GOSSAMER_DATA to a folder that holds the data"
        ) from error
