"""The commands. They only translate: the work is done in the other rooms."""

from gossamer.cli import report as report  # these register their commands
from gossamer.cli import runtime as runtime
from gossamer.cli.main import app, main

__all__ = ["app", "main"]
