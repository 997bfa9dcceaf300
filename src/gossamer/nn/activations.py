"""Replacement of the activations of any network by k-winners or thresholds."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from gossamer.errors import UserError, nearest
from gossamer.nn.activation_finder import (
    FUNCTIONS,
    MODULES,
    Example,
    Function,
    Site,
    activation_sites,
)
from gossamer.nn.graph_rewriter import plan, rewritten
from gossamer.nn.kwinners import KWinners, KWinners2d
from gossamer.nn.module_tools import replace
from gossamer.nn.threshold import Threshold
from gossamer.numbers import positive_share
from gossamer.sparsity.layers import unwrap


class SparseActivation(nn.Module):
    """An activation function followed by k-winners: ``winners(function(x))``."""

    def __init__(self, function: Function, winners: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.winners = winners

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.winners(self.function(x))
        return y


def sparsify_activations(
    model: nn.Module,
    density: float | Mapping[str, float] = 0.1,
    *,
    example: Example,
    exclude: Collection[str] = (),
    threshold: bool = False,
    local: bool = False,
    boost_strength: float = 1.0,
    boost_decay: float = 0.9,
    inference_factor: float = 1.0,
) -> nn.Module:
    """Replace the ReLU, GELU, SiLU... of a network by k-winners, in place where possible.

    ReLU becomes k-winners that pass positive values only; another function is followed by
    k-winners. Units are the channels after a convolution and the last dimension after a linear
    layer. An activation that is called as a function, or a module that is used at several places,
    is replaced by a separate module at each place; for this ``torch.fx`` rewrites the ``forward``
    of the module that calls it. Hooks stay.

    Anneal the density while training with :class:`AnnealActivations`, decay the boost with
    :func:`decay_boost` once an epoch.

    Args:
        model: any network.
        density: share of units that stay active, for all activations, or by name for those to
            replace; 1.0 does not replace one.
        example: an input of the network, a tuple of its inputs, or a mapping of them by name.
        exclude: names of activations that are not replaced.
        threshold: replace them by :class:`Threshold` instead, to be fitted by :func:`calibrate`.
        local: k-winners of images compete at each position (see :class:`KWinners2d`).
        boost_strength, boost_decay, inference_factor: see :class:`KWinners`.

    Returns:
        ``model`` itself, or a new module if the ``forward`` of ``model`` had to be rewritten.

    Raises:
        UserError: no activation to replace, an unknown name, a density out of range, a compiled
            model, or a module that ``torch.fx`` cannot rewrite; the message names an alternative.
    """
    if unwrap(model) is not model and "_orig_mod" in model._modules:
        raise UserError(
            "the model is compiled, and its activations cannot be found; call "
            "sparsify_activations first and torch.compile afterwards"
        )
    if isinstance(exclude, str):
        raise UserError(f"exclude is a list of names: write [{exclude!r}]")
    sites = activation_sites(model, example)
    names = [site.name for site in sites]
    if not sites:
        raise UserError(
            f"{type(model).__name__} calls no activation that can be replaced "
            f"({', '.join(sorted(m.__name__ for m in MODULES))}, or their functions); "
            "use one of these in its place"
        )
    for name in [*exclude, *(density if isinstance(density, Mapping) else ())]:
        if name not in names:
            raise UserError(f"no activation '{name}': {nearest(name, names)}")
    if isinstance(density, Mapping) and not density:
        raise UserError(
            "density names no activation; give each to be replaced its own, or a number"
        )
    named = density if isinstance(density, Mapping) else dict.fromkeys(names, density)
    wanted = {
        name: positive_share(share, f"activation '{name}': density")
        for name, share in named.items()
        if name not in exclude
    }
    boosting = {
        "boost_strength": boost_strength,
        "boost_decay": boost_decay,
        "inference_factor": inference_factor,
    }

    def make(site: Site) -> nn.Module | None:
        share = wanted.get(site.name, 1.0)
        if share == 1.0:
            return None
        try:
            return _sparse(site, share, threshold, local, boosting)
        except UserError as error:
            raise UserError(f"activation '{site.name}': {error}") from None

    return _place(model, sites, [make(site) for site in sites])


def _sparse(
    site: Site, density: float, threshold: bool, local: bool, boosting: Mapping[str, Any]
) -> nn.Module:
    """Return the module that replaces the activation at ``site``."""
    relu = site.kind == "relu"
    winners: nn.Module
    if threshold:
        winners = Threshold(density)
    elif site.channels_first and len(site.shape) > 2:
        winners = KWinners2d(site.shape[1], density, local=local, relu=relu, **boosting)
    else:
        winners = KWinners(site.shape[-1], density, relu=relu, **boosting)
    return winners if relu and not threshold else SparseActivation(site.function, winners)


def _place(model: nn.Module, sites: list[Site], made: list[nn.Module | None]) -> nn.Module:
    """Put the modules at their sites, by name where that is unambiguous, or else by rewriting."""
    calls: dict[str | None, int] = defaultdict(int)
    callers: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        calls[site.module] += 1
        callers[site.caller].append(site)
    by_name: dict[str, nn.Module] = {}
    attributes: list[tuple[nn.Module, str, nn.Module]] = []
    rewrite: dict[str, dict[str, nn.Module]] = defaultdict(dict)
    for site, module in zip(sites, made, strict=True):
        if module is None:
            continue
        module.train(model.training)
        caller = model.get_submodule(site.caller)
        attribute = (
            _function_attribute(caller, site.kind) if len(callers[site.caller]) == 1 else None
        )
        if site.module is not None and calls[site.module] == 1:
            by_name[site.module] = module
        elif site.module is None and attribute is not None:
            attributes.append((caller, attribute, module))
        else:
            rewrite[site.caller][site.name] = module
    plans = {name: plan(model, name, callers[name]) for name in rewrite}
    # Nothing changes before all is known to work.
    for caller, attribute, module in attributes:
        setattr(caller, attribute, module)
        if isinstance(caller, nn.TransformerEncoderLayer):
            caller.activation_relu_or_gelu = 0  # torch's fused path would leave it out
    model = replace(model, by_name)
    # Innermost first: a rewritten parent then holds its rewritten children.
    for name in sorted(plans, key=lambda name: -name.count(".") if name else 1):
        graph, places = plans[name]
        new = [
            (node, site.name.rpartition(".")[2], rewrite[name][site.name])
            for node, site in places
            if site.name in rewrite[name]
        ]
        model = replace(model, {name: rewritten(model.get_submodule(name), graph, new)})
    return model


def _function_attribute(module: nn.Module, kind: str) -> str | None:
    """Return the name of a module's attribute that is the activation function it calls."""
    for name, value in vars(module).items():
        if inspect.isroutine(value) and FUNCTIONS.get(value) == kind:
            return name
    return None
