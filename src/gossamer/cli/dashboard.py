"""``gossamer dashboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from gossamer.cli.app import app
from gossamer.cli.experiments import Name, Source
from gossamer.console import say


@app.command()
def dashboard(
    source: Source,
    name: Name = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8080,
    write: Annotated[
        bool, typer.Option("--write", help="Let the page store thresholds, to steer the search.")
    ] = False,
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Serve optuna-dashboard too, at another port.")
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a live page of an experiment, to this machine only, until Ctrl-C."""
    import webbrowser

    from gossamer.dashboard import dashboard as serve

    def opened(address: str, other: str | None = None) -> None:
        does = "reads, and stores thresholds" if write else "only reads"
        say(f"{address} ({does}); Ctrl-C ends it")
        if other is not None:
            say(f"{other} (optuna-dashboard)")
        if show:
            webbrowser.open(address)

    serve(source, name, port, write, optuna, opened)
