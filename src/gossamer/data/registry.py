"""Tasks by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from gossamer.data.arrays import from_npz
from gossamer.data.download import Root
from gossamer.data.mnist import mnist
from gossamer.data.own import from_code
from gossamer.data.sound_folder import from_folder
from gossamer.data.speech_commands import speech_commands
from gossamer.data.spoken_digits import spoken_digits
from gossamer.data.spoken_words import spoken_words
from gossamer.data.task import Task
from gossamer.errors import UserError, nearest
from gossamer.own_code import file_without_function, is_code

#: The loader of each task by its name.
TASKS: dict[str, Callable[..., Task]] = {
    "spoken_words": spoken_words,
    "speech_commands": speech_commands,
    "mnist": mnist,
    "spoken_digits": spoken_digits,
}


def load(name: str | os.PathLike[str], root: Root = None, **options: Any) -> Task:
    """Load the task ``name`` with its loader's ``options`` (such as ``download=True``).

    ``name`` is one of `TASKS`, the path of an ``.npz`` file of arrays (with the option
    ``standardize``, see `arrays`), the path of a folder of sounds (see `from_folder`), or code as
    ``file.py:function``, which is run (see `from_code`).

    ``root`` is the folder of the data, by default the environment variable GOSSAMER_DATA, or else
    the cache folder. Raises UserError for an unknown task or option, and the errors of the loader.
    """
    key = os.fspath(name)
    if key.endswith(".npz"):
        for option in options:
            if option != "standardize":
                raise UserError(f"{key}: an .npz takes no options but standardize, not '{option}'")
        if root is not None:
            raise UserError(f"{key} contains its own data: leave the folder {root} out")
        return from_npz(key, **options)
    if key not in TASKS and os.path.isdir(key):
        if options or root is not None:
            raise UserError(f"{key} is a folder of sounds: leave --data and options out")
        return from_folder(key)
    if is_code(key):
        if options or root is not None:
            raise UserError(f"{key} is your own code: leave --data and options out")
        return from_code(key)
    if key not in TASKS:
        if fault := file_without_function(key):
            raise UserError(fault)
        raise UserError(
            f"unknown task '{key}': {nearest(key, TASKS)}, PATH.npz, a folder of sounds, or "
            "file.py:function"
        )
    loader = TASKS[key]
    known = [option for option in inspect.signature(loader).parameters if option != "root"]
    for option in options:
        if option not in known:
            raise UserError(f"{key} has no option '{option}': {nearest(option, known)}")
    return loader(root, **options)
