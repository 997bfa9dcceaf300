"""Reordering of output units so that pruning to blocks removes less magnitude."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer.errors import UserError, first_line, nearest
from gossamer.sparsity.allocation import check_density
from gossamer.sparsity.layers import (
    check_weight,
    sparsifiable_layers,
    sparsifiable_weights,
    unwrap,
)
from gossamer.sparsity.pattern import Block, FittedBlock
from gossamer.sparsity.rule import magnitude

# What may stand between two layers: acts on each unit or channel alone.
_PASSES_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.ELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
    _BatchNorm,
)
_PASSES_FUNCTIONS = (
    torch.relu,
    torch.sigmoid,
    torch.tanh,
    torch.flatten,
    functional.relu,
    functional.gelu,
    functional.silu,
    functional.dropout,
    functional.max_pool2d,
    functional.avg_pool2d,
    functional.max_pool1d,
)
_PASSES_METHODS = ("relu", "sigmoid", "tanh", "flatten", "contiguous")


@dataclass(frozen=True)
class Chain:
    """A layer, the layer that reads its outputs, and the names of the modules between them."""

    first: str
    second: str
    between: tuple[str, ...]


def chains(model: nn.Module) -> list[Chain]:
    """Return the pairs of layers whose units between them can be reordered, found by torch.fx.

    Raises:
        UserError: the model cannot be traced.
    """
    layers = sparsifiable_layers(model)
    leaves = {id(module) for module in model.modules() if _passes(module)}

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
            return id(m) in leaves or super().is_leaf_module(m, qualified_name)

    try:
        graph = Tracer().trace(model)
    except Exception as error:  # whatever a model's own code raises under tracing
        raise UserError(
            f"rearrange cannot follow {type(model).__name__} ({type(error).__name__}: "
            f"{first_line(error)}); name the layers with pairs="
        ) from None
    modules = dict(model.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    chained = []
    for node in graph.nodes:
        if node.op != "call_module" or node.target not in layers:
            continue
        between: list[str] = []
        step = node
        flat = isinstance(modules[node.target], nn.Linear)
        while len(step.users) == 1 and calls[node.target] == 1:
            step = next(iter(step.users))
            if step.op == "call_module" and step.target in layers:
                # A Linear behind a convolution reads channels only where they were flattened.
                reads = flat or not isinstance(modules[step.target], nn.Linear)
                fits = _fits(modules[node.target], modules[step.target])
                if calls[step.target] == 1 and reads and fits:
                    chained.append(Chain(node.target, step.target, tuple(between)))
                break
            if not _passes_node(step, modules):
                break
            flat = flat or _flattens(step, modules)
            if step.op == "call_module":
                if calls[step.target] > 1:
                    break
                between.append(step.target)
    return chained


def _passes(module: nn.Module) -> bool:
    # k-winners choose among all units wherever they stand; their state is by unit or channel.
    return isinstance(module, _PASSES_MODULES) or hasattr(module, "duty_cycle")


def _passes_node(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return _passes(modules[str(node.target)])
    if node.op == "call_function":
        return node.target in _PASSES_FUNCTIONS
    return node.op == "call_method" and node.target in _PASSES_METHODS


def _flattens(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Flatten)
    return node.target in (torch.flatten, "flatten")


def _fits(first: nn.Module, second: nn.Module) -> bool:
    """Return whether ``second`` reads the outputs of ``first``, each at one or more positions."""
    of_first, of_second = first.weight, second.weight
    assert isinstance(of_first, Tensor)
    assert isinstance(of_second, Tensor)
    outputs, inputs = of_first.shape[0], of_second.shape[1]
    plain = getattr(first, "groups", 1) == 1 == getattr(second, "groups", 1)
    if not plain or (isinstance(first, nn.Linear) and not isinstance(second, nn.Linear)):
        return False
    both_linear = isinstance(first, nn.Linear) or not isinstance(second, nn.Linear)
    return bool(inputs == outputs if both_linear else inputs % outputs == 0)


def rearrange(
    model: nn.Module,
    density: float,
    pattern: Block | FittedBlock | None = None,
    *,
    pairs: Sequence[tuple[str, str] | Sequence[str]] | None = None,
) -> dict[str, float]:
    """Reorder output units so that similar ones are adjacent and blocks keep more magnitude.

    The inputs of the next layer, and modules between (batch norms, k-winners' duty cycles), are
    reordered too: ``model`` computes the same function, except for rounding of sums. Call this
    before pruning a trained network with :class:`Block`.

    Args:
        model: a network; Linear and convolution layers in chains are reordered, with batch norms,
            pooling and element-wise activations in between. Other layers do not change.
        density: density to which the layers will be pruned.
        pattern: the blocks to which they will be pruned.
        pairs: the chains as names ``(first, ...between, second)``, if the model cannot be traced.

    Returns:
        For each reordered layer, the magnitude that stays in blocks, divided by that of the old
        order. Layers without a better order are left out.

    Raises:
        UserError: a model that cannot be traced, unknown names, or layers that are not connected.
    """
    density = check_density(density, "rearrange")
    pattern = pattern or Block(8)
    if not isinstance(pattern, Block | FittedBlock):
        raise UserError(
            f"rearrange: only blocks profit from another order of the units: the pattern must be "
            f"a Block, not {pattern!r}"
        )
    model = unwrap(model)
    pairs_of_layers = chains(model) if pairs is None else [_named(model, pair) for pair in pairs]
    modules, weights = dict(model.named_modules()), sparsifiable_weights(model)
    gains = {}
    for chain in pairs_of_layers:
        check_weight(chain.first, weights[chain.first])
        weight = modules[chain.first].weight
        assert isinstance(weight, Tensor)
        block = pattern.fitted(weight.shape)
        if block.size == 1 or len(weight) % block.size or density >= 1.0:
            continue
        keep = block.keep(weight.shape, density)
        rows = magnitude(weight).flatten(1)
        before = float(rows[block.mask(rows, keep)].sum())
        starts = (
            torch.arange(len(rows), device=rows.device),
            _greedy(rows, keep / weight.numel(), block.size),
        )
        after, order = max(
            (_improved(rows, start, block, keep) for start in starts),
            key=lambda improved: improved[0],
        )
        if after > before * (1 + 1e-6):
            _permute(modules, chain, order)
            gains[chain.first] = after / before
    return gains


def _named(model: nn.Module, names: Sequence[str]) -> Chain:
    modules = dict(model.named_modules())
    layers = sparsifiable_layers(model)
    for name in names:
        if name not in modules:
            raise UserError(f"pairs: no module '{name}': {nearest(name, filter(None, modules))}")
    if len(names) < 2 or names[0] not in layers or names[-1] not in layers:
        raise UserError(
            f"pairs: {tuple(names)} must begin and end with a Linear or convolution layer"
        )
    if not _fits(modules[names[0]], modules[names[-1]]):
        raise UserError(f"pairs: '{names[-1]}' does not read the outputs of '{names[0]}'")
    return Chain(names[0], names[-1], tuple(names[1:-1]))


def _greedy(rows: Tensor, density: float, size: int) -> Tensor:
    """Return groups of ``size`` rows whose large entries are in the same columns.

    Greedy: the largest remaining row starts a group; then rows are added one by one, each the one
    that adds most where the group is large already.
    """
    columns = rows.shape[1]
    best = max(round(columns * density), 1)
    # What a row would keep by itself; the rest hardly matters to where blocks will stand.
    threshold = rows.kthvalue(columns - best + 1, dim=1, keepdim=True).values
    large = torch.where(rows >= threshold, rows, 0.0)
    left = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    order: list[int] = []
    while len(order) < len(rows):
        chosen = int((large.sum(dim=1) * left - (~left).float()).argmax())
        together = torch.zeros(columns, device=rows.device)
        for _ in range(size):
            order.append(chosen)
            left[chosen] = False
            together = together + large[chosen]
            if len(order) == len(rows):
                break
            fit = (large @ together).masked_fill(~left, -1.0)
            chosen = int(fit.argmax())
    return torch.tensor(order, device=rows.device)


def _improved(rows: Tensor, order: Tensor, pattern: Block, keep: int) -> tuple[float, Tensor]:
    """Move rows between blocks while that helps; return the magnitude that stays and the order.

    This alternates between the best blocks for fixed groups and the best groups for fixed blocks
    (a linear assignment); neither makes it worse.
    """
    best, best_order = -1.0, order
    while True:
        moved = rows[order]
        mask = pattern.mask(moved, keep)
        stays = float(moved[mask].sum())
        if stays <= best * (1 + 1e-6):
            return best, best_order
        best, best_order = stays, order
        worth = rows @ mask[:: pattern.size].to(rows.dtype).T
        slots = worth.repeat_interleave(pattern.size, dim=1)
        taken, slot = linear_sum_assignment(slots.cpu().numpy(), maximize=True)
        order = torch.empty_like(order)
        order[torch.from_numpy(slot)] = torch.from_numpy(taken).to(order.device)


@torch.no_grad()
def _permute(modules: dict[str, nn.Module], chain: Chain, order: Tensor) -> None:
    first: Any = modules[chain.first]
    second: Any = modules[chain.second]
    first.weight.copy_(first.weight[order])
    if first.bias is not None:
        first.bias.copy_(first.bias[order])
    inputs = second.weight.shape[1]
    # After flattening, each channel has a run of inputs.
    run = torch.arange(inputs // len(order), device=order.device)
    columns = (order[:, None] * len(run) + run).flatten()
    orders = {len(columns): columns, len(order): order}
    for name in chain.between:
        for tensor in (*modules[name].parameters(), *modules[name].buffers()):
            if tensor.dim() and len(tensor) in orders:
                tensor.copy_(tensor[orders[len(tensor)]])
    second.weight.copy_(second.weight[:, columns])
