"""Files of trials, such as images and logs, in a folder next to the storage.

The folder itself is the record: no database lists the files, so that a process that is killed
loses no file that it wrote.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy

from gossamer.errors import UserError
from gossamer.files import copy_file, make_folder

_KINDS = {
    "image": (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"),
    "text": (".txt", ".log", ".csv", ".json", ".jsonl", ".md", ".toml", ".yaml", ".yml"),
}


@dataclass(frozen=True)
class TrialFile:
    """A file of a trial.

    Attributes:
        name: in the trial's folder, with ``/`` between folders.
        kind: "image", "text" or "other", by the ending of its name.
        bytes: size.
        path: absolute.
    """

    name: str
    kind: str
    bytes: int
    path: str


def files_folder(storage: str | None, files: str | None, experiment: str) -> Path | None:
    """Return the absolute folder of an experiment's files; None if it cannot store files.

    Args:
        storage: URL; an SQLite file ``x.db`` has them in ``x.files`` next to it.
        files: the folder to use instead.
        experiment: its name.
    """
    if files is None and isinstance(storage, str) and storage.startswith("sqlite:///"):
        database = sqlalchemy.engine.make_url(storage).database
        files = str(Path(database).with_suffix(".files")) if database else None
    return None if files is None else Path(files).absolute() / quote(experiment, safe=" ")


def trial_folder(folder: Path | None, number: int) -> Path | None:
    """The folder of one trial."""
    return None if folder is None else folder / str(number)


def attach(folder: Path | None, path: str | os.PathLike[str], name: str | None) -> Path:
    """Copy a file into a trial's folder, in place of one of the same name.

    Raises:
        UserError: it cannot be read or written, its name cannot be used, or there is no folder.
    """
    if folder is None:
        raise UserError(
            "attach: the experiment has no place for files; give it an SQLite storage, or files = "
            "'FOLDER', which all machines share"
        )
    name = Path(path).name if name is None else name
    plain = isinstance(name, str) and name == Path(name).name and not name.startswith(".")
    if not plain or not 0 < len(name) <= 200:
        raise UserError(f"attach: {name!r} is no plain file name; name one such as 'curve.png'")
    target = make_folder(folder) / name
    try:
        copy_file(path, target)
    except OSError as error:
        raise UserError(f"attach: {path} cannot be read: {error.strerror or error}") from None
    return target


def files_of(folder: Path | None) -> tuple[TrialFile, ...]:
    """Return the files in a trial's folder by name, without links and unfinished files."""
    if folder is None or not folder.is_dir():
        return ()
    paths = (
        Path(place) / name
        for place, folders, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )
    listed = [
        TrialFile(
            path.relative_to(folder).as_posix(), kind_of(path), path.stat().st_size, str(path)
        )
        for path in paths
        if path.is_file() and not path.is_symlink()
    ]
    return tuple(sorted(listed, key=lambda file: file.name))


def kind_of(path: Path) -> str:
    """ "image", "text" or "other"."""
    ending = path.suffix.lower()
    return next((kind for kind, endings in _KINDS.items() if ending in endings), "other")
