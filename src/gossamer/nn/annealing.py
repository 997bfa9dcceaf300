"""Activation density that falls while a network trains."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from gossamer.errors import UserError
from gossamer.nn.kwinners import KWinners, KWinners2d
from gossamer.numbers import positive_share, whole
from gossamer.sparsity.attachment import inner_optimizer


class AnnealActivations:
    """Schedule of k-winners' densities, from dense to those that they were made with.

    At a share ``p`` of the steps the density is ``final + (start - final) * (1 - p) ** 3``, as
    for weights in Zhu & Gupta 2017 (arXiv 1710.01878). Call :meth:`step` after every optimizer
    step, or :meth:`attach` an optimizer once. It works together with a
    :class:`~gossamer.sparsity.Sparsifier`.

    Args:
        model: the network; its k-winners layers are set to ``start`` at once.
        steps: optimizer steps until the final densities are reached.
        start: density at the beginning; layers with a higher final density are not annealed.

    Raises:
        UserError: nothing to anneal, or a value out of range.
    """

    def __init__(self, model: nn.Module, steps: int, *, start: float = 1.0) -> None:
        self.steps = whole(steps, 1, "AnnealActivations: steps")
        self.start = positive_share(start, "AnnealActivations: start")
        self._layers = {
            name: (layer, layer.density)
            for name, layer in model.named_modules()
            if isinstance(layer, KWinners | KWinners2d)
        }
        if not self._layers:
            raise UserError(
                f"{type(model).__name__} has no k-winners to anneal; put them in with "
                "sparsify_activations(model, density)"
            )
        self.at(0)

    def at(self, step: int) -> None:
        """Set the densities of ``step``; they depend on nothing else, so a training can resume."""
        self.done = step
        left = (1.0 - min(step / self.steps, 1.0)) ** 3
        for layer, final in self._layers.values():
            layer.density = final + max(self.start - final, 0.0) * left

    @property
    def settled(self) -> bool:
        """Whether the layers have their final densities."""
        return self.done >= self.steps

    def step(self) -> None:
        """Set the densities of the next step; call this after every optimizer step."""
        self.at(self.done + 1)

    def attach(self, optimizer: torch.optim.Optimizer) -> Self:
        """Run :meth:`step` after each step of ``optimizer``; of several in one loop, attach one."""
        inner_optimizer(optimizer).register_step_post_hook(lambda *_: self.step())
        return self

    def densities(self) -> dict[str, float]:
        """Return the current density of each layer, by name."""
        return {name: layer.density for name, (layer, _) in self._layers.items()}
