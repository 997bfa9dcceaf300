"""The commands. They only parse and print; the other rooms do the work."""

# isort: off
from gossamer.cli import train as train  # these register their commands, in the order of --help
from gossamer.cli import compress as compress
from gossamer.cli import dashboard as dashboard
from gossamer.cli import export as export
from gossamer.cli import listen as listen
from gossamer.cli import report as report
from gossamer.cli import runtime as runtime
from gossamer.cli import search as search
from gossamer.cli import trials as trials
from gossamer.cli.app import app
from gossamer.cli.main import main
# isort: on

__all__ = ["app", "main"]
__dir__ = __all__.copy
