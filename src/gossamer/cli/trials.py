"""``gossamer trials``: listed, and taken from one database to another."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli.main import Json, app
from gossamer.cli.search import Name, Source, open_experiment
from gossamer.console import say, show
from gossamer.errors import UserError


class _ListByDefault(typer.core.TyperGroup):
    """``gossamer trials SOURCE`` is ``gossamer trials list SOURCE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["list", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


trials = typer.Typer(
    cls=_ListByDefault, help="List, export and import trials; 'list' may be left out."
)
app.add_typer(trials, name="trials")


@trials.command("list")
def list_(source: Source, name: Name = None, as_json: Json = False) -> None:
    """Every trial with its state, metrics and time, and why it failed or was stopped."""
    from gossamer.report import trials_table

    opened = open_experiment(source, name)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(trial) for trial in opened.trials()]))
    else:
        show(trials_table(opened))


@trials.command("export")
def export(
    source: Source,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    name: Name = None,
) -> None:
    """Write an experiment with all its trials to a JSON file."""
    from gossamer.search import export_trials

    opened = open_experiment(source, name)
    if opened.storage is None:
        raise UserError(f"{source} names no storage, so its trials are not stored")
    count = export_trials(opened.storage, out, opened.name)
    say(f"{count:,} trial{'' if count == 1 else 's'} of '{opened.name}' in {out}")


@trials.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What 'gossamer trials export' wrote.")],
    storage: Annotated[str, typer.Option(help="Database, such as sqlite:///search.db.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment there; by default as in the file.")
    ] = None,
) -> None:
    """Put exported trials into a database, where their search continues."""
    from gossamer.search import import_trials

    named, count = import_trials(file, storage, name)
    say(f"{count:,} trial{'' if count == 1 else 's'} of '{named}' in {storage}")
