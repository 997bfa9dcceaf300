"""Training of a recipe; evaluating, measuring and saving the trained network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import nn

from gossamer import __version__
from gossamer.data import TASKS, Task
from gossamer.errors import UserError
from gossamer.files import make_folder, write_text, writing
from gossamer.nn import export, to_deterministic, unrounded
from gossamer.runtime import machine
from gossamer.sparsity import Sparsifier
from gossamer.training.checkpoint import DATA
from gossamer.training.distillation import ensemble, load_teacher
from gossamer.training.evaluate import Evaluation, evaluate
from gossamer.training.fit import fit
from gossamer.training.history import Epoch, History
from gossamer.training.loader import device_of, predict
from gossamer.training.measure import measure
from gossamer.training.recipe import Recipe
from gossamer.training.run import EXAMPLES, load_config
from gossamer.training.tensor_file import MODEL, add_prefix, save_tensors

_TIMED = 256  # test examples that the engine is planned and timed on
_CALIBRATION = 512  # at most so many training examples are saved
_CALIBRATION_BYTES = 2**23
_MASK = "mask."


def train(
    recipe: Recipe,
    task: Task | None = None,
    *,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = False,
    label: str = "training",
    trust: bool = False,
) -> Trained:
    """Build and train the network of ``recipe``.

    Args:
        recipe: what to train.
        task: the recipe's task, if it is loaded already; by default it is loaded.
        checkpoint, on_epoch, progress, label: see :func:`gossamer.training.fit`.
        trust: import the Python code that a teacher's run names as its network. Code that the
            recipe itself names is always imported.

    Raises:
        UserError: from loading the task, building the network or :func:`fit`.
    """
    task = task or recipe.load()
    model, sparsifier = recipe.network(len(task.classes), task.input_shape)
    _try(model, task, recipe)
    teachers = [
        load_teacher(run, task, trust=trust or load_config(run)["model"] == recipe.model)
        for run in recipe.teachers
    ]
    history = fit(
        model,
        task,
        recipe.training(),
        sparsifier=sparsifier,
        scaling=recipe.scaling(model, len(task.classes), task.input_shape),
        teacher=ensemble(teachers),
        checkpoint=checkpoint,
        origin=None if checkpoint is None else {**recipe.origin(), DATA: task.fingerprint},
        on_epoch=on_epoch,
        progress=progress,
        label=label,
    )
    return Trained(recipe, task, to_deterministic(model), sparsifier, history)


def _try(model: nn.Module, task: Task, recipe: Recipe) -> None:
    """Refuse a network that fails on the task's examples or returns no logits for them."""
    wanted = [2, len(task.classes)]
    x = torch.from_numpy(task.features(task.train.x[:2])).to(device_of(model))
    try:
        with unrounded(model):  # 8-bit layers have no ranges yet
            shape = list(predict(model, x).shape)
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"model '{recipe.model}' cannot take inputs [batch, "
            f"{', '.join(map(str, task.input_shape))}] of task '{recipe.task}': {error}"
        ) from error
    if shape != wanted:
        raise UserError(
            f"model '{recipe.model}' gives {shape} for two examples, wanted {wanted}: "
            "as many logits as there are classes"
        )


@dataclass(frozen=True)
class Trained:
    """A trained network with its recipe, task and history."""

    recipe: Recipe
    task: Task
    model: nn.Module
    sparsifier: Sparsifier | None
    history: History

    def evaluate(
        self,
        split: str = "test",
        *,
        noise: bool | None = None,
        timing: bool = True,
        progress: bool = False,
    ) -> Evaluation:
        """Evaluate the network; see :func:`gossamer.training.evaluate`.

        ``noise`` is the setting ``noise_score`` by default.
        """
        if noise is None:
            noise = self.recipe.training().noise_score
        return evaluate(self.model, self.task, split, noise=noise, timing=timing, progress=progress)

    def metrics(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return the content of ``metrics.json``: the evaluation and its provenance."""
        settings = self.recipe.training()
        return {
            "gossamer": __version__,
            "task": self.recipe.task,
            "synthetic": self.task.synthetic,
            "source": self.task.source,
            DATA: self.task.fingerprint,
            "model": self.recipe.model,
            "settings": dict(self.recipe.settings),
            "machine": machine(),
            "seed": settings.seed,
            "epochs": len(self.history.epochs),
            "training_seconds": self.history.seconds(),
            **evaluation.as_dict(),
            "history": [asdict(epoch) for epoch in self.history.epochs],
        }

    def save(
        self, folder: str | Path, evaluation: Evaluation | None = None, *, progress: bool = False
    ) -> dict[str, Any]:
        """Write the run directory and return the metrics.

        The files are ``config.toml``, ``metrics.json``, ``model.safetensors``, ``model.onnx``,
        ``plan.json`` (the engine's choice of kernels) and, for the user's own data,
        ``examples.npy``. Each is written to a temporary name first, ``metrics.json`` last, so
        that a run directory with it is complete.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = make_folder(Path(folder))
        metrics = self.metrics(evaluation or self.evaluate(progress=progress))
        save_network(self, path)
        export_network(self, path / "model.onnx")
        metrics |= self.measured(path / "model.onnx", path / "plan.json")
        write_text(path / "metrics.json", json.dumps(metrics, indent=1))
        return metrics

    def measured(self, model: Path, plan: Path | None = None) -> dict[str, Any]:
        """Measure the exported network on the engine with test examples.

        Args:
            model: the ONNX file.
            plan: file for the engine's plan.
        """
        inputs = self.task.features(self.task.test.x[:_TIMED])
        return measure(model, inputs, self.recipe.measuring(), plan)


def save_network(trained: Trained, folder: Path) -> None:
    """Write ``config.toml``, ``model.safetensors`` and, for the user's own data, ``examples.npy``.

    Raises:
        UserError: a file cannot be written.
    """
    recipe, task = trained.recipe, trained.task
    config = {"task": recipe.task, "model": recipe.model, "settings": dict(recipe.settings)}
    write_text(folder / "config.toml", tomli_w.dumps(config))
    if recipe.task not in TASKS:
        count = min(
            _CALIBRATION, max(_CALIBRATION_BYTES // task.features(task.train.x[:1]).nbytes, 1)
        )
        with writing(folder / EXAMPLES) as file:
            np.save(file, task.features(task.train.x[:count]))
    masks = trained.sparsifier.masks if trained.sparsifier is not None else {}
    save_tensors(
        folder / "model.safetensors",
        {**add_prefix(trained.model.state_dict(), MODEL), **add_prefix(masks, _MASK)},
        {
            "classes": list(task.classes),
            "input_shape": list(task.input_shape),
            "description": task.description,
        },
    )


def export_network(trained: Trained, path: Path) -> None:
    """Write the network as ONNX; see :func:`gossamer.nn.export`."""
    example = torch.zeros(1, *trained.task.input_shape, device=device_of(trained.model))
    export(trained.model, example, path, trained.task.description)
