"""Initialization from a trained network, and its preparation for pruning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.files import subfolders_with
from gossamer.nn import sparsify_activations
from gossamer.nn.activation_finder import activation_sites
from gossamer.settings import below, strip_prefix
from gossamer.sparsity import Block, FittedBlock, rearrange
from gossamer.sparsity.registry import named_pattern
from gossamer.training.tensor_file import MODEL, load_into, load_tensors

# Settings of how masks change during training.
_CHANGES_OF_MASKS = (
    *("density_schedule", "density_until", "density_start", "density_initial"),
    *("mask_interval", "mask_until", "drop_fraction"),
)


def load_weights(model: nn.Module, run: str | Path) -> None:
    """Load the weights of a run directory, usually of a dense network, into ``model``.

    Buffers that the run's network lacks (the duty cycles of k-winners in place of ReLU) do not
    change.

    Raises:
        UserError: the run is missing, damaged, or of a network with other layers.
    """
    path = Path(run) / "model.safetensors"
    if not path.is_file():
        runs = subfolders_with(run, path.name)
        raise UserError(
            f"init: {run} is not a run directory: it has no {path.name}"
            + (f"; name a run in it: {runs}" if runs else "")
        )
    weights = strip_prefix(load_tensors(path)[0], MODEL)
    own, parameters = model.state_dict(), dict(model.named_parameters())
    # Other buffers belong to activations, which may differ; a weight that is gone does not fit.
    weights = {n: t for n, t in weights.items() if n in own or n.endswith("weight")}
    new = {n: t for n, t in own.items() if n not in weights and n not in parameters}
    load_into(model, {**new, **weights}, path, "init needs a run of the same model and sizes")


def trained_longer(
    settings: Mapping[str, Any], rounds: int, run: str | Path | None
) -> dict[str, Any]:
    """Return the settings of a training that is 2 to the power of ``rounds`` times as long.

    If the run of the half as long one is there, training goes on from its weights and their
    positions, with a schedule of its own: as many epochs as it had in all. Otherwise the whole
    training is repeated.

    Args:
        settings: of the training that is continued, in its first form.
        rounds: how often its length is doubled, at least 1.
        run: run directory of the training after one round less.
    """
    half = int(settings["epochs"]) * 2 ** (rounds - 1)
    weights = None if run is None else Path(run) / "model.safetensors"
    # Their weights in the file are not those that such a network starts from.
    other = any(settings.get(name) for name in ("base", "variational", "int8"))
    if weights is None or not weights.is_file() or other:
        return {**settings, "epochs": 2 * half}
    longer = {k: v for k, v in settings.items() if k not in _CHANGES_OF_MASKS}
    if any(name.partition(".")[0] == "weight_density" for name in settings):
        longer["rule"] = "one_shot"  # the largest weights are those that are not zero
    fixed = {"rearrange": False, "activation_anneal": 0.0}
    return {**longer, **fixed, "init": str(run), "epochs": half}


def rearranged(model: nn.Module, settings: Mapping[str, Any]) -> None:
    """Reorder the units of a trained network so that pruning to blocks removes less.

    Args:
        model: changed in place.
        settings: ``rearrange``, ``pattern`` and ``weight_density``; nothing happens without
            ``rearrange`` or where the pattern is no block.

    Raises:
        UserError: see :func:`gossamer.sparsity.rearrange`.
    """
    pattern = named_pattern(settings["pattern"]) if "pattern" in settings else None
    if settings.get("rearrange") and isinstance(pattern, Block | FittedBlock):
        rearrange(model, settings.get("weight_density", 1.0), pattern)


def with_winners(model: nn.Module, settings: Mapping[str, Any], example: Tensor) -> nn.Module:
    """Replace the network's activations by k-winners, as the settings say, and return it.

    Args:
        model: changed in place where possible.
        settings: ``winners``, the share of units that every activation leaves active, and
            ``winners.<activation>``, the share for a single one; 1 does not replace it.
        example: inputs of the network.

    Raises:
        UserError: see :func:`gossamer.nn.sparsify_activations`.
    """
    everywhere = settings.get("winners", 1.0)
    by_name = below(settings, "winners")
    if min([everywhere, *by_name.values()]) >= 1.0:
        return model
    if by_name:
        others = {site.name: everywhere for site in activation_sites(model, example)}
        return sparsify_activations(model, {**others, **by_name}, example=example)
    return sparsify_activations(model, everywhere, example=example)
