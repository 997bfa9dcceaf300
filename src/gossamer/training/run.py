"""A run directory: its files, and reading them back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from torch import nn

from gossamer.errors import UserError
from gossamer.files import subfolders_with
from gossamer.models import MODELS
from gossamer.nn import to_deterministic
from gossamer.own_code import is_code
from gossamer.settings import strip_prefix
from gossamer.training.recipe import Recipe
from gossamer.training.tensor_file import MODEL, check_tensors, load_into, load_tensors

#: File of a run on the user's own data: training inputs from which a later export finds the ranges
#: of activations, because the data may be gone by then.
EXAMPLES = "examples.npy"

#: All files of a run.
FILES = (
    "config.toml",
    "metrics.json",
    "model.safetensors",
    "model.onnx",
    "plan.json",
    EXAMPLES,
)


def load_network(
    run: str | Path, *, trust: bool = False
) -> tuple[nn.Module, tuple[str, ...], tuple[int, ...]]:
    """Load a run's network; return it in evaluation mode, its classes and its input shape.

    ``trust``: see :func:`load_recipe`.

    Raises:
        UserError: the folder is no run, a file in it is missing or damaged, or it names code
            without ``trust``.
    """
    folder = Path(run)
    path = folder / "model.safetensors"
    recipe = load_recipe(folder, trust=trust)
    tensors, data = load_tensors(path)
    try:
        classes, shape = tuple(data["classes"]), tuple(data["input_shape"])
    except (KeyError, TypeError):
        raise UserError(f"{path} is not the network of a run; train the run again") from None
    model, _ = recipe.network(len(classes), shape, initial=False)
    model = to_deterministic(model)
    remedy = f"it was not trained with {folder / 'config.toml'}; train the run again"
    load_into(model, strip_prefix(tensors, MODEL), path, remedy)
    return model.eval(), classes, shape


def onnx_of(run: str | Path) -> Path:
    """Return the path of a run's ONNX file; no code of the run is executed.

    Raises:
        UserError: there is none, or the run's weights are damaged.
    """
    path, weights = Path(run) / "model.onnx", Path(run) / "model.safetensors"
    check_tensors(weights, load_tensors(weights)[0])
    if not path.is_file():
        raise UserError(f"{run}: has no model.onnx; train the run again")
    return path


def load_description(run: str | Path) -> dict[str, Any]:
    """Read the description in a run's ONNX file: the classes, and how features are computed.

    Raises:
        UserError: the folder is no run, or its network is missing or damaged.
    """
    _, data = load_tensors(Path(run) / "model.safetensors")
    return dict(data.get("description", {}))


def load_recipe(run: str | Path, *, trust: bool = False) -> Recipe:
    """Read the recipe of a run directory.

    ``trust``: import the Python code that the run may name, as in ``model = "net.py:build"``.
    Trust only runs of your own: code of others can do anything.

    Raises:
        UserError: the folder is no run, its ``config.toml`` is missing or damaged, or it names
            code without ``trust``.
    """
    config = load_config(run)
    check_trust(config["model"], config["task"], run, trust)
    return Recipe(config["task"], config["model"], config["settings"])


def check_trust(model: str | None, task: str | None, source: str | Path, trust: bool) -> None:
    """Refuse a file that names Python code as its network or data and is not trusted.

    Raises:
        UserError: ``model`` is no reference network or ``task`` is code, and ``source`` is not
            trusted.
    """
    code = {
        "network": model if model not in (None, *MODELS) else None,
        "task": task if task is not None and is_code(task) else None,
    }
    for kind, name in code.items():
        if name is not None and not trust:
            raise UserError(
                f"the {kind} of {source} is Python code, {name}, which would be run; if you "
                "trust it, give --trust (in Python trust=True)"
            )


def load_config(run: str | Path) -> dict[str, Any]:
    """Read ``config.toml`` of a run directory: ``task``, ``model`` and ``settings``.

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
    except (FileNotFoundError, NotADirectoryError):
        runs = subfolders_with(run, "config.toml")
        remedy = (
            f"name a run in it: {runs}" if runs else "make one with 'gossamer train TASK --out RUN'"
        )
        raise UserError(f"{run} is not a run directory: it has no config.toml; {remedy}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); train the run again") from None
