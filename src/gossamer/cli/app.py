"""The application, with options and printed results that several commands have.

Commands parse their arguments, call, and print. Heavy imports stand inside them, so that ``--help``
and mistakes answer at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import RenderableType

from gossamer import __version__
from gossamer.cli.pairs import pairs
from gossamer.console import show
from gossamer.errors import UserError

_F = TypeVar("_F", bound=Callable[..., Any])


class _Command(typer.core.TyperCommand):
    """A command that refuses what would be misread: an option given twice, and the number 1_0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        texts, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in order:
            if not isinstance(option, typer.core.TyperOption) or option.multiple or option.is_flag:
                continue
            if order.count(option) > 1:
                raise UserError(f"{option.opts[0]} appears twice; remove one")
        parsed: list[str] = super().parse_args(ctx, args)
        for option in order:
            read, written = (_listed(by_name.get(option.name)) for by_name in (ctx.params, texts))
            for value, text in zip(read, written, strict=False):  # a flag has no text
                if isinstance(value, int | float) and "_" in str(text):
                    raise UserError(f"{option.opts[0]} {text}: write numbers without '_'")
        return parsed


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


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
    """Read a value as in TOML, ``8,16`` as a list, and bare words as text.

    Raises:
        UserError: a number such as 1_0, which TOML reads as 10.
    """
    # "[8,16]" is a pattern for some shells.
    for form in (text, f"[{text}]") if "," in text else (text,):
        with suppress(tomllib.TOMLDecodeError):
            value = tomllib.loads(f"value = {form}")["value"]
            if re.search(r"\d_\d", re.sub(r"\"[^\"]*\"|'[^']*'", "", text)):
                raise UserError("write numbers without '_'")
            return value
    return text.strip()
