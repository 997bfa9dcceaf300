"""A user's code, named as ``file.py:function`` or ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossamer.errors import UserError, nearest

_FOLDERS: set[str] = set()  # of files loaded so far


def _put_first(folder: Path) -> None:
    """Let a file import the modules in its folder, as Python does for a program.

    Modules of the same names from another file's folder are imported again.
    """
    for path in folder.iterdir():
        top = sys.modules.get(path.stem)
        origin = Path(getattr(top, "__file__", None) or "/")
        if {str(origin.parent), str(origin.parent.parent)} & (_FOLDERS - {str(folder)}):
            for name in [name for name in sys.modules if name.partition(".")[0] == path.stem]:
                del sys.modules[name]
    _FOLDERS.add(str(folder))
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))


def file_without_function(name: str) -> str:
    """Return an error's text for a Python file that is named without a function, or ""."""
    if not name.endswith(".py"):
        return ""
    return f"{name} names a Python file; name a function in it: {name}:FUNCTION"


def is_code(name: str) -> bool:
    """Return whether ``name`` has the form ``file.py:function`` or ``package.module:function``."""
    place, colon, function = name.rpartition(":")
    return bool(colon and place and function.isidentifier())


@contextmanager
def user_code(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a user's code raises into a UserError with its type, file and line.

    Args:
        name: name of the function that is imported or called.
        kind: what the function is, such as "data"; the start of messages.
    """
    try:
        yield
    except UserError:
        raise
    except (ImportError, SyntaxError) as error:
        raise UserError(f"{kind} '{name}': {error}") from None
    except SystemExit as error:
        raise UserError(
            f"{kind} '{name}': it exits (with {error.code}) in place of returning: what a program "
            "does goes under if __name__ == '__main__'"
        ) from error
    except Exception as error:
        lines = traceback.extract_tb(error.__traceback__)
        own = [line for line in lines if "site-packages" not in line.filename] or lines
        where = f"{own[-1].filename}, line {own[-1].lineno}"
        raise UserError(f"{kind} '{name}': {type(error).__name__}: {error} ({where})") from error


def load_function(name: str, kind: str) -> Callable[..., Any]:
    """Import the function that ``file.py:function`` or ``package.module:function`` names.

    Its file is run, so use this only for names that the user typed or trusts explicitly.

    Args:
        name: name of the function.
        kind: what the function is, such as "data"; the start of messages.

    Raises:
        UserError: no such file, module or function, or one that fails when imported.
    """
    place, _, function = name.rpartition(":")
    with user_code(name, kind):
        if place.endswith(".py"):
            path = Path(place)
            spec = importlib.util.spec_from_file_location(f"own_{kind}_{path.stem}", path)
            if spec is None or spec.loader is None or not path.is_file():
                raise UserError(f"{kind} '{name}': no file {path}")
            module = importlib.util.module_from_spec(spec)
            # Dataclasses look their module up by name while it is being run.
            sys.modules[module.__name__] = module
            _put_first(path.resolve().parent)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    called: Callable[..., Any] | None = getattr(module, function, None)
    if not callable(called):
        own = [known for known, value in vars(module).items() if callable(value)]
        raise UserError(
            f"{kind} '{name}': {place} has no function '{function}': {nearest(function, own)}"
        )
    return called
