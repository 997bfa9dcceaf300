"""Evaluation of a model whose modules return to their modes, which may differ between modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Restore the mode of each module of ``model`` at the end of a ``with`` block.

    ``model.train(was_training)`` would not: norms that are frozen in evaluation mode would adapt
    to the batches of the training that goes on.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode within a ``with`` block; restore every module's mode after it."""
    with keeping_modes(model):
        model.eval()
        yield
