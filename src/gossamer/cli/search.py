"""``gossamer search`` and ``gossamer frontier``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer import console
from gossamer.cli.app import Json, Threads, answer, app
from gossamer.cli.experiments import Name, Source, open_experiment
from gossamer.console import say
from gossamer.errors import UserError


@app.command()
def search(
    experiment: Annotated[Path, typer.Argument(help="Experiment file.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Trials to run now, at most.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time; 1 by default, with --ray all that fit."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database, in place of the file's; several machines may share a PostgreSQL one."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run the trials on a Ray cluster ('auto' finds one)."),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option(min=0, max=10_000, help="CPUs per trial, with --ray; default 1.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0, max=10_000, help="GPUs per trial, with --ray; default 0.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Log the trials for TensorBoard.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Log the trials to MLflow.")
    ] = None,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log the trials to W&B.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after this many trials without a better one, in place of the file's number.",
        ),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search until the experiment's budget is used up; run it again to continue.

    The experiment's command evaluates the trials; without one, its settings' task and model are
    trained, with data from $GOSSAMER_DATA.
    """
    from gossamer.report import frontier_table
    from gossamer.search import LOGGERS, Experiment

    if ray is None and (cpus is not None or gpus is not None):
        raise UserError("--cpus and --gpus need --ray ADDRESS; add it, or leave them out")
    places = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
    loggers = [LOGGERS[name](place) for name, place in places.items() if place is not None]
    opened = Experiment.from_toml(experiment, check=_train, storage=storage, patience=patience)
    executor = None
    if ray is not None:
        from gossamer.search.execution.ray import on_ray

        asked = 1.0 if cpus is None else cpus
        executor = on_ray(ray, cpus=asked, gpus=gpus or 0.0, workers=workers)
    try:
        opened.run(
            _train(opened),
            workers=workers or 1,
            trials=trials,
            loggers=loggers,
            executor=executor,
            threads=threads,
        )
    except KeyboardInterrupt as stop:
        if opened.storage is not None:
            raise
        say(f"gossamer: {stop}", console.err)  # there is nothing to go on from
        raise typer.Exit(130) from None
    answer(as_json, lambda: _frontier_json(opened), lambda: frontier_table(opened))


def _train(experiment: Any) -> Any:
    """Function that evaluates its trials, checked before the first of them."""
    for parameter in experiment.parameters:
        if parameter.name in experiment.settings and not parameter.when:
            raise UserError(
                f"'{parameter.name}' is in [settings] and in [parameters], whose value every trial "
                "would take; leave one out"
            )
    if experiment.command is None:
        from gossamer.search import TrainNetwork

        return TrainNetwork.for_experiment(experiment, reload=False)
    names = {parameter.name: None for parameter in experiment.parameters}
    experiment.command.check({**experiment.settings, **names})
    return experiment.command


def _frontier_json(experiment: Any) -> dict[str, Any]:
    from gossamer.search import Snapshot

    snapshot = Snapshot.of(experiment)
    frontier, coverage = snapshot.frontier, snapshot.coverage_so_far
    states = [trial.state for trial in snapshot.trials]
    return {
        "experiment": experiment.name,
        "thresholds": {m.name: m.threshold for m in experiment.metrics},
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "feasible": frontier.feasible,
        "kind": frontier.kind,
        "stalled": snapshot.sign is not None,
        **({"coverage": coverage[-1][1]} if coverage else {}),
        "frontier": [
            {"trial": t.number, "values": t.values, "parameters": t.parameters}
            for t in frontier.trials
        ],
    }


@app.command()
def frontier(source: Source, name: Name = None, as_json: Json = False) -> None:
    """Show the best trials inside all thresholds, or the nearest ones if none is inside."""
    from gossamer.report import frontier_table

    opened = open_experiment(source, name)
    answer(as_json, lambda: _frontier_json(opened), lambda: frontier_table(opened))
