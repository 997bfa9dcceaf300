"""Reading of the figures in run directories."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gossamer.errors import UserError
from gossamer.files import subfolders_with


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(_number(item) for item in value)


def _layers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(layer, dict) and isinstance(layer.get("name"), str) for layer in value
    )


# Entries of metrics.json that a report requires.
_SHAPE: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("task", lambda value: isinstance(value, str), "a text"),
    ("synthetic", lambda value: isinstance(value, bool), "true or false"),
    ("accuracy", _number, "a number"),
    ("weights.total", _number, "a number"),
    ("weights.nonzero", _number, "a number"),
    ("weights.density", _number, "a number"),
    ("macs.dense", _number, "a number"),
    ("macs.weights", _number, "a number"),
    ("macs.both", _number, "a number"),
    ("layers", _layers, "a list of layers with names"),
)
_NOISE: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("noise.levels", _numbers, "a list of numbers"),
    ("noise.correct", _numbers, "a list of numbers"),
    ("noise.score", _number, "a number"),
    ("noise.of", _number, "a number"),
)


def load_run(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the figures of a run directory from its ``metrics.json``.

    Raises:
        UserError: the directory or the file is missing, unreadable or damaged.
    """
    folder = Path(path)
    file = folder / "metrics.json"
    remedy = f"train it again with gossamer train TASK --out {folder}"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise UserError(f"no run at {folder}: check the path, or {remedy}") from None
        if not folder.is_dir():
            message = (
                f"{folder} is not a run directory; give the folder that holds metrics.json, or, "
                "without --compare, an experiment's TOML file or storage (sqlite:///speech.db)"
            )
        elif runs := subfolders_with(folder, file.name):
            message = f"{folder} holds no metrics.json; name a run in it: {runs}"
        else:
            message = f"{folder} holds no metrics.json, so no training ended there: {remedy}"
        raise UserError(message) from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is damaged (not text): {remedy}") from None
    except OSError as error:
        message = f"{file} cannot be read ({error.strerror}): check its permissions"
        raise UserError(message) from None
    try:
        run = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is damaged (line {error.lineno}: {error.msg}): {remedy}") from None
    if not isinstance(run, dict):
        raise UserError(f"{file} is damaged (not a table of figures): {remedy}")
    for key, right, what in (*_SHAPE, *(_NOISE if run.get("noise") else ())):
        value: Any = run
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not right(value):
            raise UserError(f"{file} is damaged ({key!r} is not {what}): {remedy}")
    return run


def named_runs(paths: Iterable[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Read runs and name them by their folders, with more of the path if two names are equal."""
    runs: dict[str, dict[str, Any]] = {}
    seen: set[Path] = set()
    for path in paths:
        folder = Path(path).resolve()
        if folder in seen:
            raise UserError(f"run {path} is named twice: name every run once")
        seen.add(folder)
        name, above = folder.name or str(folder), folder.parent
        while name in runs:  # ends at the root at the latest: the folders differ
            name, above = f"{above.name}/{name}", above.parent
        runs[name] = load_run(path)
    return runs
