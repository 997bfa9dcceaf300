"""The commands. They only parse and print; the other rooms do the work."""

from gossamer.cli import compress as compress  # these register their commands
from gossamer.cli import dashboard as dashboard
from gossamer.cli import export as export
from gossamer.cli import listen as listen
from gossamer.cli import report as report
from gossamer.cli import runtime as runtime
from gossamer.cli import search as search
from gossamer.cli import trials as trials
from gossamer.cli.main import app, main

__all__ = ["app", "main"]
__dir__ = __all__.copy
