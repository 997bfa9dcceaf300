"""Compression of torch modules in memory, with data, evaluation and training of the user."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gossamer.compression.goals import SCORE
from gossamer.compression.guessing import check_knows
from gossamer.compression.tuning import SPARSITY, Tuning, least_epochs
from gossamer.data import Task, task_of
from gossamer.deploy.metrics import METRICS, MeasureSettings, known_metrics, read_metrics
from gossamer.errors import UserError
from gossamer.files import copy_file, make_folder, write_text
from gossamer.nn import export
from gossamer.search import Experiment, Trial, TrialRecord
from gossamer.search.metrics import as_number
from gossamer.settings import below, strip_prefix
from gossamer.sparsity import Sparsifier, SparsitySettings
from gossamer.sparsity.layers import unwrap
from gossamer.sparsity.masks import unmasked_layer
from gossamer.training import TrainingConfig, count, evaluate, fit
from gossamer.training.distillation import fingerprint
from gossamer.training.initial import rearranged, trained_longer, with_winners
from gossamer.training.measure import measure, returned
from gossamer.training.tensor_file import MODEL, add_prefix, save_tensors

#: Returns one metric of a network, or several by name.
Evaluate = Callable[[nn.Module], float | Mapping[str, float]]
#: Trains a network further; the sparsifier's ``step`` is to run after each optimizer step.
Train = Callable[[nn.Module, Sparsifier], object]

_MEASURED = 256
# File of the dense network's fingerprint.
_NETWORK = "network.sha256"


@dataclass(frozen=True)
class PruneModule:
    """The function of a trial: prune a copy of the module, train, evaluate and measure it."""

    model: nn.Module
    inputs: Tensor
    task: Task | None
    evaluate: Evaluate | None
    train: Train | None
    folder: str
    metrics: tuple[str, ...]
    settings: Mapping[str, Any]

    def __call__(self, trial: Trial) -> dict[str, Any]:
        values = {**self.settings, **trial.parameters}
        model = None
        if trial.continued:
            run = self._place(trial.origin)
            values = trained_longer(values, trial.continued, run)
            if values.get("init") == str(run):
                model = self.restored(trial.origin)
        if model is None:
            model = self._network(values)
        density, by_layer = values["weight_density"], below(values, "weight_density")
        settings = SparsitySettings.of(values)
        sparsifier = settings.sparsifier(model, density, by_layer, rescale=False)
        if self.train is None:
            assert self.task is not None
            fit(
                model,
                self.task,
                TrainingConfig.of(values),
                sparsifier=sparsifier,
                teacher=copy.deepcopy(self.model),
                on_epoch=lambda epoch: trial.report(
                    epoch.epoch, {"accuracy": epoch.accuracy}, of=values["epochs"]
                ),
            )
        else:
            for _ in range(values["epochs"]):
                self.train(model, sparsifier)
            _restore_zeros(sparsifier)
        place = make_folder(self._place(trial.number))
        save_tensors(place / "model.safetensors", add_prefix(model.state_dict(), MODEL), {})
        write_text(place / "values.json", json.dumps(values))
        return returned(*self.measured(model, place, "validation", self.metrics))

    def _network(self, values: Mapping[str, Any]) -> nn.Module:
        model = copy.deepcopy(self.model)
        rearranged(model, values)
        return with_winners(model, values, self.inputs[:2])

    def _place(self, number: int | None) -> Path:
        return Path(self.folder) / "trials" / str(number)

    def restored(self, number: int | None) -> nn.Module:
        """Return the network of a finished trial, in evaluation mode."""
        place = self._place(number)
        model = self._network(json.loads((place / "values.json").read_text()))
        model.load_state_dict(strip_prefix(load_file(place / "model.safetensors"), MODEL))
        return model.eval()

    def measured(
        self, model: nn.Module, place: Path, split: str, names: Iterable[str] | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the metrics ``names`` (None: all), and the contents of ``metrics.json``.

        Exports the network to ``place`` and measures it on the engine.
        """
        model.eval()
        export(model, self.inputs[:2], place / "model.onnx")
        settings = MeasureSettings.of(self.settings)
        # The dense network is compared with itself.
        if Path(settings.dense_reference) == place:
            settings = MeasureSettings()
        inputs = self.inputs.cpu().numpy()
        run: dict[str, Any] = {"split": split}
        own: dict[str, float] = {}
        if self.task is not None:
            run |= evaluate(model, self.task, split, noise=False, timing=False).as_dict()
        else:
            counts = count(model, [self.inputs])
            run["weights"] = {
                "total": counts.weights,
                "nonzero": counts.nonzero,
                "density": counts.density,
            }
            run["activations"] = counts.activity()
            run["macs"] = counts.macs()
        if self.evaluate is not None:
            own = _checked(self.evaluate(model))
            run["own"] = own
        run |= measure(place / "model.onnx", inputs, settings, place / "plan.json")
        write_text(place / "metrics.json", json.dumps(run, indent=1))
        if names is None:
            table = known_metrics(run)
        else:
            table = read_metrics(run, [name for name in names if name not in own])
            # Those that need no engine are stored with every trial.
            known = known_metrics(run).items()
            own = {**own, **{name: v for name, v in known if not METRICS[name].deployed}}
        return {**table, **own}, run


def _restore_zeros(sparsifier: Sparsifier) -> None:
    """Apply the masks after a user's training, with a warning if it has changed masked weights.

    The network would be dense otherwise, and pass as a sparse one.
    """
    if (name := unmasked_layer(sparsifier.weights, sparsifier.masks)) is not None:
        warnings.warn(
            f"train has changed masked weights of layer '{name}', which are zero again now; let "
            "train(model, sparsifier) call sparsifier.attach(optimizer) before its first step",
            stacklevel=2,
        )
    sparsifier.apply()


def _checked(result: float | Mapping[str, float]) -> dict[str, float]:
    """Return what the user's ``evaluate`` returned, as finite numbers by name."""
    values = result if isinstance(result, Mapping) else {SCORE: result}
    own: dict[str, float] = {}
    for name, value in values.items():
        number = as_number(value)
        if number is None or not math.isfinite(number):
            raise UserError(
                f"evaluate returned {value!r:.60} as '{name}'; return a finite number, or a "
                "mapping of metrics to such numbers"
            )
        own[str(name)] = number
    return own


class ModuleNetwork:
    """A torch module with its data, and functions to train and evaluate it.

    Args:
        model: the trained module.
        data: data that `gossamer.data.task_of` takes; with ``evaluate`` and ``train``, any
            iterable whose items begin with a batch of inputs, or one such batch.
        folder: folder for the networks.
        evaluate: the user's evaluation, see `compress`.
        train: the user's training, see `compress`.

    Raises:
        UserError: data in an unknown form.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        folder: Path,
        *,
        evaluate: Evaluate | None = None,
        train: Train | None = None,
    ) -> None:
        self.folder = folder
        self.model = copy.deepcopy(unwrap(model)).cpu().eval()
        own = evaluate is not None and train is not None
        task = None if own else task_of(data, "data")
        if task is None:
            inputs = _first_inputs(data)
        else:
            self.model.float()  # as its inputs are, and as the engine computes
            inputs = torch.from_numpy(task.features(task.test.x[:_MEASURED]))
            _check_answers(self.model, inputs[:2], len(task.classes))
        self._trainer = PruneModule(
            self.model, inputs, task, evaluate, train, str(folder), (), self.settings
        )
        self.values: dict[str, float] = {}
        self.run: dict[str, Any] = {}
        self.own: tuple[str, ...] = ()

    def measure(self, on_part: Callable[[str], object] = lambda text: None) -> None:
        """Evaluate and time the network, on validation examples.

        Warns of a network that answers no better than guessing.

        Args:
            on_part: called with the name of each part when it begins.
        """
        on_part("accuracy and times")
        place = make_folder(self.folder / "dense")
        self._check_earlier(place / _NETWORK)
        self.values, self.run = self._trainer.measured(self.model, place, "validation", None)
        write_text(place / _NETWORK, fingerprint(self.model))
        self.own = tuple(self.run.get("own", ()))
        if task := self._trainer.task:
            check_knows(self.title, self.values["accuracy"], len(task.classes))

    def _check_earlier(self, file: Path) -> None:
        """Refuse the folder of another network: its trials would be continued and compared.

        The data are not compared: loaders may give them in another order or varied.
        """
        if file.is_file() and file.read_text() != fingerprint(self.model):
            raise UserError(
                f"{self.folder} is of another network than this {type(self.model).__name__}, with "
                "other weights; choose another out, or delete it"
            )

    @property
    def example(self) -> Tensor:
        """Return two inputs of the network."""
        return self._trainer.inputs[:2]

    @property
    def title(self) -> str:
        """Return a description of the network."""
        return type(self.model).__name__

    def tuning(self, minutes: float | None = None) -> Tuning:
        """Return the settings of fine-tuning; an epoch is a call of a user's function."""
        if self._trainer.train is not None:
            return Tuning(1, None)
        assert self._trainer.task is not None
        examples = len(self._trainer.task.train)
        size = max(2, min(64, examples))
        settings = {"optimizer": "adamw", "batch_size": size, "warmup": 0.1}
        return Tuning(max(5, least_epochs(examples, size)), (1e-4, 3e-3), settings)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that all trials share."""
        return {**SPARSITY, "dense_reference": str(self.folder / "dense")}

    def trainer(self, experiment: Experiment) -> PruneModule:
        """Return the function that evaluates a trial."""
        names = tuple(metric.name for metric in experiment.metrics)
        return replace(self._trainer, metrics=names, settings=experiment.settings)

    def finish(self, experiment: Experiment, record: TrialRecord) -> dict[str, Any]:
        """Save a trial's network in ``sparse``; evaluate it and the dense one on test data."""
        trainer = self.trainer(experiment)
        if trainer.task is not None:
            tested = evaluate(self.model, trainer.task, "test", noise=False, timing=False)
            self.run = {**self.run, **tested.as_dict()}
            write_text(self.folder / "dense" / "metrics.json", json.dumps(self.run, indent=1))
        place = make_folder(self.folder / "sparse")
        self.model = trainer.restored(record.number)
        name = "model.safetensors"
        copy_file(self.folder / "trials" / str(record.number) / name, place / name)
        return trainer.measured(self.model, place, "test", None)[1]


def _check_answers(model: nn.Module, inputs: Tensor, classes: int) -> None:
    """Raise UserError for a module that does not return a number for each class."""
    try:
        with torch.inference_mode():
            answers = model(inputs)
    except RuntimeError:  # of inputs that do not fit: the export says it
        return
    returned = list(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
    if not isinstance(answers, Tensor) or answers.dim() != 2 or answers.shape[1] < classes:
        raise UserError(
            f"the module returns {returned} for {len(inputs)} examples; return one tensor "
            f"[batch, {classes}], a number for each class, or give evaluate and train"
        )


def _first_inputs(data: Any) -> Tensor:
    """Return the first batch of inputs in ``data``."""
    item: Any = data
    if not isinstance(item, Tensor | np.ndarray):
        try:
            item = next(iter(data))
        except (TypeError, StopIteration):
            raise UserError(
                f"data is {type(data).__name__}; give a loader, or a batch of inputs"
            ) from None
        if isinstance(item, tuple | list):
            item = item[0]
    if not isinstance(item, Tensor | np.ndarray) or not len(item):
        raise UserError(
            f"data: the first batch is {type(item).__name__}, not a tensor of inputs; with "
            "evaluate and train, data can be one such tensor, as the model takes it"
        )
    return torch.as_tensor(item)[:_MEASURED].detach().cpu()
