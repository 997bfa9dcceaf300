"""SµPar: transfer of settings from a small or dense network to a wide or sparse one.

Dey, Bergsma & Hestness, "Sparse maximal update parameterization: A holistic approach to sparse
training dynamics", arXiv 2405.15743, 2024, which extends µP (Yang et al. 2022, arXiv 2203.03466)
by density: a layer that keeps the share ρ of its weights behaves like one with ρ times the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import UserError, nearest
from gossamer.numbers import finite
from gossamer.sparsity.allocation import check_density
from gossamer.sparsity.layers import sparsifiable_weights

# What the size of an update leans on: normalized gradients (Adam, AdamW), or plain ones.
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Scale:
    """The scale of one parameter relative to the base network's.

    Attributes:
        inputs: ratio of a unit's inputs (1 for biases, norms and embeddings).
        outputs: ratio of the units.
        density: ratio of the densities.
        init: factor on the standard deviation of the base's weights.
        learning_rate: factor on the learning rate.
    """

    inputs: float
    outputs: float
    density: float
    init: float
    learning_rate: float


def scale(inputs: float, outputs: float, density: float, optimizer: str = "adam") -> Scale:
    """Return the factors of SµPar for ratios to a base network's sizes; see :class:`Scale`.

    With ``f = inputs * density``, the ratio of a unit's *non-zero* inputs, weights have the
    standard deviation ``f ** -0.5``. If the units grow less than their inputs, as in the output
    layer, it is multiplied by ``(outputs / inputs) ** 0.5``, so that initial logits are small. An
    update changes a unit's value equally in all networks with the learning rate ``1 / f`` for
    Adam, and ``outputs / f`` for SGD, whose gradients shrink with the width.
    """
    if optimizer not in OPTIMIZERS:
        raise UserError(
            f"mu_parametrize: no optimizer '{optimizer}': {nearest(optimizer, OPTIMIZERS)}"
        )
    inputs, outputs, density = (
        finite(value, name, 1e-9, 1e9)
        for name, value in (("inputs", inputs), ("outputs", outputs), ("density", density))
    )
    active = inputs * density
    return Scale(
        inputs,
        outputs,
        density,
        init=active**-0.5 * min(1.0, outputs / inputs) ** 0.5,
        learning_rate=(1.0 if optimizer == "adam" else outputs) / active,
    )


class Scaling:
    """A :class:`Scale` for each parameter of a model, by name; see :func:`mu_parametrize`."""

    def __init__(self, model: nn.Module, scales: Mapping[str, Scale]) -> None:
        self.scales = dict(scales)
        self._parameters = {
            name: parameter for name, parameter in model.named_parameters() if name in scales
        }

    def groups(self, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return parameter groups for any torch optimizer, from the base network's settings.

        Parameters with the same factor form a group, with the scaled learning rate as ``lr`` and
        the factor as ``lr_scale``, for training loops that set ``lr``. torch's schedulers preserve
        the ratios. Biases and norms are not decayed.
        """
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in self._parameters.items():
            factor, decayed = self.scales[name].learning_rate, parameter.dim() > 1
            group = groups.setdefault(
                (factor, decayed),
                {
                    "params": [],
                    "lr": learning_rate * factor,
                    "lr_scale": factor,
                    "weight_decay": weight_decay if decayed else 0.0,
                },
            )
            group["params"].append(parameter)
        return list(groups.values())


def mu_parametrize(
    model: nn.Module,
    base: nn.Module,
    *,
    density: float | Mapping[str, float] | None = None,
    optimizer: str = "adam",
    init: bool = True,
) -> Scaling:
    """Scale initialization and learning rates of ``model`` by its widths and densities.

    The best settings for ``base`` are then close to the best for ``model``. Call this on newly
    initialized networks, after making the :class:`~gossamer.sparsity.Sparsifier`::

        sparsifier = gs.Sparsifier(model, density=0.05, rule=gs.sparsity.Static())
        scaling = gs.sparsity.mu_parametrize(model, base=build(width=64))
        optimizer = torch.optim.AdamW(scaling.groups(learning_rate=0.004))

    Args:
        model: the network to train.
        base: a newly initialized network of the same structure whose settings are known; narrower,
            denser or both. Its zeros count: if it was sparse, make it sparse.
        density: the density to scale learning rates for, of all sparse layers or by layer name,
            if masks will change; by default the share of non-zeros of each weight.
        optimizer: ``adam`` (Adam, AdamW and others that normalize gradients) or ``sgd``.
        init: rescale the weights of ``model`` in place, so that they have the standard
            deviation of the base's times :attr:`Scale.init`. Off for a trained network.

    Raises:
        UserError: the two networks differ in more than widths and densities, a layer or
            optimizer is unknown, or an output layer shares the weights of an embedding.
    """
    scale(1.0, 1.0, 1.0, optimizer)  # an unknown optimizer is named before anything else
    _refuse_tied(model)
    wanted = _densities(model, density)
    of_base = dict(base.named_parameters())
    kinds = {
        f"{name}.{own}".lstrip("."): module
        for name, module in model.named_modules()
        for own, _ in module.named_parameters(recurse=False)
    }
    scales: dict[str, Scale] = {}
    factors: list[tuple[Tensor, float]] = []
    for name, parameter in model.named_parameters():
        if name not in of_base or of_base[name].dim() != parameter.dim():
            raise UserError(
                f"mu_parametrize: '{name}' has no counterpart in the base network: build both with "
                "the same function and vary only its widths"
            )
        reference = of_base[name]
        inputs, outputs = _growth(kinds[name], parameter, reference)
        if not _has_inputs(kinds[name], parameter):
            scales[name] = scale(1.0, outputs, 1.0, optimizer)
            continue
        counted = _density(parameter) / _density(reference)
        final = wanted.get(name, wanted.get(name.rpartition(".")[0]))
        final = counted if final is None else final / _density(reference)
        scales[name] = scale(inputs, outputs, final, optimizer)
        rms, target = _rms(parameter), _rms(reference) * scale(inputs, outputs, counted).init
        if init and rms and target:
            factors.append((parameter, target / rms))
    # All checks are done before any weight changes.
    with torch.no_grad():
        for weight, factor in factors:
            weight.mul_(factor)
    scales = {n: scales[n] for n, p in model.named_parameters() if p.requires_grad}
    return Scaling(model, scales)


def _refuse_tied(model: nn.Module) -> None:
    tables = {id(m.weight): n for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) in tables:
            raise UserError(
                f"mu_parametrize: '{name}' and '{tables[id(module.weight)]}' share their weights, "
                "which cannot be scaled as an embedding and as an output at once: untie them"
            )


def _densities(model: nn.Module, density: float | Mapping[str, float] | None) -> dict[str, float]:
    if density is None:
        return {}
    layers = sparsifiable_weights(model)
    if not isinstance(density, Mapping):
        density = dict.fromkeys(layers, check_density(density, "mu_parametrize"))
    for name, value in density.items():
        if name not in layers:
            raise UserError(
                f"mu_parametrize: no sparsifiable layer '{name}': {nearest(name, layers)}"
            )
        check_density(value, f"mu_parametrize: layer '{name}'")
    return dict(density)


def _has_inputs(module: nn.Module, parameter: Tensor) -> bool:
    """Return whether units of the parameter sum over inputs: not of biases, norms, embeddings."""
    if isinstance(module, nn.Embedding) or parameter.dim() < 2:
        return False
    return parameter.dim() == 2 or isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _growth(module: nn.Module, parameter: Tensor, base: Tensor) -> tuple[float, float]:
    """Return the ratios (inputs, outputs) of ``parameter`` to ``base``."""
    if _has_inputs(module, parameter):
        inputs = math.prod(parameter.shape[1:]) / math.prod(base.shape[1:])
        return inputs, parameter.shape[0] / base.shape[0]
    # Of tables and tokens the last dimension holds the units.
    return 1.0, (parameter.shape[-1] / base.shape[-1] if parameter.dim() else 1.0)


def _density(weight: Tensor) -> float:
    return int(torch.count_nonzero(weight)) / weight.numel() or 1.0


def _rms(weight: Tensor) -> float:
    """Return the root mean square of the non-zeros."""
    nonzero = max(int(torch.count_nonzero(weight)), 1)
    return float((weight.detach().double().square().sum() / nonzero).sqrt())
