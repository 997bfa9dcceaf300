"""Checkpoints: the state of a training in one file, to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import UserError, first_line
from gossamer.settings import strip_prefix
from gossamer.sparsity import Sparsifier
from gossamer.training.config import TrainingConfig
from gossamer.training.history import Epoch, History
from gossamer.training.tensor_file import MODEL, add_prefix, load_tensors, save_tensors

#: Name of the data's fingerprint in an origin.
DATA = "data"


def network_state(model: nn.Module, sparsifier: Sparsifier | None) -> dict[str, Tensor]:
    """Return weights and masks by name."""
    masks = sparsifier.state_dict() if sparsifier is not None else {}
    return {**add_prefix(model.state_dict(), MODEL), **add_prefix(masks, "sparsifier.")}


def restore_network(
    state: dict[str, Tensor], model: nn.Module, sparsifier: Sparsifier | None
) -> None:
    """Restore what `network_state` returned."""
    model.load_state_dict(strip_prefix(state, MODEL))
    if sparsifier is not None:
        sparsifier.load_state_dict(strip_prefix(state, "sparsifier."))


@dataclass
class TrainingState:
    """The state of a training: all that changes, and the settings that a checkpoint must match.

    Attributes:
        model, optimizer, sparsifier: see :func:`gossamer.training.fit`.
        config: the settings.
        teacher: the fingerprint of the teacher's weights, empty without one.
        origin: what else the checkpoint must agree with, see :func:`gossamer.training.fit`.
        history: the epochs so far.
        best: weights and masks of the best epoch so far, see `network_state`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sparsifier: Sparsifier | None
    config: TrainingConfig
    teacher: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)


def save_training(path: Path, state: TrainingState) -> None:
    """Write the state after an epoch.

    Raises:
        UserError: the file cannot be written.
    """
    moments, plain = _flatten_optimizer(state.optimizer.state_dict())
    tensors = {
        **network_state(state.model, state.sparsifier),
        **add_prefix(moments, "optimizer."),
        **add_prefix(state.best, "best."),
    }
    save_tensors(
        path,
        tensors,
        {
            "optimizer": plain,
            "history": asdict(state.history),
            "settings": asdict(state.config),
            "sparsity": repr(state.sparsifier),
            "teacher": state.teacher,
            "origin": state.origin,
        },
    )


def restore_training(path: Path, state: TrainingState) -> None:
    """Restore the state after the checkpoint's last epoch.

    Raises:
        UserError: the file is damaged, or of another network, teacher, origin or other settings.
    """
    sparsifier = state.sparsifier
    tensors, data = load_tensors(path)
    remedy = "give the same settings, or delete it to start again"
    try:
        saved: dict[str, Any] = data["settings"]
        for name, value in asdict(state.config).items():
            if name not in ("device", "noise_score") and saved[name] != value:
                raise UserError(
                    f"checkpoint {path} was made with {name} = {saved[name]!r}, "
                    f"not {value!r}; {remedy}"
                )
        _check_origin(path, data.get("origin", {}), state.origin, remedy)
        masks = strip_prefix(tensors, "sparsifier.")
        if bool(masks) != (sparsifier is not None):
            raise UserError(
                f"checkpoint {path} was made {'with' if masks else 'without'} a sparsifier; "
                f"{remedy}"
            )
        sparse = data.get("sparsity", repr(sparsifier))
        if sparse != repr(sparsifier):
            raise UserError(f"checkpoint {path} was made with {sparse}, not {sparsifier}; {remedy}")
        if data.get("teacher", "") != state.teacher:
            raise UserError(f"checkpoint {path} was made with another teacher; {remedy}")
        state.model.load_state_dict(strip_prefix(tensors, MODEL))
        state.optimizer.load_state_dict(
            _unflatten_optimizer(strip_prefix(tensors, "optimizer."), data["optimizer"])
        )
        if sparsifier is not None:
            sparsifier.load_state_dict(masks)
        state.history.epochs = [Epoch(**epoch) for epoch in data["history"]["epochs"]]
        state.history.stopped_early = data["history"]["stopped_early"]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(f"checkpoint {path} is of another network ({reason}); {remedy}") from None
    state.best = strip_prefix(tensors, "best.")


def _check_origin(
    path: Path, saved: Mapping[str, Any], origin: Mapping[str, Any], remedy: str
) -> None:
    """Refuse a checkpoint of another origin; one without any was made by ``fit`` alone."""
    for name in sorted({*saved, *origin} if saved and origin else ()):
        before, now = saved.get(name), origin.get(name)
        if before != now and name == DATA:
            raise UserError(
                f"checkpoint {path} was made with other data, whose splits may not be these; "
                "restore the data, or delete it to start again"
            )
        if before != now:
            had, has = (f"no {name}" if v is None else f"{name} = {v!r}" for v in (before, now))
            raise UserError(f"checkpoint {path} was made with {had}, not {has}; {remedy}")


def _flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's ``state_dict`` into named tensors and plain data."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"param_groups": state["param_groups"], "state": {}}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain["state"].setdefault(str(index), {})[key] = value
    return tensors, plain


def _unflatten_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Join what `_flatten_optimizer` returned into a ``state_dict``."""
    state: dict[int, dict[str, Any]] = {
        int(index): dict(entries) for index, entries in plain["state"].items()
    }
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": plain["param_groups"]}
