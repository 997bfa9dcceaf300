"""The entry point of the command ``gossamer``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import typer

from gossamer import console
from gossamer.cli.app import app
from gossamer.console import say
from gossamer.errors import UserError, one_line
from gossamer.extras import needed

# Command -> the extra to name where several bring a package that it lacks.
_EXTRAS = {
    "compress": "all",
    "dashboard": "search",
    "demo": "all",
    "frontier": "search",
    "trials": "search",
}

# Commands that keep what an interruption leaves.
_RESUMED = ("compress", "demo", "robustness", "search", "train")


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit status 2."""
    warnings.formatwarning = _one_line
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    if "_GOSSAMER_COMPLETE" in os.environ:  # asked by the shell, while a line is typed
        command(prog_name="gossamer")
    console.accept_every_encoding()
    name = next((item for item in sys.argv[1:] if item in command.commands), "")
    try:
        # Not app(), which swallows what an interrupted command has to say.
        with (
            command.make_context("gossamer", sys.argv[1:] or ["--help"]) as context,
            needed(f"gossamer {name}".strip(), _EXTRAS.get(name, name)),
        ):
            command.invoke(context)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except UserError as error:
        _complain(str(error))
    except (KeyboardInterrupt, typer.Abort) as error:
        further = "; run the same command again to continue" if name in _RESUMED else ""
        say(f"gossamer: {str(error) or 'stopped'}{further}", console.err)
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries once more
        sys.exit(1)
    except OSError as error:  # a full disk, say, under what has no file name of its own
        place = f"{error.filename}: " if error.filename else ""
        _complain(f"{place}{error.strerror or error}; fix this and rerun")
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        _complain(f"out of memory{reason}; use a smaller batch or network")
    except typer.TyperException as error:  # wrong command, option or value
        wrong = getattr(error, "ctx", None)
        path = wrong.command_path if wrong else "gossamer"
        _complain(f"{_message(error)}; see '{path} --help'")


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning of ours without the place in the code that it comes from."""
    if category is UserWarning and filename.startswith(str(Path(__file__).parents[1])):
        return f"gossamer: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _message(error: typer.TyperException) -> str:
    message = getattr(error, "format_message", None)
    return str(message() if callable(message) else error).rstrip(".")


def _complain(message: str) -> None:
    say("gossamer: " + one_line(message), console.err)
    sys.exit(2)
