"""Search for a sparse network that meets the goals, starting from a trained one."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import nn

from gossamer.compression.examination import Examination
from gossamer.compression.goals import Goals
from gossamer.compression.modules import Evaluate, ModuleNetwork, Train
from gossamer.compression.networks import NamedNetwork
from gossamer.compression.plan import write_experiment
from gossamer.compression.space import limits_of
from gossamer.errors import UserError
from gossamer.files import copy_file
from gossamer.numbers import whole
from gossamer.progress import progress_bar
from gossamer.search import Experiment, Trial, TrialRecord, chosen_trial
from gossamer.search.trials.trial import Report
from gossamer.training import folder_for, load_network

#: Minutes of a search by default, if the number of trials is not set either.
MINUTES = 30.0

_PUBLISHED = ("model.onnx", "plan.json")  # of the best run, beside the search


@dataclass(frozen=True)
class Compressed:
    """Results of `compress`.

    Attributes:
        experiment: the search.
        folder: holds ``experiment.toml``, ``search.db``, the run ``dense`` and, once a trial has
            ended, the run ``sparse``, ``model.onnx`` and ``plan.json``.
        look: properties of the network that limit its sparsity, in sentences.
        dense, sparse: contents of ``metrics.json`` of the two networks; with ``plan``, ``sparse``
            is None.
        trial: the chosen trial; with ``plan``, None.
        feasible: whether the trial meets all goals.
        model: the sparse network; with ``plan``, the dense one.
        interrupted: whether Ctrl-C ended the search.
    """

    experiment: Experiment
    folder: Path
    look: Sequence[str]
    dense: Mapping[str, Any]
    sparse: Mapping[str, Any] | None
    trial: TrialRecord | None
    feasible: bool
    model: nn.Module
    interrupted: bool = False


def compress(
    model: nn.Module | str | os.PathLike[str],
    data: Any,
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    lose_at_most: Mapping[str, float] | None = None,
    maximize: str | Sequence[str] = (),
    minimize: str | Sequence[str] = (),
    minutes: float | None = None,
    trials: int | None = None,
    workers: int = 1,
    threads: int | None = None,
    out: str | os.PathLike[str] = "runs/compress",
    weights: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
    train: Train | None = None,
    trust: bool = False,
    plan: bool = False,
    progress: bool = True,
    on_start: Callable[[Sequence[str]], object] = lambda look: None,
) -> Compressed:
    """Search for a sparse version of a trained network that meets the goals and is fast.

    This runs a search (:class:`gossamer.Experiment`) over densities, patterns, k-winners and
    trainings; each trial starts from the weights of ``model``. The first trials prune without
    training, so that there is a result after seconds; ``model.onnx`` in ``out`` is always the best
    network so far. When interrupted, it returns that network; called again, it continues.

    Args:
        model: a torch module (computed in float32, unless ``train`` is given), a run directory,
            the name of a reference network (which is trained first if there are no ``weights``),
            or ``file.py:function``.
        data: for a module, data that :func:`gossamer.data.task_of` takes, such as loaders of
            training, validation and test; otherwise the name of a task, see
            :func:`gossamer.data.load`.
        at_least, at_most: metric -> the worst acceptable value, on validation data.
        lose_at_most: metric -> the largest acceptable loss against ``model``; by default half a
            point of accuracy, if no other goal is about the quality of the answers.
        maximize, minimize: metrics to optimize; by default ``speedup`` is maximized.
        minutes: no trial starts after so many minutes; 30 by default.
        trials: largest number of trials in all.
        workers: number of trials that run at the same time.
        threads: threads of each worker.
        out: folder for the results.
        weights: safetensors file of the state dict, if ``model`` is a name.
        settings: settings of the model, if ``model`` is a name.
        evaluate: for tasks other than classification, a function of a module that returns a
            number (the metric ``score``, more is better) or a mapping of metrics to numbers, of
            which a goal says whether more or less is better.
        train: a function that trains the module further and calls the sparsifier's ``step``
            after each optimizer step (or attaches it to the optimizer).
        trust: run the Python code that a run names.
        plan: write ``experiment.toml`` and stop.
        progress: show progress bars on standard error.
        on_start: called with ``Compressed.look`` before the search.

    Raises:
        UserError: invalid network, data or goals, the folder of a run or of another compression,
            or no trial that completed.
        KeyboardInterrupt: on Ctrl-C, if no trial has completed yet.
    """
    goals = {"at_least": at_least or {}, "at_most": at_most or {}}
    goals["lose_at_most"] = lose_at_most or {}
    asked = bool(at_least or at_most or lose_at_most or maximize or minimize)
    if not isinstance(model, nn.Module):
        if evaluate is not None or train is not None:
            raise UserError("evaluate and train are for a torch module; a name needs neither")
        Goals(**goals, maximize=maximize, minimize=minimize)  # refused before anything is trained
    elif weights is not None or settings:
        raise UserError(
            "weights and settings are for a network given by its name; a module has its own"
        )
    elif train is not None and evaluate is None:
        raise UserError("train needs evaluate too, to measure what was trained")
    if trials is not None:
        whole(trials, 1, "trials")
    folder = Path(out)
    if (folder / "config.toml").exists():
        raise UserError(f"{folder} is a run, whose model.onnx would be lost; choose another --out")
    with folder_for(folder, *_PUBLISHED):
        network: NamedNetwork | ModuleNetwork
        if isinstance(model, nn.Module):
            network = ModuleNetwork(model, data, folder, evaluate=evaluate, train=train)
        else:
            named = {"weights": weights, "settings": settings, "trust": trust}
            network = NamedNetwork(model, data, folder, progress=progress, **named)  # type: ignore[arg-type]
        with _parts(progress) as on_part:
            network.measure(on_part)
            wanted = Goals(**goals, maximize=maximize, minimize=minimize, own=network.own)
            metrics = wanted.metrics(network.values)
            on_part("layers that can be sparse")
            examined = Examination.of(network.model, network.example, limits_of(metrics))
            look = examined.sentences()
        file = folder / "experiment.toml"
        if minutes is None and trials is None:
            minutes = MINUTES
        if not file.exists():
            heading = [
                f"gossamer compress: {network.title}",
                "dense: " + ", ".join(f"{m.name} {network.values[m.name]:.6g}" for m in metrics),
            ]
            tuning = network.tuning(minutes)
            shared = network.settings
            write_experiment(file, examined, tuning, metrics, shared, heading, wanted.quality)
        storage = f"sqlite:///{quote(str(folder / 'search.db'))}"
        experiment = Experiment.from_toml(file, check=network.trainer, storage=storage)
        _agree(experiment, network.settings, metrics if asked else None, file)
        on_start(look)
        if plan:
            return Compressed(
                experiment, folder, look, network.run, None, None, False, network.model
            )
        interrupted = _search(
            experiment, network, folder, workers, threads, minutes, trials, progress
        )
        record = chosen_trial(experiment)
        sparse = network.finish(experiment, record)
        _publish(folder / "sparse", folder)
        feasible = experiment.frontier().feasible
        compressed = network.model
        if isinstance(network, NamedNetwork):
            compressed = load_network(folder / "sparse", trust=True)[0]
        return Compressed(
            experiment,
            folder,
            look,
            network.run,
            sparse,
            record,
            feasible,
            compressed,
            interrupted,
        )


@contextmanager
def _parts(progress: bool) -> Iterator[Callable[[str], object]]:
    """Show a bar before the first trial; yield a function to call when a part begins."""
    with progress_bar(show=progress, transient=True) as bar:
        row = bar.add_task("looking at the network", total=3)
        begun = count()

        def on_part(text: str) -> None:
            bar.update(row, completed=next(begun), below=text)

        yield on_part


def _search(
    experiment: Experiment,
    network: NamedNetwork | ModuleNetwork,
    folder: Path,
    workers: int,
    threads: int | None,
    minutes: float | None,
    trials: int | None,
    progress: bool,
) -> bool:
    """Run the search up to a number of trials. Return whether Ctrl-C ended it."""
    ended = sum(trial.state in ("complete", "stopped") for trial in experiment.trials())
    if trials is not None and ended >= trials:
        return False
    try:
        experiment.run(
            network.trainer(experiment),
            workers=workers,
            threads=threads,
            minutes=minutes,
            trials=None if trials is None else trials - ended,
            progress=progress,
            loggers=[_Best(experiment, folder)],
        )
    except KeyboardInterrupt:
        if not experiment.frontier().trials:
            raise
        return True
    if not experiment.frontier().trials:
        failed = [t for t in experiment.trials() if t.state == "failed"]
        reason = failed[-1].reason if failed else "there was no time for any"
        raise UserError(f"no trial completed: {reason}")
    return False


class _Best:
    """Logger that puts the best network so far into the folder and removes those that
    neither the frontier nor longer training needs."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self._experiment, self._folder = experiment, folder
        self._best: int | None = None

    def report(self, experiment: str, trial: Trial, report: Report) -> None:
        """Do nothing while a trial trains."""

    def end(self, experiment: str, record: TrialRecord) -> None:
        if record.state != "complete":
            return
        frontier = {trial.number for trial in self._experiment.frontier().trials}
        best = chosen_trial(self._experiment).number
        if best != self._best:
            _publish(self._folder / "trials" / str(best), self._folder)
            self._best = best
        trials = self._experiment.trials()
        needed = frontier | {t.origin for t in trials if t.state in ("running", "waiting")}
        if (longer := self._experiment.continuation) is not None:
            worth = longer.candidates(self._experiment.metrics, trials)
            needed |= {trial.number for trial in worth}
        for other in trials:
            if other.state == "complete" and other.number not in needed:
                shutil.rmtree(self._folder / "trials" / str(other.number), ignore_errors=True)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _publish(run: Path, folder: Path) -> None:
    """Copy a run's files of `_PUBLISHED` into ``folder``."""
    for name in _PUBLISHED:
        if (run / name).is_file():
            copy_file(run / name, folder / name)


def _agree(
    experiment: Experiment,
    settings: Mapping[str, Any],
    metrics: Sequence[Any] | None,
    file: Path,
) -> None:
    """Refuse to continue an experiment of another network, data or goals."""
    for name in ("task", "model"):
        there, here = experiment.settings.get(name), settings.get(name)
        if there != here:
            raise UserError(
                f"{file} is of {name} {there}, not {here}; choose another --out, or delete it"
            )
    if metrics is None:
        return

    def limits_of(listed: Sequence[Any]) -> list[tuple[type, str, float]]:
        limits = ((m, math.inf if m.threshold is None else round(m.threshold, 9)) for m in listed)
        return sorted(((type(m), m.name, limit) for m, limit in limits), key=lambda t: t[1])

    if limits_of(experiment.metrics) != limits_of(metrics):
        raise UserError(
            f"{file} has other goals than these: leave the goals out to continue with its "
            "own, or choose another --out"
        )
