"""``gossamer compress``: from a trained network to a sparse one that meets the goals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gossamer.cli.app import Json, Threads, Trust, app, print_json, settings_of
from gossamer.cli.pairs import pairs
from gossamer.console import err, say, show
from gossamer.errors import UserError

if TYPE_CHECKING:
    from gossamer.compression import Compressed

_GOAL = "METRIC=NUMBER"
# After a number, such as 100k, 15% or 200us.
_UNITS = {"": 1.0, "%": 0.01, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_UNITS |= {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(%|k|K|M|G|s|ms|us)?")


@app.command()
def compress(
    network: Annotated[
        str,
        typer.Argument(
            help="Run directory, FILE.py:FUNCTION (with --weights), or a reference network."
        ),
    ],
    data: Annotated[
        str, typer.Argument(help="Task name, an .npz file of arrays, or FILE.py:FUNCTION.")
    ],
    at_least: Annotated[
        list[str] | None,
        typer.Option(metavar=_GOAL, help="As in accuracy=0.965; repeat."),
    ] = None,
    at_most: Annotated[
        list[str] | None,
        typer.Option(metavar=_GOAL, help="As in density=15% or file_bytes=100k; repeat."),
    ] = None,
    lose_at_most: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_GOAL,
            help="Against the dense network; accuracy=0.005 by default. Repeat.",
        ),
    ] = None,
    maximize: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC", help="By default speedup; repeat."),
    ] = None,
    minimize: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC", help="As in latency or file_bytes; repeat."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=100_000, help="Minutes after which no trial starts; 30 by default."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, at most.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE.safetensors", help="State dict of FILE.py:FUNCTION."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the model; repeat."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/compress"),
    plan: Annotated[
        bool, typer.Option("--plan", help="Write the experiment that would be searched, and stop.")
    ] = False,
    trust: Trust = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search for a sparse version of a trained network that meets the goals and is fast.

    The first answer takes seconds and gets better while the search runs; model.onnx in the folder
    is always the best so far. Ctrl-C ends with the best so far; the same command continues.
    """
    from gossamer.compression import compress as run

    def tell(look: Sequence[str]) -> None:
        for line in look:
            say(line, err)

    result = run(
        network,
        data,
        at_least=thresholds("--at-least", at_least),
        at_most=thresholds("--at-most", at_most),
        lose_at_most=thresholds("--lose-at-most", lose_at_most),
        maximize=maximize or [],
        minimize=minimize or [],
        minutes=minutes,
        trials=trials,
        workers=workers,
        threads=threads,
        out=out,
        weights=weights,
        settings=settings_of(settings),
        trust=trust,
        plan=plan,
        on_start=tell,
    )
    if plan:
        _planned(result, as_json)
        return
    if as_json:
        assert result.trial is not None
        print_json(
            {
                "folder": str(result.folder),
                "feasible": result.feasible,
                "trial": result.trial.number,
                "parameters": result.trial.parameters,
                "values": result.trial.values,
                "dense": result.dense,
                "sparse": result.sparse,
            }
        )
    else:
        _report(result)
    if result.interrupted:
        raise KeyboardInterrupt


def thresholds(option: str, texts: Sequence[str] | None) -> dict[str, float]:
    """Read goals; their values may be ``0.965``, ``15%``, ``100k`` or ``200us``."""

    def read(text: str) -> float:
        number = _NUMBER.fullmatch(text.strip())
        if number is None:
            raise ValueError
        return float(number[1]) * _UNITS[number[2] or ""]

    form = "NAME=NUMBER, such as accuracy=0.965, density=15% or file_bytes=100k"
    return pairs(option, texts, form, read)


def _planned(result: Compressed, as_json: bool) -> None:
    file = result.folder / "experiment.toml"
    if as_json:
        print_json({"experiment": str(file), "look": list(result.look)})
    else:
        say(f"{file}: read and change it; the same command without --plan searches it")


def _report(result: Compressed) -> None:
    """Dense, sparse and onnxruntime side by side, the frontier, and what to do next."""
    from gossamer.report import bench_table, frontier_table, table

    assert result.sparse is not None
    show(frontier_table(result.experiment))
    show(table({"dense": result.dense, "sparse": result.sparse}, brief=True))
    model = result.folder / "model.onnx"
    try:
        from gossamer.deploy import bench

        show(bench_table(bench(model, threads=1, plan=result.folder / "plan.json")))
    except UserError as error:
        say(f"not compared with onnxruntime: {error}")
    if not result.feasible:
        say("No network meets all goals yet: this is the nearest. The same command goes on.")
    say(f"{model} and plan.json: the network and the engine's choice of kernels")
    say(f"All figures: gossamer report --compare {result.folder}/dense {result.folder}/sparse")
    say(f"Next: gossamer profile {model}")
