"""One-shot pruning of a trained network."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer.errors import UserError, first_line
from gossamer.sparsity.allocation import Allocation
from gossamer.sparsity.layers import choose_weights, sparsifiable_layers, unwrap
from gossamer.sparsity.modes import evaluating
from gossamer.sparsity.pattern import Pattern
from gossamer.sparsity.registry import default_allocation, default_pattern
from gossamer.sparsity.rule import Static, magnitude
from gossamer.sparsity.sparsifier import Sparsifier


@dataclass(frozen=True)
class _Measured(Static):
    """Masks chosen once, by magnitude times the size of a weight's inputs."""

    norms: dict[int, Tensor] = field(default_factory=dict)

    def initial_scores(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        scores = magnitude(weight)
        norm = self.norms.get(weight.data_ptr())
        return scores if norm is None else scores * norm.to(scores.device)


def prune(
    model: nn.Module,
    density: float,
    *,
    pattern: Pattern | None = None,
    allocation: Allocation | None = None,
    exclude: Collection[str] = (),
    include: Collection[str] = (),
    calibration: Iterable[Tensor] | None = None,
) -> Sparsifier:
    """Set the least important weights of a trained ``model`` to zero, at once and in place.

    Args:
        model: a trained network; frozen layers are pruned as well.
        density: share of its layers' weights that stay, above 0 and at most 1.
        pattern: allowed positions of non-zeros; by default any.
        allocation: division of the density among layers; by default the largest magnitudes of the
            whole network stay (:class:`gossamer.sparsity.Global`); for N:M all layers are equal.
        exclude, include: see :class:`Sparsifier`.
        calibration: batches of inputs of ``model``, a few hundred examples. With them, a weight's
            importance is its magnitude times the root mean square of its input (Wanda, Sun et al.
            2023, arXiv 2306.11695), and the running statistics of batch norms are renewed after
            pruning, which alone recovers much of the lost accuracy.

    Returns:
        A sparsifier with static masks; attach it to the optimizer to fine-tune.

    Raises:
        UserError: as :class:`Sparsifier`, weights that are NaN or infinite, or a calibration that
            is empty, has NaN, or does not fit the model; then the model does not change.
    """
    batches = None if calibration is None else list(calibration)
    if batches is not None:
        if not batches:
            raise UserError("prune: calibration holds no batch; give some, or leave it out")
        if not all(isinstance(batch, Tensor) and batch.numel() for batch in batches):
            raise UserError(
                "prune: calibration must hold tensors [examples, ...] of inputs, none of them "
                "empty and without labels, as the model takes them"
            )
    include = ["frozen", *include]
    for name, weight in choose_weights(model, exclude, include).items():
        if not weight.parameter.isfinite().all():
            raise UserError(
                f"prune: the weights of layer '{name}' are partly NaN or infinite, as after a "
                "training that diverged, so the important ones cannot be found; train it again"
            )
    pattern = pattern or default_pattern()
    norms = {} if batches is None else _input_norms(model, batches)
    sparsifier = Sparsifier(
        model,
        density,
        pattern=pattern,
        allocation=allocation or default_allocation(pattern, trained=True),
        rule=_Measured(by="magnitude", norms=norms),
        exclude=exclude,
        include=include,
        rescale=False,
    )
    sparsifier.rule = Static(by="magnitude")
    if batches is not None:
        try:
            renew_statistics(model, batches)
        except UserError:
            sparsifier._undo()
            sparsifier.detach()
            raise
    return sparsifier


def _run(model: nn.Module, batches: list[Tensor]) -> None:
    device = next(model.parameters()).device
    with torch.no_grad():
        for batch in batches:
            try:
                model(batch.to(device))
            except (RuntimeError, ValueError) as error:  # a batch norm of one example
                raise UserError(
                    f"prune: the model cannot take the calibration batch {list(batch.shape)} of "
                    f"{batch.dtype} ({first_line(error)}); give inputs as in training"
                ) from error


def _input_norms(model: nn.Module, batches: list[Tensor]) -> dict[int, Tensor]:
    """Return each input's root mean square, shaped to multiply the weight, by its address."""
    sums: dict[int, list[Any]] = {}

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().to(torch.float32)
        linear = isinstance(layer, nn.Linear)
        other = list(range(x.dim() - 1)) if linear else [0, *range(2, x.dim())]
        entry = sums.setdefault(id(layer), [layer, 0.0])
        entry[1] = entry[1] + x.square().mean(dim=other)

    layers = sparsifiable_layers(unwrap(model))
    names = {id(layer): name for name, layer in layers.items()}
    with ExitStack() as hooks, evaluating(model):
        for layer in layers.values():
            hooks.enter_context(layer.register_forward_pre_hook(hook))
        _run(model, batches)
    norms = {}
    for layer, total in sums.values():
        weight = layer.weight
        norm = (total / len(batches)).sqrt()
        if not norm.isfinite().all():
            raise UserError(
                f"prune: with this calibration the inputs of layer '{names[id(layer)]}' are NaN, "
                "infinite or too large to square; look for such numbers in the batches and weights"
            )
        groups = getattr(layer, "groups", 1)
        # Each output meets the channels of its own group.
        rows = norm.view(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
        norms[weight.data_ptr()] = rows.view(*rows.shape, *[1] * (weight.dim() - 2))
    return norms


def renew_statistics(model: nn.Module, batches: list[Tensor]) -> None:
    """Measure the running mean and variance of every batch norm again, on ``batches`` of inputs.

    This recovers much of the accuracy lost by pruning if the network is not trained further.
    """
    norms = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    before = [{name: b.clone() for name, b in layer.named_buffers()} for layer in norms]
    try:
        with evaluating(model):
            for layer in norms:
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean over all batches
                layer.train()
            _run(model, batches)
    except UserError:
        for layer, buffers in zip(norms, before, strict=True):
            layer.load_state_dict(buffers, strict=False)
        raise
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
