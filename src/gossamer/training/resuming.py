"""A training stopped and gone on with: all of its state in one file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.sparsity import Sparsifier
from gossamer.training.checkpoint import (
    flatten_optimizer,
    give,
    load_tensors,
    save_tensors,
    take,
    unflatten_optimizer,
)
from gossamer.training.history import Epoch, History
from gossamer.training.settings import Settings


def network_state(model: nn.Module, sparsifier: Sparsifier | None) -> dict[str, Tensor]:
    """Weights and masks by name."""
    masks = sparsifier.state_dict() if sparsifier is not None else {}
    return {**give(model.state_dict(), "model."), **give(masks, "sparsifier.")}


def restore_network(
    state: dict[str, Tensor], model: nn.Module, sparsifier: Sparsifier | None
) -> None:
    """Puts back what `network_state` gave."""
    model.load_state_dict(take(state, "model."))
    if sparsifier is not None:
        sparsifier.load_state_dict(take(state, "sparsifier."))


def save_training(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    history: History,
    best: dict[str, Tensor],
    settings: Settings,
) -> None:
    """Writes the state after an epoch; ``best`` is that of the best epoch so far.

    Raises:
        UserError: the file cannot be written.
    """
    moments, plain = flatten_optimizer(optimizer.state_dict())
    tensors = {
        **network_state(model, sparsifier),
        **give(moments, "optimizer."),
        **give(best, "best."),
    }
    save_tensors(
        path,
        tensors,
        {
            "optimizer": plain,
            "history": asdict(history),
            "settings": asdict(settings),
            "sparsity": repr(sparsifier),
        },
    )


def restore_training(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    history: History,
    settings: Settings,
) -> dict[str, Tensor]:
    """Puts everything back as it was after the checkpoint's last epoch; returns the best state.

    Raises:
        UserError: the file is damaged, or of another network or other settings.
    """
    tensors, data = load_tensors(path)
    mend = "give the same settings, or delete it to start anew"
    try:
        saved: dict[str, Any] = data["settings"]
        present = json.loads(json.dumps(asdict(settings)))
        for name, value in present.items():
            if name not in ("device", "noise_score") and saved[name] != value:
                raise UserError(
                    f"checkpoint {path} was made with {name} = {saved[name]!r}, "
                    f"not {value!r}; {mend}"
                )
        masks = take(tensors, "sparsifier.")
        if bool(masks) != (sparsifier is not None):
            raise UserError(
                f"checkpoint {path} was made {'with' if masks else 'without'} a sparsifier; {mend}"
            )
        sparse = data.get("sparsity", repr(sparsifier))
        if sparse != repr(sparsifier):
            raise UserError(f"checkpoint {path} was made with {sparse}, not {sparsifier}; {mend}")
        model.load_state_dict(take(tensors, "model."))
        optimizer.load_state_dict(
            unflatten_optimizer(take(tensors, "optimizer."), data["optimizer"])
        )
        if sparsifier is not None:
            sparsifier.load_state_dict(masks)
        history.epochs = [Epoch(**epoch) for epoch in data["history"]["epochs"]]
        history.stopped_early = data["history"]["stopped_early"]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint {path} is of another network ({reason}); {mend}") from None
    return take(tensors, "best.")
