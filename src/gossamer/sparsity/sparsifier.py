"""Binds pattern, allocation, schedule and rule to a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.errors import UserError, nearest
from gossamer.sparsity.allocation import Allocation, Uniform, check_density
from gossamer.sparsity.layers import sparsifiable_layers
from gossamer.sparsity.pattern import Pattern, Unstructured
from gossamer.sparsity.rule import Rule, Static
from gossamer.sparsity.schedule import Constant, Schedule

_STEP = "step"


def _generator(seed: int) -> torch.Generator:
    """A generator of its own stream.

    Seeded with the bare number it would repeat the numbers of ``torch.manual_seed(seed)``, from
    which the weights were drawn: a random mask would then keep the largest weights, all of one
    sign, and the network hardly learns.
    """
    own = np.random.SeedSequence([seed, 0x6D61736B]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(own >> np.uint64(1)))


class Sparsifier:
    """Makes the weights of any model sparse and keeps them so while it trains.

    The model stays a plain torch model: masks live here, masked weights are exactly zero in
    the model itself, so it can be copied, compiled, exported and saved as ever. Call
    :meth:`step` after every optimiser step, or :meth:`attach` an optimiser once.

    Args:
        model: its ``Linear``, ``Conv1d`` and ``Conv2d`` layers become sparse.
        density: share of their weights that stay non-zero, above 0 and at most 1.
        pattern: where non-zeros may stand.
        allocation: how the density is shared out among layers.
        schedule: how it changes over training.
        rule: how masks are chosen and changed.
        exclude: names of layers that stay dense.
        rescale: multiply the kept weights by ``sqrt(fan_in / non-zeros per unit)``, so that a
            fresh initialisation has the scale that suits the sparse fan-in. Switch it off for
            a trained model.
        seed: of the random choices.

    Raises:
        UserError: a density out of range or too small for a layer, an unknown layer name, or
            a model with nothing to sparsify.
    """

    def __init__(
        self,
        model: nn.Module,
        density: float = 1.0,
        *,
        pattern: Pattern | None = None,
        allocation: Allocation | None = None,
        schedule: Schedule | None = None,
        rule: Rule | None = None,
        exclude: Collection[str] = (),
        rescale: bool = True,
        seed: int = 0,
    ) -> None:
        self.density = check_density(density, "Sparsifier")
        self.pattern = pattern or Unstructured()
        self.allocation = allocation or Uniform()
        self.schedule = schedule or Constant()
        self.rule = rule or Static()
        self.steps = 0
        self._generator = _generator(seed)
        self._layers = self._choose(model, exclude)
        shapes = {name: self._weight(name).shape for name in self._layers}
        self._final = self.allocation.densities(shapes, self.density)
        self._masks: dict[str, Tensor] = {}
        for name in self._layers:
            weight = self._weight(name)
            scores = self.rule.initial_scores(weight.detach(), self._generator)
            self._masks[name] = self._mask(name, scores).to(weight.device)
        # All masks are made before any weight changes: an error leaves the model as it was.
        if rescale:
            self._rescale()
        self.apply()

    @staticmethod
    def _choose(model: nn.Module, exclude: Collection[str]) -> dict[str, nn.Module]:
        layers = sparsifiable_layers(model)
        if not layers:
            raise UserError(
                f"{type(model).__name__} has no Linear, Conv1d or Conv2d layer: "
                "there is nothing to make sparse"
            )
        for name in exclude:
            if name not in layers:
                raise UserError(f"exclude: no sparsifiable layer '{name}': {nearest(name, layers)}")
        return {name: layer for name, layer in layers.items() if name not in exclude}

    def _weight(self, name: str) -> nn.Parameter:
        weight = self._layers[name].weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def _mask(self, name: str, scores: Tensor) -> Tensor:
        density = self.schedule.density(self._final[name], self.steps)
        try:
            return self.pattern.mask(scores, check_density(density, f"layer '{name}'"))
        except UserError as error:
            raise UserError(f"layer '{name}': {error}") from None

    @torch.no_grad()
    def _rescale(self) -> None:
        for name, mask in self._masks.items():
            self._weight(name).mul_((mask.numel() / max(int(mask.sum()), 1)) ** 0.5)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Boolean masks by layer name, true where a weight may be non-zero."""
        return self._masks

    @torch.no_grad()
    def apply(self) -> None:
        """Set every masked weight to exactly zero; follows the model to another device."""
        for name, mask in self._masks.items():
            weight = self._weight(name)
            if mask.device != weight.device:
                mask = self._masks[name] = mask.to(weight.device)
            # Not a product with the mask: that would keep NaN and give -0.0.
            weight.masked_fill_(~mask, 0.0)

    @torch.no_grad()
    def step(self) -> None:
        """Call after every optimiser step: updates masks where the rule says so, then applies."""
        self.steps += 1
        if self.rule.due(self.steps):
            for name, mask in self._masks.items():
                weight = self._weight(name)
                scores = self.rule.scores(weight.detach(), mask, self._generator)
                self._masks[name] = self._mask(name, scores).to(weight.device)
        self.apply()

    def attach(self, optimizer: torch.optim.Optimizer) -> Self:
        """Run :meth:`step` after each step of ``optimizer``, in anyone's training loop."""
        optimizer.register_step_post_hook(lambda *_: self.step())
        return self

    @property
    def masked(self) -> bool:
        """Whether any weight is masked at all."""
        return not all(bool(mask.all()) for mask in self._masks.values())

    def counts(self) -> dict[str, tuple[int, int]]:
        """(non-zeros allowed by the mask, all weights) of each sparse layer."""
        return {name: (int(mask.sum()), mask.numel()) for name, mask in self._masks.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Masks by layer name, the step count and the state of the random generator."""
        state = {f"mask.{name}": mask for name, mask in self._masks.items()}
        state[_STEP] = torch.tensor(self.steps)
        state["generator"] = self._generator.get_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, and apply the masks.

        Raises:
            UserError: the masks belong to another network; nothing is changed then.
        """
        masks = {
            key.removeprefix("mask."): mask
            for key, mask in state.items()
            if key.startswith("mask.")
        }
        if set(masks) != set(self._masks) or not {_STEP, "generator"} <= set(state):
            odd = sorted(set(masks) ^ set(self._masks)) or [_STEP]
            raise UserError(
                f"these masks are of another network: they differ in layer '{odd[0]}'; "
                "load them into the model they were saved with"
            )
        for name, mask in masks.items():
            if mask.shape != self._masks[name].shape:
                raise UserError(
                    f"these masks are of another network: layer '{name}' has shape "
                    f"{tuple(self._masks[name].shape)}, its mask {tuple(mask.shape)}"
                )
        for name, mask in masks.items():
            self._masks[name] = mask.to(device=self._weight(name).device, dtype=torch.bool)
        self.steps = int(state[_STEP])
        self._generator.set_state(state["generator"].to("cpu", torch.uint8))
        self.apply()
