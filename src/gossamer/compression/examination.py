"""The examination of a network: what of it can be sparse, and in which ways."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.nn import sparsify_activations
from gossamer.nn.activation_finder import activation_sites
from gossamer.sparsity import Sparsifier, SparsitySettings, choose_weights
from gossamer.sparsity.layers import dense_weights, unwrap
from gossamer.sparsity.rearrange import chains
from gossamer.training import count

SMALL_BLOCKS, _LARGE_BLOCKS = "block4", "fitted_block"
_PATTERNS = ("unstructured", SMALL_BLOCKS, "block8", "block16")
_SMALLEST_BLOCK, _LARGEST_BLOCK = 4, 16
_LEAST = (0.02, 0.05, 0.1, 0.2, 0.3)  # densities that are tried as the lowest one
_TRIAL = 0.5  # density at which a pattern is tried
_WINNERS = 0.1  # share of winners at which the replacement of activations is tried
_MOST_LAYERS = 6  # with more layers than these, they share their densities
# Layers that are not worth pruning: together at most so large a share of the multiply-adds, and of
# the weights that a network of the first trained density, or of the goals', may have.
_SMALL_MACS, _SMALL_WEIGHTS = 0.01, 0.1
#: Density of the first trainings: mostly accurate enough.
FIRST = 0.25
# Each unit of a layer with a separate density keeps so many inputs at least.
_INPUTS = 2


class Fit(NamedTuple):
    """The fit of a pattern to a network.

    Attributes:
        sizes: numbers of weights of the layers that it makes sparse, by name.
        dense: number of weights that it leaves dense.
        rounding: number of weights that rounding up to whole blocks can add.
    """

    sizes: Mapping[str, int]
    dense: int
    rounding: int


@dataclass(frozen=True)
class Examination:
    """The ways in which a network can be made sparse.

    Attributes:
        weights: total size of the weights of two and more dimensions.
        dense: sizes of weights that stay dense, by the parameter's name.
        patterns: possible patterns, from single weights to the largest blocks.
        least: the lowest density that is possible with all patterns.
        activations: names of the activations that k-winners can replace.
        allocations: allocations that are possible at the lowest density.
        evenly: the lowest density that is possible in all layers alike; below it, some have fewer
            weights than outputs.
        layers: the lowest density of each layer that may have a separate one, by name; empty if
            the network has many layers.
        rearranges: whether its units can be reordered before pruning to blocks.
        odd: numbers of outputs of layers that no block size divides, by name.
        small: layers that stay dense because that costs hardly any time and weights, usually the
            last one, with their shares of the multiply-adds.
    """

    weights: int
    dense: Mapping[str, int]
    patterns: Mapping[str, Fit]
    least: float
    activations: Sequence[str]
    allocations: Sequence[str]
    evenly: float
    layers: Mapping[str, float]
    rearranges: bool
    odd: Mapping[str, int] = field(default_factory=dict)
    small: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: nn.Module, example: Tensor, limits: Mapping[str, float] | None = None
    ) -> Examination:
        """Examine a copy of ``model``.

        Args:
            model: the dense network.
            example: inputs of the network.
            limits: the highest values of counted metrics that the goals accept.

        Raises:
            UserError: no weight of it can be sparse.
        """
        small = _small_layers(model, example, limits or {})
        make = partial(_sparsifier, model, exclude=tuple(small))
        last = list(choose_weights(model))[-1]
        chosen = choose_weights(model, small)
        dense = dense_weights(unwrap(model), chosen)
        sizes = {id(weight.parameter): weight.parameter.numel() for weight in chosen.values()}
        total = sum(dense.values()) + sum(sizes.values())
        outputs = {
            name: len(weight.by_output(weight.parameter)) // weight.groups
            for name, weight in chosen.items()
            if name != last  # without blocks the last one is dense
        }
        patterns: dict[str, Fit] = {}
        for pattern in (*_PATTERNS, *([_LARGE_BLOCKS] if _differ(outputs.values()) else [])):
            if sparsifier := make(pattern, _TRIAL):
                sparse = {name: mask.numel() for name, mask in sparsifier.masks.items()}
                rounding = (sparsifier.pattern.granularity or _LARGEST_BLOCK) * len(sparse)
                patterns[pattern] = Fit(sparse, total - sum(sparse.values()), rounding)
        if not patterns:
            raise UserError(f"{type(model).__name__} has no layer that can lose half its weights")
        fitting = (low for low in _LEAST if all(make(p, low) for p in patterns))
        least = next(fitting, _TRIAL)
        allocations = ["global"]
        if all(make(p, least, "erk") for p in patterns):
            allocations.append("erk")
        evenly = (d for d in _LEAST if all(make(p, d, "uniform") for p in patterns))
        # The last layer often does not divide into blocks, and has few weights.
        layers = {
            name: max(least, _INPUTS / weight.by_output(weight.parameter)[0].numel())
            for name, weight in chosen.items()
            if name != last
        }
        if len(chosen) > _MOST_LAYERS or max(layers.values(), default=1.0) >= 1.0:
            layers = {}
        return cls(
            weights=total,
            dense=dense,
            patterns=patterns,
            least=least,
            activations=_activations(model, example),
            allocations=allocations,
            evenly=next(evenly, 1.0),
            layers=layers,
            rearranges=_rearranges(model),
            odd={name: size for name, size in outputs.items() if size % _SMALLEST_BLOCK},
            small=small,
        )

    def sentences(self) -> list[str]:
        """Describe layers that stay dense, with their share, and those that blocks do not fit."""
        share = 1 - sum(self.dense.values()) / self.weights
        lines = [f"{self.weights:,} weights, {share:.1%} of them in layers that can be sparse"]
        lines += [
            f"stays dense: {name}, {size:,} weights, {size / self.weights:.1%}{self._macs(name)}"
            for name, size in self.dense.items()
        ]
        if self.odd:
            sizes = ", ".join(f"{name} has {size}" for name, size in self.odd.items())
            lines.append(
                f"no blocks: they share 4, 8 or 16 outputs, and {sizes}; "
                "a network with multiples of 16 runs faster at the same density"
            )
        return lines

    def _macs(self, parameter: str) -> str:
        """Return the end of a sentence on a layer that stays dense because it is small."""
        share = self.small.get(parameter.removesuffix(".weight"))
        return "" if share is None else f", and {share:.2%} of the multiply-adds"


def accepted(weights: int, limits: Mapping[str, float]) -> float:
    """Return how many of a network's weights the limits accept."""
    return min(weights, limits.get("density", 1.0) * weights, limits.get("nonzero", math.inf))


def _small_layers(
    model: nn.Module, example: Tensor, limits: Mapping[str, float]
) -> dict[str, float]:
    """Return the smallest layers, which together are not worth pruning, with their shares of the
    multiply-adds.

    A last layer of few weights is the usual one: each of its weights decides about a class, and
    without most of them accuracy falls, while its time does not count.
    """
    layers = {layer.name: layer for layer in count(copy.deepcopy(model), [example]).layers}
    every = sum(layer.macs_dense for layer in layers.values())
    chosen = choose_weights(model)
    total = sum(dense_weights(unwrap(model), ()).values())
    macs, weights = (
        _SMALL_MACS * every,
        _SMALL_WEIGHTS * min(FIRST * total, accepted(total, limits)),
    )
    small = {}
    for layer in sorted(layers.values(), key=lambda layer: (layer.macs_dense, layer.weights)):
        if layer.name not in chosen or not layer.macs_dense:
            continue
        macs, weights = macs - layer.macs_dense, weights - layer.weights
        if min(macs, weights) < 0:
            break
        small[layer.name] = layer.macs_dense / every
    return small


def _differ(outputs: Iterable[int]) -> bool:
    """Return whether layers differ in the largest block that divides their outputs."""
    largest = {math.gcd(size, _LARGEST_BLOCK) for size in outputs}
    return len(largest) > 1 and max(largest) >= _SMALLEST_BLOCK


def _sparsifier(
    model: nn.Module,
    pattern: str,
    density: float,
    allocation: str = "global",
    exclude: tuple[str, ...] = (),
) -> Sparsifier | None:
    """Make a sparsifier of a copy of ``model``; None if the pattern does not fit."""
    settings = SparsitySettings(
        pattern=pattern, allocation=allocation, rule="one_shot", exclude=exclude
    )
    try:
        return settings.sparsifier(copy.deepcopy(model), density, rescale=False)
    except UserError:
        return None


def _activations(model: nn.Module, example: Tensor) -> list[str]:
    try:
        sparsify_activations(copy.deepcopy(model), _WINNERS, example=example)
    except UserError:
        return []
    return [site.name for site in activation_sites(model, example)]


def _rearranges(model: nn.Module) -> bool:
    try:
        return bool(chains(model))
    except UserError:
        return False
