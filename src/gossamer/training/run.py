"""A training from recipe to run directory, and back from there."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import nn

from gossamer import __version__
from gossamer.data import Task, load
from gossamer.deploy import engine_times
from gossamer.energy import count_work
from gossamer.errors import UserError
from gossamer.files import write_text
from gossamer.nn import export, harden
from gossamer.runtime import Engine, machine
from gossamer.sparsity import Sparsifier
from gossamer.training.checkpoint import (
    MODEL,
    give,
    load_tensors,
    make_folder,
    save_tensors,
    take,
)
from gossamer.training.evaluate import Evaluation, evaluate
from gossamer.training.examples import predict
from gossamer.training.fit import fit
from gossamer.training.history import Epoch, History
from gossamer.training.recipe import Recipe

# Test examples that the engine is planned and timed on.
_TIMED = 256

_MASK = "mask."


def train(
    recipe: Recipe,
    task: Task | None = None,
    *,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = False,
    label: str = "training",
) -> Trained:
    """Build and train the network of ``recipe``.

    Args:
        recipe: what to train.
        task: the recipe's task where it is loaded already; else it is loaded.
        checkpoint, on_epoch, progress, label: see :func:`gossamer.training.fit`.

    Raises:
        UserError: what loading the task, building the network or :func:`fit` raise.
    """
    task = task or load(recipe.task)
    model, sparsifier = recipe.network(len(task.classes), task.input_shape)
    _try(model, task, recipe)
    history = fit(
        model,
        task,
        recipe.training(),
        sparsifier=sparsifier,
        scaling=recipe.scaling(model, len(task.classes), task.input_shape),
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        progress=progress,
        label=label,
    )
    return Trained(recipe, task, harden(model), sparsifier, history)


def _try(model: nn.Module, task: Task, recipe: Recipe) -> None:
    """Refuses a network that cannot take the task's examples, or gives no logits for them."""
    wanted = [2, len(task.classes)]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x = torch.from_numpy(task.features(task.train.x[:2])).to(device)
    try:
        found = list(predict(model, x).shape)
    except UserError:
        return  # 8-bit layers wait for training; all else is said again there
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"model '{recipe.model}' cannot take inputs [batch, "
            f"{', '.join(map(str, task.input_shape))}] of task '{recipe.task}': {error}"
        ) from error
    if found != wanted:
        raise UserError(
            f"model '{recipe.model}' gives {found} for two examples, wanted {wanted}: "
            "as many logits as there are classes"
        )


@dataclass(frozen=True)
class Trained:
    """A trained network with all that led to it."""

    recipe: Recipe
    task: Task
    model: nn.Module
    sparsifier: Sparsifier | None
    history: History

    def evaluate(
        self, split: str = "test", *, noise: bool = True, timing: bool = True
    ) -> Evaluation:
        """See :func:`gossamer.training.evaluate`."""
        return evaluate(self.model, self.task, split, noise=noise, timing=timing)

    def metrics(self, evaluation: Evaluation) -> dict[str, Any]:
        """What ``metrics.json`` holds: the evaluation and where it comes from."""
        settings = self.recipe.training()
        return {
            "gossamer": __version__,
            "task": self.recipe.task,
            "synthetic": self.task.synthetic,
            "source": self.task.source,
            "model": self.recipe.model,
            "settings": dict(self.recipe.settings),
            "machine": machine(),
            "seed": settings.seed,
            "epochs": len(self.history.epochs),
            **evaluation.as_dict(),
            "history": [asdict(epoch) for epoch in self.history.epochs],
        }

    def save(self, folder: str | Path, evaluation: Evaluation | None = None) -> dict[str, Any]:
        """Write the run directory; returns the metrics.

        ``config.toml``, ``metrics.json``, ``model.safetensors``, ``model.onnx``; each is
        written to a temporary name first, ``metrics.json`` last, so that a run directory
        with it is complete.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = make_folder(Path(folder))
        metrics = self.metrics(evaluation or self.evaluate())
        config = {
            "task": self.recipe.task,
            "model": self.recipe.model,
            "settings": dict(self.recipe.settings),
        }
        write_text(path / "config.toml", tomli_w.dumps(config))
        masks = self.sparsifier.masks if self.sparsifier is not None else {}
        save_tensors(
            path / "model.safetensors",
            {**give(self.model.state_dict(), MODEL), **give(masks, _MASK)},
            {
                "classes": list(self.task.classes),
                "input_shape": list(self.task.input_shape),
                "description": self.task.description,
            },
        )
        device = next(self.model.parameters()).device
        example = torch.zeros(1, *self.task.input_shape, device=device)
        export(self.model, example, path / "model.onnx", self.task.description)
        metrics |= self._running(path / "model.onnx")
        write_text(path / "metrics.json", json.dumps(metrics, indent=1))
        return metrics

    def _running(self, model: Path) -> dict[str, Any]:
        """The file's size, its times under the engine and its work, or why it has none."""
        inputs = self.task.features(self.task.test.x[:_TIMED])
        found: dict[str, Any] = {"file_bytes": model.stat().st_size}
        try:
            inputs = np.ascontiguousarray(inputs, np.float32)
            engine = Engine(model, threads=1, sample=inputs)
            own, dense = count_work(engine)
            found["engine"] = engine_times(engine, inputs)
        except UserError as error:  # a network of one's own may hold any operator
            return {**found, "engine": {"refused": str(error)}}
        works = {"own": own, "dense": dense}
        found["energy"] = {side: [w.as_dict() for w in listed] for side, listed in works.items()}
        return found


def load_network(run: str | Path) -> tuple[nn.Module, tuple[str, ...], tuple[int, ...]]:
    """The network of a run directory, in evaluation mode, its classes and input shape.

    Raises:
        UserError: the folder is no run, or a file in it is missing or damaged.
    """
    folder = Path(run)
    recipe = load_recipe(folder)
    tensors, data = load_tensors(folder / "model.safetensors")
    try:
        classes, shape = tuple(data["classes"]), tuple(data["input_shape"])
    except (KeyError, TypeError):
        raise UserError(
            f"{folder / 'model.safetensors'} is not the network of a run; train the run again"
        ) from None
    model, _ = recipe.network(len(classes), shape, initial=False)
    model = harden(model)
    try:
        model.load_state_dict(take(tensors, MODEL))
    except RuntimeError as error:
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit {folder / 'config.toml'} "
            f"({str(error).splitlines()[0]}); train the run again"
        ) from None
    return model.eval(), classes, shape


def load_description(run: str | Path) -> dict[str, Any]:
    """What a run's exported network says of itself: its classes and how features are made.

    Raises:
        UserError: the folder is no run, or its network is missing or damaged.
    """
    _, data = load_tensors(Path(run) / "model.safetensors")
    return dict(data.get("description", {}))


def load_recipe(run: str | Path) -> Recipe:
    """The recipe of a run directory.

    Raises:
        UserError: the folder is no run, or its ``config.toml`` is missing or damaged.
    """
    path = Path(run) / "config.toml"
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(config["model"], str):
            raise TypeError(f"model = {config['model']!r} is no name")
        return Recipe(config["task"], config["model"], config["settings"])
    except FileNotFoundError:
        raise UserError(
            f"{run} is not a run directory: it has no config.toml; "
            "make one with 'gossamer train TASK --out RUN'"
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); train the run again") from None
