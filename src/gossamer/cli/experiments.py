"""Experiments, as commands name them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.errors import UserError
from gossamer.files import named_storage

Source = Annotated[
    str, typer.Argument(help="Experiment file, or a storage: its address or SQLite file.")
]
Name = Annotated[str | None, typer.Option(help="The experiment, where the storage has several.")]


def open_experiment(source: str, name: str | None = None) -> Any:
    """The experiment of a file, a storage's address, or an SQLite file.

    Raises:
        UserError: there is none, or what is there is something else.
    """
    from gossamer.search import Experiment

    address = storage_address(source)
    if address:
        return Experiment.from_storage(address, name)
    if name is not None:
        raise UserError(f"--name chooses in a storage; the experiment file {source} names its own")
    return Experiment.from_toml(source)


def storage_address(source: str) -> str | None:
    """The address of the storage that ``source`` names, None where it is an experiment's file.

    Raises:
        UserError: it is neither.
    """
    path, address = Path(source), named_storage(source)
    if address is None and path.is_file() and path.suffix != ".toml" and not _is_toml(path):
        raise UserError(f"{source} is neither an experiment file (TOML) nor an SQLite database")
    return address


def _is_toml(path: Path) -> bool:
    try:
        return bool(tomllib.loads(path.read_text("utf-8-sig")))
    except ValueError:
        return False
