"""Compression of networks by name: a run, a reference network, a function in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gossamer.compression.guessing import check_knows
from gossamer.compression.precision import fastest_precision
from gossamer.compression.tuning import SPARSITY, Tuning, least_epochs
from gossamer.data import AugmentationSettings
from gossamer.data.images import Images
from gossamer.deploy.metrics import known_metrics
from gossamer.errors import UserError, one_line
from gossamer.files import write_text
from gossamer.models import MODELS
from gossamer.own_code import is_code
from gossamer.search import Experiment, TrainNetwork, TrialRecord
from gossamer.search.networks import loaded_task
from gossamer.settings import strip_prefix
from gossamer.sparsity import SparsitySettings
from gossamer.training import (
    History,
    Recipe,
    Trained,
    TrainingConfig,
    load_network,
    load_recipe,
    train,
)
from gossamer.training.checkpoint import DATA
from gossamer.training.distillation import fingerprint
from gossamer.training.tensor_file import MODEL, load_into

_MOST_EPOCHS = 10
# A training may take so much of the time that there is, and be so many times as long as that of the
# dense network: with few weights and winners a network learns more slowly.
_SHARE = 1 / 12
_LONGER = 4
# The first trials' learning rate, as a share of that of the dense network's training.
_RATE = 0.5
# Padding of a crop, as one part in so many of the picture's smaller side: two pixels of 28.
_CROPPED = 12
# Settings of how a network was trained, which say nothing of what it is.
_OF_TRAINING = {
    *TrainingConfig.names(),
    *SparsitySettings.names(),
    *("init", "teacher", "rearrange", "base", "variational", "measure", "dense_reference"),
}
# Settings of a training that hold for the further one too. Masked rows and columns do not: a sparse
# network learns too little from them (docs/results/keywords.md). The dense one did, and is its
# teacher.
_KEPT = ("batch_size", "precision", "augment", "flip", "crop", "shift", "gain")


class NamedNetwork:
    """A network by name, on a task, saved as a run in ``folder / "dense"``.

    Args:
        network: run directory, name of a reference network, or ``file.py:function``.
        data: name of a task, see :func:`gossamer.data.load`.
        folder: folder for the runs.
        weights: safetensors file of the network's state dict.
        settings: settings of the model, unless it is a run.
        trust: run the code that a run names.
        progress: show progress bars.

    Raises:
        UserError: no such network or data, or weights that do not fit.
    """

    def __init__(
        self,
        network: str | os.PathLike[str],
        data: str | os.PathLike[str],
        folder: Path,
        *,
        weights: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        trust: bool = False,
        progress: bool = True,
    ) -> None:
        self.folder, self._progress = folder, progress
        name = os.fspath(network)
        self.from_run = name not in MODELS and Path(name).is_dir()
        named = dict(settings or {})
        if self.from_run:
            if weights is not None or named:
                raise UserError(f"{name} is a run and has its own weights and settings")
            recipe = load_recipe(name, trust=trust)
            for setting in ("int8", "variational"):
                if recipe.settings.get(setting):
                    raise UserError(
                        f"{name} was trained with {setting}: compress a run without it, "
                        "and export that with --int8 where 8 bits are wanted"
                    )
            self._trained_with = recipe.settings
            named = {k: v for k, v in recipe.settings.items() if not _of_training(k)}
            self.recipe = Recipe(os.fspath(data), recipe.model, named)
        else:
            data = os.fspath(data)
            if weights is not None and "standardize" not in named and data.endswith(".npz"):
                named["standardize"] = False
            self.recipe = Recipe(data, name, named)
            self._trained_with = self.recipe.settings
        self._name, self._weights = name, weights
        self.task = loaded_task(self.recipe, again=True)
        self._dense = self._trained_network(trust)
        self.model = self._dense.model
        self.run: dict[str, Any] = {}
        self.values: dict[str, float] = {}
        self.own: tuple[str, ...] = ()

    def measure(self, on_part: Callable[[str], object] = lambda text: None) -> None:
        """Evaluate and time the network; write the run ``dense`` if it does not exist yet.

        Only validation examples are used, so that the search can begin soon; see `finish`. Warns
        of a network that answers no better than guessing.

        Args:
            on_part: called with the name of each part when it begins.

        Raises:
            UserError: the network answers no better than guessing, because it has no weights.
        """
        on_part("accuracy on validation examples")
        evaluation = self._dense.evaluate("validation", noise=False, timing=False)
        without = self._weights is None and is_code(self._name)
        check_knows(
            self._name,
            evaluation.accuracy,
            len(self.task.classes),
            "give its weights, --weights FILE.safetensors, or train it with 'gossamer train' and "
            "give the run"
            if without
            else None,
        )
        on_part("its kernels and times")
        place = self.folder / "dense"
        if (place / "metrics.json").is_file():
            self.run = json.loads((place / "metrics.json").read_text())
        else:
            self.run = self._dense.save(place, evaluation)
            (place / "checkpoint.safetensors").unlink(missing_ok=True)
        # A network from a run has the time of its training in that run's metrics.
        own = Path(self._name) / "metrics.json" if self.from_run else None
        known = own is not None and own.is_file()
        self._training = json.loads(own.read_text()) if known and own else self.run
        self.values = known_metrics({**self.run, **evaluation.as_dict()})

    @property
    def example(self) -> torch.Tensor:
        """Return two inputs of the network."""
        return torch.from_numpy(self.task.features(self.task.train.x[:2]))

    @property
    def title(self) -> str:
        """Return a description of the network."""
        return f"{self.recipe.model} on {self.recipe.task}"

    def _trained_network(self, trust: bool) -> Trained:
        """Return the dense network: read from ``folder``, or else trained if it has no weights."""
        place = self.folder / "dense"
        named = self._named_model(trust)
        if (place / "metrics.json").is_file():
            model = self._earlier(place, named)
        elif named is not None:
            model = named
        else:
            place.mkdir(parents=True, exist_ok=True)
            return train(
                self.recipe,
                self.task,
                checkpoint=place / "checkpoint.safetensors",
                progress=self._progress,
                label="dense network",
            )
        return Trained(self.recipe, self.task, model, None, History())

    def _named_model(self, trust: bool) -> nn.Module | None:
        """Return the trained network that the caller named; None if it has no weights."""
        if self.from_run:
            model, classes, shape = load_network(self._name, trust=trust)
            self._check(classes, shape)
            return model
        if self._weights is None and not is_code(self._name):
            return None
        model, _ = self.recipe.network(len(self.task.classes), self.task.input_shape)
        if self._weights is not None:
            _load(model, Path(self._weights))
        return model.eval()

    def _earlier(self, place: Path, named: nn.Module | None) -> nn.Module:
        """Return the dense network of an earlier call, which must be of the same network and data.

        Otherwise its trials would be compared with those of another network, or other examples.
        """
        # The code that a run of our own names was trusted when it was written.
        model, classes, shape = load_network(place, trust=True)
        self._check(classes, shape)
        same = load_recipe(place, trust=True).origin() == self.recipe.origin()
        if not same or (named is not None and fingerprint(named) != fingerprint(model)):
            raise UserError(
                f"{self.folder} is of another network than {self._name}, with other weights or "
                "settings; choose another --out, or delete it"
            )
        data = json.loads((place / "metrics.json").read_text()).get(DATA, self.task.fingerprint)
        if data != self.task.fingerprint:
            raise UserError(
                f"{self.folder} was made with other examples than {self.recipe.task} has now; "
                "restore them, choose another --out, or delete it"
            )
        return model

    def _check(self, classes: tuple[str, ...], shape: tuple[int, ...]) -> None:
        if shape != self.task.input_shape or len(classes) != len(self.task.classes):
            raise UserError(
                f"the network takes {list(shape)} and knows {len(classes)} classes, "
                f"'{self.task.name}' has {list(self.task.input_shape)} and "
                f"{len(self.task.classes)}: give the data that it was trained for"
            )

    def tuning(self, minutes: float | None = None) -> Tuning:
        """Return the settings of fine-tuning: those of its training, shorter, at a lower rate.

        Args:
            minutes: length of the search. If the time of an epoch is known, a training is as long
                as fits a dozen times into the search, at most four times as long as its own.
        """
        before = {k: v for k, v in self._trained_with.items() if k in _KEPT}
        before.setdefault("batch_size", 64)
        before["batch_size"] = max(2, min(before["batch_size"], len(self.task.train)))
        settings = {**before, "warmup": 0.1, "noise_score": False}
        if "precision" not in settings:
            batch = self.task.features(self.task.train.x[: before["batch_size"]])
            settings["precision"] = fastest_precision(self.model, torch.from_numpy(batch))
        least = least_epochs(len(self.task.train), before["batch_size"])
        crop = self._crop()
        if "learning_rate" not in self._trained_with:
            adam = {**settings, "optimizer": "adamw"}
            return Tuning(max(5, least), (1e-4, 3e-3), adam, crop=crop)
        known = TrainingConfig.of(self._trained_with)
        settings |= {"optimizer": known.optimizer, "weight_decay": known.weight_decay}
        epochs = max(min(max(known.epochs // 3, 3), _MOST_EPOCHS), least)
        seconds = sum(self._training.get("training_seconds", {}).values())
        if minutes is not None and seconds > 0 and (done := self._training.get("epochs")):
            affordable = int(60 * minutes * _SHARE / (seconds / done))
            epochs = min(max(affordable, 3), max(_LONGER * known.epochs, least))
        rate = known.learning_rate
        return Tuning(epochs, (rate / 30, rate), settings, _RATE * rate, crop)

    def _crop(self) -> int:
        """Return the padding of crops for pictures that the training has not varied at all."""
        varied = any(self._trained_with.get(name) for name in AugmentationSettings.names())
        if varied or not isinstance(self.task.domain, Images):
            return 0
        return min(self.task.input_shape[1:]) // _CROPPED

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that all trials share."""
        dense = str(self.folder / "dense")
        return {
            "task": self.recipe.task,
            "model": self.recipe.model,
            **{k: v for k, v in self.recipe.settings.items() if not _of_training(k)},
            "init": dense,
            "teacher": dense,
            "dense_reference": dense,
            **SPARSITY,
        }

    def trainer(self, experiment: Experiment) -> TrainNetwork:
        """Return the function that evaluates a trial."""
        return TrainNetwork.for_experiment(experiment, self.folder / "trials", reload=False)

    def finish(self, experiment: Experiment, record: TrialRecord) -> dict[str, Any]:
        """Save a trial's network as the run ``sparse``; evaluate it and the dense one on test."""
        if self.run["split"] != "test":
            dense = self._dense.evaluate(noise=False).as_dict()
            self.run = {**self.run, **dense}
            write_text(self.folder / "dense" / "metrics.json", json.dumps(self.run, indent=1))
        place = self.folder / "trials" / str(record.number)
        model, _, _ = load_network(place, trust=True)
        recipe = load_recipe(place, trust=True)
        trained = Trained(recipe, self.task, model, None, History())
        return trained.save(self.folder / "sparse", trained.evaluate(noise=False))


def _of_training(name: str) -> bool:
    return name in _OF_TRAINING or name.partition(".")[0] == "weight_density"


def _load(model: nn.Module, path: Path) -> None:
    """Load a state dict, or the weights of a run, from a safetensors file."""
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: weights are read from safetensors files only, which contain no code; write "
            "one with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from None
    if tensors and all(name.startswith((MODEL, "mask.")) for name in tensors):
        tensors = strip_prefix(tensors, MODEL)
    load_into(model, tensors, path, "give the file of this network, and its sizes with --set")
