"""Measured choice of how a layer trains: densely, or with its non-zeros alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from gossamer.sparsity.active import zeros_are_silent
from gossamer.sparsity.sparse_weight import SparseWeight, apply_sparse

# Layers whose inputs are active by a larger share are not tried with lists of them.
ACTIVE = 1 / 3
# A choice is measured again where the number of non-zeros, or of active inputs, has changed by
# more than this share.
SAME_CHOICE = 0.25
# Rounds of a measurement, and the seconds after which it is content with fewer.
PAIRS, SECONDS = 7, 0.3


@dataclass(frozen=True)
class Seen:
    """The last input of a layer: its shape, the active share, whether zeros need gradients."""

    shape: torch.Size
    density: float = 1.0
    silent: bool = False

    @classmethod
    def of(cls, x: Tensor) -> Self:
        if not x.numel():
            return cls(x.shape)
        return cls(x.shape, int(x.count_nonzero()) / x.numel(), zeros_are_silent(x))


@dataclass(frozen=True)
class LayerChoice:
    """The chosen way to train one layer, and the measured times behind the choice.

    Attributes:
        sparse: whether it computes with its non-zeros alone.
        nonzeros: number of weights that the mask allows.
        input_shape: shape of the measured inputs, as in training.
        active: whether only non-zeros at active inputs are visited.
        input_density: share of the inputs that was active.
        seconds: time of a forward and backward pass with the non-zeros alone; None if the layers
            were named and not measured.
        active_seconds: the time with active inputs only; None if it was not measured.
        dense_seconds: the time of torch.
    """

    sparse: bool
    nonzeros: int
    input_shape: tuple[int, ...]
    active: bool = False
    input_density: float = 1.0
    seconds: float | None = None
    active_seconds: float | None = None
    dense_seconds: float | None = None

    def stands(self, nonzeros: int, seen: Seen) -> bool:
        """Return whether non-zeros and inputs are still close to the measured ones."""
        near = abs(nonzeros - self.nonzeros) <= SAME_CHOICE * self.nonzeros
        as_active = abs(seen.density - self.input_density) <= SAME_CHOICE * self.input_density
        return near and as_active and self.input_shape == tuple(seen.shape)


def _fastest(*contestants: Callable[[], Any]) -> list[float]:
    """Return the least seconds of each function, measured in turns."""
    best = [float("inf")] * len(contestants)
    started = time.perf_counter()
    for turn in range(PAIRS):
        for i, contestant in enumerate(contestants):
            before = time.perf_counter()
            contestant()
            best[i] = min(best[i], time.perf_counter() - before)
        if turn and time.perf_counter() - started > SECONDS:
            break
    return best


def measure(layer: nn.Module, nonzeros: SparseWeight, seen: Seen) -> list[float]:
    """Return seconds of forward and backward: by torch, with non-zeros, at active inputs only."""
    generator = torch.Generator().manual_seed(0)  # torch's own is the training's
    x = torch.randn(seen.shape, generator=generator)
    if seen.density < 1.0:
        x = x.where(torch.rand(seen.shape, generator=generator) < seen.density, 0.0)
    x.requires_grad_()
    parameter, bias = layer._parameters["weight"], layer._parameters["bias"]
    assert parameter is not None
    weight = parameter.detach().clone().requires_grad_()
    values = nonzeros.gather(parameter.detach()).requires_grad_()
    if bias is not None:
        bias = nn.Parameter(bias.detach())

    def run(function: Callable[[], Tensor], of: Tensor) -> None:
        with torch.enable_grad():
            y = function()
            torch.autograd.grad(y, [x, of] if bias is None else [x, of, bias], torch.ones_like(y))

    def rows() -> Tensor:
        return x.reshape(-1, seen.shape[-1]) if isinstance(layer, nn.Linear) else x

    def sparse() -> Tensor:
        return apply_sparse(rows(), values, bias, nonzeros)

    def active() -> Tensor:
        shown = rows().relu() if seen.silent else rows()
        return apply_sparse(shown, values, bias, nonzeros, active=True)

    def dense() -> Tensor:
        if isinstance(layer, nn.Conv2d):
            y: Tensor = layer._conv_forward(x, weight, bias)
            return y
        return nn.functional.linear(x, weight, bias)

    runs = [lambda: run(dense, weight), lambda: run(sparse, values)]
    if seen.density <= ACTIVE:
        if seen.silent:
            x = x.detach().abs_().requires_grad_()  # behind a ReLU as many stay active
        runs.append(lambda: run(active, values))
    return _fastest(*runs)
