"""Trials that train one of gossamer's networks."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gossamer.data import Task, load
from gossamer.deploy.metrics import METRICS, error_rate, metric_named, read_metrics
from gossamer.errors import UserError
from gossamer.models import MODELS
from gossamer.search.experiment import Experiment
from gossamer.search.space.parameters import Choice
from gossamer.search.space.space import Space
from gossamer.search.trials.trial import Trial, TrialRecord
from gossamer.training import Epoch, Recipe, Trained, train
from gossamer.training.initial import trained_longer
from gossamer.training.measure import returned
from gossamer.training.trained import export_network


# Once in each worker process, not once a trial; the tasks of fidelities beside the full one.
@lru_cache(maxsize=4)
def _load(task: str, options: tuple[tuple[str, Any], ...]) -> Task:
    return load(task, **dict(options))


def loaded_task(recipe: Recipe, *, again: bool = False) -> Task:
    """Load the recipe's task, once in a process, or again if its data may have changed."""
    if again:
        _load.cache_clear()
    return _load(recipe.task, _options(recipe))


def _options(recipe: Recipe) -> tuple[tuple[str, Any], ...]:
    """Return the settings with which the task is loaded."""
    return tuple((k, v) for k, v in recipe.settings.items() if k == "standardize")


def _data_name(recipe: Recipe) -> str:
    """Return a name of the recipe's data."""
    return ", ".join([recipe.task, *(f"{k} = {v}" for k, v in _options(recipe))])


def recipe_of(*mappings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a trial, from its merged settings; see :func:`merged`.

    Raises:
        UserError: no task or model, or a name or value that training does not have.
    """
    values = merged(*mappings)
    return Recipe(values.pop("task"), values.pop("model"), values)


def merged(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    """Merge an experiment's fixed settings and a trial's parameters, with task and model.

    Later mappings override earlier ones. The model may be a parameter. A name such as
    ``ds_cnn.width`` is the setting ``width`` of that model: it overrides ``width`` in the same
    mapping, and is left out for other models.

    Raises:
        UserError: no task or model, or a model among the settings of one.
    """
    values: dict[str, Any] = {}
    for name in ("task", "model"):
        named = [mapping[name] for mapping in mappings if name in mapping]
        if not named:
            raise UserError(f"[settings] has no '{name}': name what to train, {name} = \"...\"")
        model = named[-1]
    for mapping in mappings:
        if f"{model}.model" in mapping:
            raise UserError(f"'{model}.model' is no setting; name the model with 'model'")
        own = {k.partition(".")[2]: v for k, v in mapping.items() if owner(k) == model}
        values |= {k: v for k, v in mapping.items() if owner(k) is None} | own
    return {**values, "model": model}


def owner(name: str) -> str | None:
    """Return the model in the name of a setting; None for a setting of all models."""
    first, dot, _ = name.partition(".")
    return first if dot and first in MODELS else None


@dataclass(frozen=True)
class TrainNetwork:
    """The function of a trial, which trains a network and evaluates it on validation data.

    The test split is reserved for the networks that are finally chosen.
    """

    settings: Mapping[str, Any]
    # Fidelity -> its settings, which stand over the parameters too.
    cheaper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Names of the experiment's metrics: those of the deployed network are measured if named.
    metrics: tuple[str, ...] = ()
    # Gets a run directory of each trial, named by its number.
    folder: str | None = None
    # Fingerprints of the tasks' data: a worker, perhaps on another machine, loads them again.
    data: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def for_experiment(
        cls,
        experiment: Experiment,
        folder: str | os.PathLike[str] | None = None,
        *,
        reload: bool = True,
    ) -> TrainNetwork:
        """Check, before anything is trained, that the experiment's names are known.

        Args:
            experiment: the experiment, whose settings name the task and the model.
            folder: folder for a run directory of each trial, named by its number.
            reload: load data again that an earlier search of this process has loaded; they may
                have changed.

        Raises:
            UserError: an unknown task, model, setting, parameter, layer or metric name, a goal or
                threshold that is none for the metric, or stored trials of other data.
        """
        longer = experiment.continuation
        if longer is not None and longer.parameter != "epochs":
            raise UserError(
                f"continuation: parameter must be 'epochs' for networks, not '{longer.parameter}'"
            )
        space = Space(experiment.parameters)
        first = {parameter.name: parameter.decode(0.0) for parameter in experiment.parameters}
        choices = [p for p in experiment.parameters if isinstance(p, Choice) and p.name == "model"]
        points = [{**first, "model": m} for p in choices for m in p.options] or [first]
        made = cls(
            dict(experiment.settings),
            {f.name: dict(f.settings) for f in experiment.fidelities},
            tuple(metric.name for metric in experiment.metrics),
            None if folder is None else os.fspath(folder),
        )
        made._check_owners(experiment, [option for p in choices for option in p.options])
        for metric in experiment.metrics:
            known = metric_named(metric.name)
            if metric.goal != known.goal:
                use = "maximize or at_least" if known.goal.sign > 0 else "minimize or at_most"
                better = "more" if known.goal.sign > 0 else "less"
                raise UserError(f"metric '{metric.name}': {better} is better; use {use}")
            if metric.threshold is not None:
                known.check_number(metric.threshold, "threshold")
        if reload:
            _load.cache_clear()
        data: dict[str, str] = {}
        for point, fidelity in itertools.product(points, (None, *made.cheaper)):
            recipe = made._recipe(Trial(0, space.pruned(point), fidelity))
            task = loaded_task(recipe)
            recipe.network(len(task.classes), task.input_shape)
            data[_data_name(recipe)] = task.fingerprint
        experiment.set_data(data)
        return replace(made, data=data)

    def _check_owners(self, experiment: Experiment, models: Sequence[Any]) -> None:
        """Refuse a setting or parameter of a model that no trial uses, which would be ignored."""
        fixed = (self.settings, *self.cheaper.values())
        used = {*models, *(settings["model"] for settings in fixed if "model" in settings)}
        for name in [
            *(n for each in fixed for n in each),
            *(p.name for p in experiment.parameters),
        ]:
            if used and owner(name) not in (None, *used):
                raise UserError(
                    f"'{name}' is a setting of the model '{owner(name)}', which no trial uses "
                    f"(models: {', '.join(map(str, sorted(used)))}); leave it out"
                )

    def measured(self, stored: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the names of the metrics that a trial returns: all, but those of the deployed
        network only if the experiment or ``stored`` names them."""
        named = {*self.metrics, *stored}
        return tuple(n for n, metric in METRICS.items() if not metric.deployed or n in named)

    def _recipe(self, trial: Trial) -> Recipe:
        changes = self.cheaper[trial.fidelity] if trial.fidelity is not None else {}
        recipe = recipe_of(self.settings, trial.parameters, changes)
        if not trial.continued:
            return recipe
        run = None if self.folder is None else Path(self.folder) / str(trial.origin)
        longer = trained_longer(recipe.settings, trial.continued, run)
        return Recipe(recipe.task, recipe.model, longer)

    def _task(self, recipe: Recipe) -> Task:
        """Load the recipe's task.

        Raises:
            UserError: it has other data than where the search was started.
        """
        task, name = loaded_task(recipe), _data_name(recipe)
        if self.data.get(name, task.fingerprint) != task.fingerprint:
            raise UserError(
                f"'{name}' has other data here than where the search was started; give every "
                "machine the same data, and let a loader of your own return the same each time"
            )
        return task

    def __call__(self, trial: Trial) -> dict[str, Any]:
        recipe = self._recipe(trial)
        task = self._task(recipe)
        epochs = recipe.training().epochs

        def on_epoch(epoch: Epoch) -> None:
            numbers = {"accuracy": epoch.accuracy, "training_loss": epoch.loss}
            numbers["error_rate"] = error_rate(epoch.accuracy)
            if epoch.density is not None:
                numbers["density"] = epoch.density
            trial.report(epoch.epoch, numbers, of=epochs)

        trained = train(recipe, task, on_epoch=on_epoch)
        names = self.measured(recipe.measuring().measure)
        evaluation = trained.evaluate("validation", noise=False, timing=False)
        run: dict[str, Any] = evaluation.as_dict()
        if self.folder is not None:
            run = trained.save(Path(self.folder) / str(trial.number), evaluation)
        elif any(METRICS[name].deployed for name in names):
            run |= _deployed(trained)
        return returned(read_metrics(run, names), run)


def _deployed(trained: Trained) -> dict[str, Any]:
    """Measure the exported network on the engine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_network(trained, path)
        return trained.measured(path)


def chosen_trial(experiment: Experiment, number: int | None = None) -> TrialRecord:
    """Return the completed trial ``number``, by default the frontier's best by the first metric.

    If no trial is inside the thresholds, the best is the nearest one.

    Raises:
        UserError: no such completed trial.
    """
    if number is not None:
        complete = {t.number: t for t in experiment.trials() if t.state == "complete"}
        if number not in complete:
            raise UserError(
                f"experiment '{experiment.name}' has no completed trial {number}; "
                "'gossamer frontier' lists the best ones"
            )
        return complete[number]
    frontier = experiment.frontier()
    if not frontier.trials:
        raise UserError(f"experiment '{experiment.name}' has no completed trial yet; search first")
    if not frontier.feasible:
        return frontier.trials[0]
    first = experiment.metrics[0]
    return max(frontier.trials, key=lambda trial: first.goal.sign * trial.values[first.name])
