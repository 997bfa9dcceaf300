"""The main job on the embedded data: dense reference, search, best sparse network, report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gossamer.console import show
from gossamer.data import Task, load
from gossamer.files import make_folder
from gossamer.report import frontier_table, page, table
from gossamer.runtime.machine import usable_cores
from gossamer.search import Experiment, TrainNetwork, TrialRecord, chosen_trial, recipe_of
from gossamer.training import FILES, Recipe, folder_for, train

EXPERIMENT = Path(__file__).with_name("demo.toml")

# The chosen network and the dense one are trained so many times longer than a trial.
_LONGER = 3

_SHOWN = 3  # trials in the terminal; the page has all


@dataclass(frozen=True)
class Result:
    """Results of the demo: two runs, the experiment and the page."""

    dense: Mapping[str, Any]
    sparse: Mapping[str, Any]
    experiment: Experiment
    chosen: TrialRecord
    page: Path


def demo(
    folder: str | Path = "runs/demo",
    *,
    trials: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    fresh: bool = False,
    console: Console | None = None,
) -> Result:
    """Run the main job; finished parts in ``folder`` are not repeated.

    Args:
        folder: folder for ``dense/``, ``sparse/``, ``search.db`` and ``report.html``.
        trials: number of trials; the experiment's budget by default.
        workers: trials at a time; one for each core by default.
        threads: threads of each worker; its share of the cores by default.
        fresh: delete an earlier run's files in ``folder`` first.
        console: console for the text.

    Raises:
        UserError: the folder cannot be written to.
    """
    say = console or Console()
    home = Path(folder)
    if fresh and (home / "search.db").exists():
        shutil.rmtree(home)
    make_folder(home)
    started = time.perf_counter()

    say.rule("1  data")
    settings = dict(Experiment.from_toml(EXPERIMENT).settings)
    task = load(settings["task"])
    say.print(
        f"{len(task.train):,} training, {len(task.validation):,} validation, "
        f"{len(task.test):,} test clips of {len(task.classes)} classes. {task.source}"
    )

    say.rule("2  the dense network")
    plain = {name: value for name, value in settings.items() if name != "pattern"}
    longer = plain["epochs"] * _LONGER
    dense_recipe = recipe_of({**plain, "epochs": longer, "learning_rate": 0.05}, {})
    dense = _run(home / "dense", dense_recipe, task, say, "dense network")

    say.rule("3  the search")
    beside = str(home / "dense")
    settings |= {"init": beside, "teacher": beside, "dense_reference": beside}
    experiment = Experiment.from_toml(
        EXPERIMENT, storage=f"sqlite:///{home / 'search.db'}", budget=trials, settings=settings
    )
    limits = ", ".join(
        f"{metric.name} {'at least' if metric.goal.sign > 0 else 'at most'} {metric.threshold}"
        for metric in experiment.metrics
    )
    say.print(
        f"{experiment.budget:,} trials over {len(experiment.parameters)} parameters; {limits}"
    )
    experiment.run(
        TrainNetwork.for_experiment(experiment), workers=workers or usable_cores(), threads=threads
    )
    show(frontier_table(experiment, most=_SHOWN), say)

    say.rule("4  the best sparse network, trained longer")
    chosen = chosen_trial(experiment)
    say.print(f"trial {chosen.number} of the table above")
    recipe = recipe_of({**settings, "epochs": longer}, chosen.parameters)
    sparse = _run(home / "sparse", recipe, task, say, "sparse network")

    say.rule("5  what was gained")
    runs = {"dense": dense, "sparse": sparse}
    show(table(runs, brief=True), say)
    written = page(home / "report.html", runs, experiment)
    minutes = (time.perf_counter() - started) / 60
    say.print(f"{minutes:.1f} minutes in all. The whole story: {written}", soft_wrap=True)
    say.print(
        "\nNext: your own data and network\n"
        "  gossamer train data.npz --model net.py:build --set weight_density=0.1 --out runs/mine\n"
        f"  gossamer search {EXPERIMENT.name}      after copying and changing {EXPERIMENT}\n"
        f"  gossamer export {home / 'sparse'} -o model.onnx",
        highlight=False,
        soft_wrap=True,
    )
    return Result(dense, sparse, experiment, chosen, written)


def _run(folder: Path, recipe: Recipe, task: Task, say: Console, label: str) -> dict[str, Any]:
    """Train and save; or read a finished run of the same recipe."""
    done = folder / "metrics.json"
    if done.exists():
        say.print(f"{folder} is there already; --fresh starts again")
        metrics: dict[str, Any] = json.loads(done.read_text())
        return metrics
    with folder_for(folder, *FILES):
        checkpoint = folder / "checkpoint.safetensors"
        trained = train(recipe, task, checkpoint=checkpoint, progress=True, label=label)
        metrics = trained.save(folder, progress=True)
    say.print(
        f"{label}: {metrics['accuracy']:.1%} on test, "
        f"{metrics['weights']['nonzero']:,} non-zero weights"
    )
    return metrics
