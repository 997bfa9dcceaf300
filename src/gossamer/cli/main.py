"""The command ``gossamer``: parse the arguments, call, print.

Heavy imports stand inside the commands, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tomllib
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import RenderableType

from gossamer import __version__, console
from gossamer.cli.pairs import pairs
from gossamer.console import say, show
from gossamer.errors import UserError, one_line
from gossamer.extras import needed

_F = TypeVar("_F", bound=Callable[..., Any])


class _Command(typer.core.TyperCommand):
    """A command that refuses an option given twice, of which one would be ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in order:
            if not isinstance(option, typer.core.TyperOption) or option.multiple or option.is_flag:
                continue
            if order.count(option) > 1:
                raise UserError(f"{option.opts[0]} appears twice; remove one")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


class Commands(typer.Typer):
    """A group of commands of gossamer's."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_F], _F]:
        return super().command(name, **{"cls": _Command, **settings})


app = Commands(
    name="gossamer",
    help="Finds, trains and runs sparse neural networks.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

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

Data = Annotated[
    Path | None,
    typer.Option(help="Folder with the data; by default $GOSSAMER_DATA, else the cache."),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the Python code of a run of your own network.")
]


def _set_threads(threads: int | None) -> int | None:
    """Threads for the libraries that are imported later, and how they wait for each other.

    By default OpenMP's threads spin at each barrier: next to one other busy process two threads
    on two cores then take many times as long as one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
        if "torch" in sys.modules:  # too late for the variables
            sys.modules["torch"].set_num_threads(threads)
    return threads


Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        callback=_set_threads,
        help="Threads of a training; by default all usable cores, shared among workers.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_json(data: Any) -> None:
    """Print data as one line of JSON, which has no NaN and no infinity: as ``"NaN"``."""
    typer.echo(json.dumps(_in_json(data), allow_nan=False))


def _in_json(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _in_json(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_in_json(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    return data


def answer(as_json: bool, data: Callable[[], Any], shown: Callable[[], RenderableType]) -> None:
    """Print a command's result: its ``data`` as JSON, or ``shown``, usually a table."""
    if as_json:
        print_json(data())
    else:
        show(shown())


def _version(shown: bool) -> None:
    if shown:
        from gossamer.kernels.registry import chosen_isa

        typer.echo(f"gossamer {__version__} ({chosen_isa()})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Version and kernels in use, and exit.",
        ),
    ] = False,
) -> None:
    pass


def settings_of(items: list[str] | None) -> dict[str, Any]:
    """Return ``name=value`` texts as settings; for the values see `_value`.

    Raises:
        UserError: no ``=``, or a name twice.
    """
    return pairs("--set", items, "name=value", _value)


def _value(text: str) -> Any:
    """Read a value as in TOML, ``8,16`` as a list, and bare words as text."""
    # "[8,16]" is a pattern for some shells.
    for form in (text, f"[{text}]") if "," in text else (text,):
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"value = {form}")["value"]
    return text.strip()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs, search and page.")] = Path(
        "runs/demo"
    ),
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of the search.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; one a core by default.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Start again from the beginning.")] = False,
    threads: Threads = None,
) -> None:
    """Search, train and report sparse networks on the embedded data, in a few minutes."""
    from gossamer.demo import demo as run

    run(out, trials=trials, workers=workers, threads=threads, fresh=fresh, console=console.out)


@app.command()
def train(
    task: Annotated[
        str | None,
        typer.Argument(help="Task name, an .npz file of your arrays, or a folder of sounds."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Reference network, or your own as file.py:function.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting; repeat.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="EXPERIMENT|STORAGE",
            help="Take task, model and settings of a trial.",
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of that trial; by default the best one.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The experiment, where the storage has several.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Start from the weights of this run.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Learn from the answers of this run's network too; repeat."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run directory to write.")] = Path("runs/train"),
    data: Data = None,
    download: Annotated[bool, typer.Option(help="Fetch the data where they are missing.")] = False,
    threads: Threads = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the Python code that a storage or teacher names.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train one network, evaluate it on the test split, and save the run directory.

    If interrupted, run the same command again: it continues after the last finished epoch.
    """
    from gossamer.report import layer_table, table
    from gossamer.training import Recipe, check_trust, folder_for
    from gossamer.training import train as run

    own = settings_of(settings)
    if init is not None:
        own["init"] = str(init)
    if teacher:
        runs = [str(run) for run in teacher]
        own["teacher"] = runs if len(runs) > 1 else runs[0]
    if experiment is not None:
        from gossamer.cli.search import open_experiment, storage_address
        from gossamer.search import chosen_trial, merged, recipe_of

        source = open_experiment(experiment, name)
        chosen = chosen_trial(source, trial)
        own |= {"task": task} if task else {}
        own |= {"model": model} if model else {}
        if storage_address(experiment):
            named = merged(source.settings, chosen.parameters, own)
            checked = (None if model else named["model"], None if task else named["task"])
            check_trust(*checked, experiment, trust)
        recipe = recipe_of(source.settings, chosen.parameters, own)
    else:
        for option, value in (("--trial", trial), ("--name", name)):
            if value is not None:
                raise UserError(f"{option} needs --from EXPERIMENT, the experiment it belongs to")
        if task is None or model is None:
            raise UserError(
                "name a task and a model, as in 'gossamer train spoken_words --model speech_cnn', "
                "or an experiment with --from"
            )
        recipe = Recipe(task, model, own)
    with folder_for(out) as folder:
        if (folder / "metrics.json").exists():
            raise UserError(f"{folder} holds a finished run; choose another --out or delete it")
        loaded = recipe.load(data, **({"download": True} if download else {}))
        checkpoint = folder / "checkpoint.safetensors"
        trained = run(recipe, loaded, checkpoint=checkpoint, progress=True, trust=trust)
        metrics = trained.save(folder, progress=True)
        checkpoint.unlink(missing_ok=True)  # a finished run has nothing to go on from
    if as_json:
        print_json(metrics)
        return
    show(table({folder.name: metrics}))
    show(layer_table(metrics))
    if total := sum(metrics["training_seconds"].values()):
        parts = metrics["training_seconds"].items()
        shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts)
        say(f"training took {total:,.1f} s: {shares}")
    say(f"saved in {folder}")


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
