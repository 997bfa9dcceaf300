"""``gossamer demo`` and ``gossamer train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gossamer import console
from gossamer.cli.app import Data, Json, Threads, app, print_json, settings_of
from gossamer.cli.experiments import Name, open_experiment, storage_address
from gossamer.console import say, show
from gossamer.errors import UserError


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
    name: Name = None,
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
    from gossamer.training import FILES, Recipe, check_trust, folder_for
    from gossamer.training import train as run

    own = settings_of(settings)
    if init is not None:
        own["init"] = str(init)
    if teacher:
        runs = [str(run) for run in teacher]
        own["teacher"] = runs if len(runs) > 1 else runs[0]
    if experiment is not None:
        from gossamer.search import chosen_trial, merged, recipe_of
        from gossamer.search.networks import owner

        source = open_experiment(experiment, name)
        chosen = chosen_trial(source, trial)
        own |= {"task": task} if task else {}
        own |= {"model": model} if model else {}
        if storage_address(experiment):
            named = merged(source.settings, chosen.parameters, own)
            checked = (None if model else named["model"], None if task else named["task"])
            check_trust(*checked, experiment, trust)
        recipe = recipe_of(source.settings, chosen.parameters, own)
        for setting in own:
            if owner(setting) not in (None, recipe.model):
                raise UserError(
                    f"--set {setting}: the trial's model is '{recipe.model}', so this would have "
                    "no effect; leave it out"
                )
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
    with folder_for(out, *FILES) as folder:
        if (folder / "experiment.toml").exists():
            raise UserError(
                f"{folder} holds a compression, whose model.onnx would be lost; choose another "
                "--out"
            )
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
