"""The optimizer of a training, with its groups of parameters."""

from __future__ import annotations

import torch
from torch import nn

from gossamer.sparsity import Scaling
from gossamer.training.config import TrainingConfig


def make_optimizer(
    model: nn.Module, settings: TrainingConfig, scaling: Scaling | None
) -> torch.optim.Optimizer:
    """Make the optimizer of a model's parameters.

    Args:
        model: to be trained.
        settings: which optimizer, learning rate, decay and momentum.
        scaling: groups of parameters and a factor on the learning rate for each, see
            :func:`gossamer.sparsity.mu_parametrize`.
    """
    # Decaying biases and norms only harms (He et al. 2019, arXiv 1812.01187).
    # A module that adds a penalty to the loss is not decayed as well.
    own = {
        id(p) for m in model.modules() if hasattr(m, "penalty") for p in m.parameters(recurse=False)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1 and id(p) not in own]
    others = [p for p in trained if p.dim() <= 1 or id(p) in own]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = settings.learning_rate
    if scaling is not None:
        groups = scaling.groups(rate, settings.weight_decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0.0
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate)
