"""The commands that show evidence: ``report`` and ``robustness``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gossamer.cli.app import Data, Json, Trust, app, print_json
from gossamer.console import say, show
from gossamer.errors import UserError

if TYPE_CHECKING:
    from gossamer.training import Curve


@app.command()
def report(
    sources: Annotated[list[str], typer.Argument(help="Run directories and experiments.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="File to write: .html; with --compare also .md or .json. "
            "By default report.html; with --compare nothing is written.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Runs side by side: a table in the terminal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one self-contained page: networks side by side, and the frontiers of experiments.

    With --compare the table of the runs alone, the first one being what the others are compared
    with: in the terminal, as JSON with --json, and in the file named by -o.
    """
    from gossamer.report import comparison, named_runs, table, write_comparison
    from gossamer.report import report as write

    if not compare:
        if as_json:
            raise UserError("--json needs --compare: a page has no JSON")
        written = write(*sources, output=out or Path("report.html"))
        say(f"{written}: open it in a browser")
        return
    runs = named_runs(sources)
    if out is not None:
        write_comparison(*sources, output=out)
    if as_json:
        print_json(comparison(runs))
        return
    show(table(runs))
    if out is not None:
        say(f"{out} written")


@app.command()
def robustness(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A corruption or background noise; repeat. All by default."),
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Test examples to use, evenly spread; all by default.")
    ] = None,
    data: Data = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Measure a run under corruptions of images or noise behind sounds, and keep the curves.

    They go into the run's metrics.json, for reports. If interrupted, the same command continues
    after the last finished curve.
    """
    import hashlib

    from gossamer.files import write_text
    from gossamer.report import load_run
    from gossamer.training import Unfinished, load_network, load_recipe
    from gossamer.training import robustness as measure

    metrics = load_run(run)
    model, _, _ = load_network(run, trust=trust)
    task = load_recipe(run, trust=trust).load(data)
    with (run / "model.safetensors").open("rb") as file:
        network = hashlib.file_digest(file, "sha256").hexdigest()
    measuring = {"network": network, "data": data and str(data), "examples": examples}
    unfinished = Unfinished(run / "robustness.unfinished.json", measuring)

    def show_curve(curve: Curve) -> None:
        if not as_json:
            shares = "  ".join(
                f"{level:g}: {correct / curve.of:.1%}"
                for level, correct in zip(curve.levels, curve.correct, strict=True)
            )
            say(f"{curve.name} ({curve.unit})  {shares}")

    measured = measure(
        model, task, kinds=kinds, examples=examples, on_curve=show_curve, unfinished=unfinished
    )
    curves = [curve.as_dict() for curve in measured]
    write_text(run / "metrics.json", json.dumps({**metrics, "robustness": curves}, indent=1))
    unfinished.finish()
    if as_json:
        print_json(curves)
        return
    say(f"measured on {measured[0].of:,} examples; saved in {run}")
