"""What mode a module is in: training, evaluation, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def exporting(module: nn.Module) -> bool:
    """Whether ``module`` is traced for a file and not for ``torch.compile``.

    torch 2.11 says that it is exporting while it compiles, too; but what trains is compiled, and
    what is exported is in evaluation mode.
    """
    return torch.compiler.is_exporting() and not module.training


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Gives every module of ``model`` back its own mode in the end; frozen ones differ."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
