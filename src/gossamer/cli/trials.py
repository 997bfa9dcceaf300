"""``gossamer trials``: listed, changed, and taken from one database to another."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gossamer.cli.app import Commands, Json, answer, app, print_json
from gossamer.cli.experiments import Name, Source, open_experiment
from gossamer.cli.pairs import pairs
from gossamer.console import say
from gossamer.errors import UserError


class _ListByDefault(typer.core.TyperGroup):
    """``gossamer trials SOURCE`` is ``gossamer trials list SOURCE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["list", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


trials = Commands(
    cls=_ListByDefault,
    help="List, show, delete, correct, export and import trials; 'list' may be left out.",
)
app.add_typer(trials, name="trials")


@trials.command("list")
def list_(source: Source, name: Name = None, as_json: Json = False) -> None:
    """Every trial with its state, metrics and time, and why it failed or was stopped."""
    from gossamer.report import trials_table

    opened = open_experiment(source, name)
    answer(
        as_json,
        lambda: [dataclasses.asdict(trial) for trial in opened.trials()],
        lambda: trials_table(opened),
    )


Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="Of the trial.")]


def _open_stored(source: str, name: str | None) -> Any:
    opened = open_experiment(source, name)
    if opened.storage is None:
        raise UserError(f"{source} has no stored trials: add storage = 'sqlite:///NAME.db' to it")
    return opened


@trials.command("show")
def show_(source: Source, number: Number, name: Name = None, as_json: Json = False) -> None:
    """One trial: parameters, values, note and files."""
    opened = open_experiment(source, name)
    trial = opened.record(number)
    if as_json:
        print_json(dataclasses.asdict(trial))
        return
    say(f"trial {number} of '{opened.name}': {trial.state}")
    for key, value in (
        ("reason", trial.reason),
        ("note", trial.note),
        ("fidelity", trial.fidelity),
        ("times as long", 2**trial.continued if trial.continued else None),
        ("continues" if trial.continued else "repeats", trial.origin),
    ):
        if value is not None:
            say(f"{key}: {value}")
    for key, parameter in trial.parameters.items():
        say(f"parameter {key} = {parameter}")
    for key, value in trial.values.items():
        noise = trial.noise.get(key)
        say(f"value {key} = {value}" + (f" ± {noise:.2g}" if noise else ""))
    for file in trial.files:
        say(f"file {file.path} ({file.kind}, {file.bytes:,} bytes)")


@trials.command("delete")
def delete(
    source: Source,
    numbers: Annotated[
        list[int], typer.Argument(metavar="NUMBER...", min=0, help="Of the trials.")
    ],
    name: Name = None,
) -> None:
    """Delete trials: samplers ignore them, and they do not count toward the budget."""
    opened = _open_stored(source, name)
    opened.forget(*numbers)
    say(f"{_trials(len(set(numbers)))} of '{opened.name}' deleted")


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
    from gossamer.deploy.metrics import check_values

    opened = _open_stored(source, name)
    form = "accuracy=0.94, or accuracy=0.94,0.004 with its standard deviation"
    corrected = pairs("trials set", values, form, _value, str.rpartition)
    if opened.split:
        check_values(corrected, "trials set")
    before = opened.record(number).values
    after = opened.correct(number, corrected)
    written = []
    for metric in corrected:
        deviation = f" ± {after.noise[metric]:.6g}" if metric in after.noise else ""
        was = f"was {before[metric]:.6g}" if metric in before else "new"
        written.append(f"{metric} = {after.values[metric]:.6g}{deviation} ({was})")
    say(f"trial {number} of '{opened.name}': {', '.join(written)}")


def _value(text: str) -> float | tuple[float, ...]:
    from gossamer.numbers import digits

    numbers = tuple(map(float, digits(text).split(",")))
    if len(numbers) > 2:
        raise ValueError
    return numbers[0] if len(numbers) == 1 else numbers


@trials.command("note")
def note(
    source: Source,
    number: Number,
    text: Annotated[str, typer.Argument(help="Replaces the trial's note; '' removes it.")],
    name: Name = None,
) -> None:
    """Set a trial's note."""
    opened = _open_stored(source, name)
    opened.note(number, text)
    say(f"trial {number} of '{opened.name}': note {'written' if text.strip() else 'removed'}")


@trials.command("export")
def export(
    source: Source,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    name: Name = None,
) -> None:
    """Write an experiment with all its trials to a JSON file, or with an output that ends in .db as
    a study of Optuna's own."""
    from gossamer.files import refuse_overwrite
    from gossamer.search import export_study, export_trials

    refuse_overwrite(out, (source,))
    opened = _open_stored(source, name)
    if out.suffix == ".db":
        count = export_study(opened, f"sqlite:///{quote(str(out))}")
    else:
        count = export_trials(opened.storage, out, opened.name)
    say(f"{_trials(count)} of '{opened.name}' in {out}")


@trials.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="What 'gossamer trials export' wrote; or with --into a CSV file, an Ax experiment "
            "(JSON), an Optuna study (database or journal), MLflow's address, database or folder, "
            "W&B runs (JSON, or wandb:ENTITY/PROJECT).",
        ),
    ],
    storage: Annotated[
        str | None,
        typer.Option(help="Database for an exported experiment, such as sqlite:///search.db."),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="EXPERIMENT", help="Experiment that takes another tool's trials."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="With --storage the experiment's name there, by default as in the file; with "
            "--into the experiment, where the storage has several."
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --storage the folder for the trials' files; next to an SQLite database "
            "by default.",
        ),
    ] = None,
    tool: Annotated[
        str | None, typer.Option("--from", metavar="TOOL", help="csv, ax, wandb, mlflow or optuna.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Study, experiment or sweep, where the source has several."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="THERE=HERE", help="A name there, and in the experiment; repeatable."),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out trials that the experiment cannot hold.")
    ] = False,
) -> None:
    """Import exported trials into a database, to continue their search, or another tool's trials
    into an experiment, which learns from them."""
    if (storage is None) == (into is None):
        raise UserError(
            "give --storage URL for what 'gossamer trials export' wrote, or --into EXPERIMENT for "
            "the trials of another tool"
        )
    if into is not None:
        if files is not None:
            raise UserError("--files needs --storage; add it, or leave --files out")
        _import_into(source, into, name, tool, study, rename, skip)
        return
    if tool is not None or study is not None or rename or skip:
        raise UserError("--from, --study, --rename and --skip need --into EXPERIMENT")
    from gossamer.search import import_trials

    assert storage is not None
    named, count = import_trials(source, storage, name, files)
    say(f"{_trials(count)} of '{named}' in {storage}")


def _import_into(
    source: str,
    into: str,
    name: str | None,
    tool: str | None,
    study: str | None,
    rename: list[str] | None,
    skip: bool,
) -> None:
    from gossamer.search import import_from

    opened = _open_stored(into, name)
    names = pairs("--rename", rename, "THERE=HERE, such as lr=learning_rate", _name)
    done = import_from(source, opened, tool=tool, study=study, rename=names, skip=skip)
    for reason in done.skipped:
        say(f"left out: {reason}")
    others = {
        "there already": done.known,
        "not ended": done.unfinished,
        "of a cheaper task, not comparable": done.cheaper,
        "left out": len(done.skipped),
    }
    also = "".join(f"; {count:,} {what}" for what, count in others.items() if count)
    failed = f", {done.failed:,} of them as failed" if done.failed else ""
    say(f"{_trials(done.trials)} imported into '{opened.name}'{failed}{also}")
    if done.ignored:
        say(f"no parameters of '{opened.name}': {', '.join(done.ignored)}")


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _trials(count: int) -> str:
    return f"{count:,} trial{'' if count == 1 else 's'}"
