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
from gossamer.data import TASKS, Task, load
from gossamer.deploy import engine_times
from gossamer.energy import count_work
from gossamer.errors import UserError
from gossamer.files import write_text, writing
from gossamer.models import MODELS
from gossamer.nn import export, harden, unrounded
from gossamer.runtime import Engine, machine
from gossamer.sparsity import Sparsifier
from gossamer.training.checkpoint import (
    MODEL,
    check_tensors,
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

#: A file of a run on one's own data: training inputs, by which a later export finds the ranges of
#: activations; the data themselves may be gone by then.
EXAMPLES = "examples.npy"
_CALIBRATION = 512  # at most so many
_CALIBRATION_BYTES = 2**23


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
        with unrounded(model):  # 8-bit layers know no ranges yet
            found = list(predict(model, x).shape)
    except UserError:
        raise
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
        self,
        split: str = "test",
        *,
        noise: bool | None = None,
        timing: bool = True,
        progress: bool = False,
    ) -> Evaluation:
        """See :func:`gossamer.training.evaluate`; ``noise`` is that of the settings by default."""
        if noise is None:
            noise = self.recipe.training().noise_score
        return evaluate(self.model, self.task, split, noise=noise, timing=timing, progress=progress)

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

    def save(
        self, folder: str | Path, evaluation: Evaluation | None = None, *, progress: bool = False
    ) -> dict[str, Any]:
        """Write the run directory; returns the metrics.

        ``config.toml``, ``metrics.json``, ``model.safetensors``, ``model.onnx`` and, of one's
        own data, ``examples.npy``; each is written to a temporary name first, ``metrics.json``
        last, so that a run directory with it is complete.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = make_folder(Path(folder))
        metrics = self.metrics(evaluation or self.evaluate(progress=progress))
        config = {
            "task": self.recipe.task,
            "model": self.recipe.model,
            "settings": dict(self.recipe.settings),
        }
        write_text(path / "config.toml", tomli_w.dumps(config))
        if self.recipe.task not in TASKS:
            self._keep_examples(path / EXAMPLES)
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

    def _keep_examples(self, path: Path) -> None:
        one = self.task.features(self.task.train.x[:1]).nbytes
        count = min(_CALIBRATION, max(_CALIBRATION_BYTES // one, 1))
        with writing(path) as file:
            np.save(file, self.task.features(self.task.train.x[:count]))

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


def load_network(
    run: str | Path, *, trust: bool = False
) -> tuple[nn.Module, tuple[str, ...], tuple[int, ...]]:
    """The network of a run directory, in evaluation mode, its classes and input shape.

    ``trust``: see :func:`load_recipe`.

    Raises:
        UserError: the folder is no run, a file in it is missing or damaged, or it names code and
            is not trusted.
    """
    folder = Path(run)
    recipe = load_recipe(folder, trust=trust)
    tensors, data = load_tensors(folder / "model.safetensors")
    try:
        classes, shape = tuple(data["classes"]), tuple(data["input_shape"])
    except (KeyError, TypeError):
        raise UserError(
            f"{folder / 'model.safetensors'} is not the network of a run; train the run again"
        ) from None
    model, _ = recipe.network(len(classes), shape, initial=False)
    model = harden(model)
    weights = take(tensors, MODEL)
    check_tensors(folder / "model.safetensors", weights, model.state_dict())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit {folder / 'config.toml'} "
            f"({str(error).splitlines()[0]}); train the run again"
        ) from None
    return model.eval(), classes, shape


def onnx_of(run: str | Path) -> Path:
    """The ONNX file that training wrote into a run directory; nothing of the run is executed.

    Raises:
        UserError: there is none, or the weights that it was made of are damaged.
    """
    path, weights = Path(run) / "model.onnx", Path(run) / "model.safetensors"
    check_tensors(weights, load_tensors(weights)[0])
    if not path.is_file():
        raise UserError(f"{run}: has no model.onnx; train the run again")
    return path


def load_description(run: str | Path) -> dict[str, Any]:
    """What a run's exported network says of itself: its classes and how features are made.

    Raises:
        UserError: the folder is no run, or its network is missing or damaged.
    """
    _, data = load_tensors(Path(run) / "model.safetensors")
    return dict(data.get("description", {}))


def load_recipe(run: str | Path, *, trust: bool = False) -> Recipe:
    """The recipe of a run directory.

    ``trust``: import the Python code that a run of one's own network names, as in ``model =
    "net.py:build"``. A run received from others could name anything.

    Raises:
        UserError: the folder is no run, its ``config.toml`` is missing or damaged, or it names
            code and is not trusted.
    """
    config = load_config(run)
    if config["model"] not in MODELS and not trust:
        raise UserError(
            f"the network of {run} is Python code, {config['model']}, which would be run; if you "
            "trust it, give --trust (in Python trust=True)"
        )
    return Recipe(config["task"], config["model"], config["settings"])


def load_config(run: str | Path) -> dict[str, Any]:
    """What ``config.toml`` of a run directory holds: ``task``, ``model`` and ``settings``.

    Raises:
        UserError: the folder is no run, or its ``config.toml`` is missing or damaged.
    """
    path = Path(run) / "config.toml"
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        for name, kind in (("task", str), ("model", str), ("settings", dict)):
            if not isinstance(config[name], kind):
                raise TypeError(f"{name} = {config[name]!r}")
        return config
    except FileNotFoundError:
        raise UserError(
            f"{run} is not a run directory: it has no config.toml; "
            "make one with 'gossamer train TASK --out RUN'"
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); train the run again") from None
