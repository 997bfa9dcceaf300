"""``gossamer trials``: listed, changed, and taken from one database to another."""

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
    cls=_ListByDefault,
    help="List, delete, correct, export and import trials; 'list' may be left out.",
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


Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="Of the trial.")]


def _open_stored(source: str, name: str | None) -> Any:
    opened = open_experiment(source, name)
    if opened.storage is None:
        raise UserError(f"{source} names no storage, so its trials are not stored")
    return opened


@trials.command("delete")
def delete(
    source: Source,
    numbers: Annotated[
        list[int], typer.Argument(metavar="NUMBER...", min=0, help="Of the trials.")
    ],
    name: Name = None,
) -> None:
    """Delete trials: nothing is learned from them, and they take no place in the budget."""
    opened = _open_stored(source, name)
    opened.forget(*numbers)
    deleted = len(set(numbers))
    say(f"{deleted:,} trial{'' if deleted == 1 else 's'} of '{opened.name}' deleted")


@trials.command("set")
def set_(
    source: Source,
    number: Number,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="METRIC=VALUE...",
            help="Corrected values, such as accuracy=0.94, or accuracy=0.94,0.004 with its "
            "standard deviation.",
        ),
    ],
    name: Name = None,
) -> None:
    """Correct values of a complete trial."""
    opened = _open_stored(source, name)
    corrected = dict(map(_value, values))
    opened.correct(number, corrected)
    say(f"trial {number} of '{opened.name}': {', '.join(corrected)} corrected")


def _value(text: str) -> tuple[str, float | tuple[float, ...]]:
    metric, sign, value = text.rpartition("=")
    try:
        numbers = tuple(map(float, value.split(",")))
    except ValueError:
        numbers = ()
    if not sign or len(numbers) not in (1, 2):
        raise UserError(
            f"'{text}' is no METRIC=VALUE; write accuracy=0.94, or accuracy=0.94,0.004 with its "
            "standard deviation"
        )
    return metric, numbers[0] if len(numbers) == 1 else numbers


@trials.command("note")
def note(
    source: Source,
    number: Number,
    text: Annotated[str, typer.Argument(help="Replaces the trial's note; '' removes it.")],
    name: Name = None,
) -> None:
    """Write something about a trial."""
    opened = _open_stored(source, name)
    opened.note(number, text)
    say(f"trial {number} of '{opened.name}': note {'written' if text.strip() else 'removed'}")


@trials.command("export")
def export(
    source: Source,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    name: Name = None,
) -> None:
    """Write an experiment with all its trials to a JSON file."""
    from gossamer.search import export_trials

    opened = _open_stored(source, name)
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
