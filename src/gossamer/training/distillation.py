"""Distillation: a network learns from another's answers as well as from the labels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import Task
from gossamer.errors import UserError
from gossamer.training.run import load_network


class Ensemble(nn.ModuleList):
    """Networks that teach together; returns their logits ``[networks, batch, classes]``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self])


def ensemble(networks: Sequence[nn.Module]) -> nn.Module | None:
    """Return a teacher made of ``networks``: None without any, and the network itself if single."""
    if len(networks) > 1:
        return Ensemble(networks)
    return networks[0] if networks else None


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the divergence of a network's softened answers from a teacher's, a scalar.

    It is multiplied by the squared temperature, so that its gradient is as large as that of the
    labels at any temperature. Of several teachers, the mean of the softened probabilities is the
    target (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        logits: ``[batch, classes]``.
        teacher: ``[batch, classes]`` or ``[teachers, batch, classes]``.
        temperature: divides all logits before the softmax; above 0.
    """
    answers, targets = (functional.log_softmax(x / temperature, dim=-1) for x in (logits, teacher))
    if targets.ndim > answers.ndim:
        targets = targets.logsumexp(dim=0) - math.log(len(targets))
    divergence = functional.kl_div(answers, targets, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def load_teacher(run: str | Path, task: Task, *, trust: bool = False) -> nn.Module:
    """Load a run directory's network, in evaluation mode, to teach ``task``.

    Raises:
        UserError: the folder is no run or is damaged, or its network has other classes or inputs
            than the task, or names Python code and is not trusted.
    """
    model, classes, shape = load_network(run, trust=trust)
    if classes != task.classes or shape != task.input_shape:
        raise UserError(
            f"teacher: the network of {run} has {len(classes)} classes and inputs "
            f"{list(shape)}, task '{task.name}' has {len(task.classes)} classes and inputs "
            f"{list(task.input_shape)}; both must be the same, in the same order"
        )
    return model


def fingerprint(model: nn.Module | None) -> str:
    """Return a hash of the network's weights; empty without a network."""
    if model is None:
        return ""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
