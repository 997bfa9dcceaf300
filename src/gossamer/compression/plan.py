"""The experiment file of a compression, from an examination of the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from torch import Tensor, nn

from gossamer.errors import UserError, one_line
from gossamer.files import write_text
from gossamer.nn import sparsify_activations
from gossamer.nn.activation_finder import activation_sites
from gossamer.search.definition import UNLIMITED, describe_metric
from gossamer.search.metrics import Metric
from gossamer.search.stopping.continuation import Continuation
from gossamer.sparsity import Sparsifier, SparsitySettings, choose_weights
from gossamer.sparsity.layers import dense_weights, unwrap
from gossamer.sparsity.rearrange import chains
from gossamer.training import count

_SMALL_BLOCKS, _LARGE_BLOCKS = "block4", "fitted_block"
_PATTERNS = ("unstructured", _SMALL_BLOCKS, "block8", "block16")
_SMALLEST_BLOCK, _LARGEST_BLOCK = 4, 16
_LEAST, _MOST = (0.02, 0.05, 0.1, 0.2, 0.3), 0.7  # densities searched
_WINNERS = (0.1, 0.2, 0.4, 1.0)
_TEACHER_SHARES = (0.0, 0.5, 0.9)
_ROUNDS = 5  # of longer training: 32 times the shortest one is nearly the whole search
_TRIAL = 0.5  # density at which a pattern is tried
# With more layers or activations than these, they share their densities.
_MOST_LAYERS, _MOST_ACTIVATIONS = 6, 3
# Share of a training in which k-winners go from all units to their final share.
_ANNEALED = 0.5
# Layers that are not worth pruning: together at most so large a share of the multiply-adds, and of
# the weights that a network of the first trained density, or of the goals', may have.
_SMALL_MACS, _SMALL_WEIGHTS = 0.01, 0.1
# Densities of the first trainings. Mostly the highest is accurate enough and the lowest is not, and
# the fastest network that is lies between them.
_FIRST, _MIDDLE, _LAST = 0.25, 0.16, 0.1
# A layer with a separate density leaves each unit so many inputs; in a first trial so many times as
# many, since a first convolution has few.
_INPUTS, _SPARED = 2, 3


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
class Look:
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
    def at(
        cls, model: nn.Module, example: Tensor, limits: Mapping[str, float] | None = None
    ) -> Look:
        """Examine a copy of ``model``.

        Args:
            model: the dense network.
            example: inputs of the network.
            limits: as in `parameters`.

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
    macs, weights = _SMALL_MACS * every, _SMALL_WEIGHTS * min(_FIRST * total, _count(total, limits))
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
        sparsify_activations(copy.deepcopy(model), _WINNERS[0], example=example)
    except UserError:
        return []
    return [site.name for site in activation_sites(model, example)]


def _rearranges(model: nn.Module) -> bool:
    try:
        return bool(chains(model))
    except UserError:
        return False


@dataclass(frozen=True)
class Tuning:
    """Settings of fine-tuning pruned networks.

    Attributes:
        epochs: epochs of the longest training.
        learning_rate: the lowest and the highest rate; None if a function of the user trains.
        settings: all other settings of the training.
        first_rate: the rate of the first trials; by default the geometric mean of the two.
    """

    epochs: int
    learning_rate: tuple[float, float] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    first_rate: float | None = None

    @property
    def lengths(self) -> list[int]:
        return sorted({0, max(self.epochs // 3, 1), self.epochs})


def parameters(
    look: Look, tuning: Tuning, limits: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return the search space as in an experiment file.

    Args:
        look: the examined network.
        tuning: settings of fine-tuning.
        limits: the highest values of counted metrics that the goals accept; the space ends there.
    """
    limits = limits or {}
    patterns = _patterns(look, limits)
    trained = {"epochs": [n for n in tuning.lengths if n]}
    space: dict[str, Any] = {
        "weight_density": {
            "type": "float",
            "low": look.least,
            "high": _most(look, patterns[0], limits),
            "log": True,
        }
    }
    if len(patterns) > 1:
        space["pattern"] = {"type": "choice", "options": patterns}
    space["epochs"] = {"type": "grid", "values": tuning.lengths}
    if tuning.learning_rate is not None:
        low, high = tuning.learning_rate
        rate = {"type": "float", "low": low, "high": high, "log": True}
        space["learning_rate"] = {**rate, "when": trained}
        rule = {"type": "choice", "options": ["one_shot", "granet"]}
        space["rule"] = {**rule, "when": trained}
        share = {"type": "grid", "values": list(_TEACHER_SHARES)}
        space["teacher_share"] = {**share, "when": trained}
    layers = _layers(look, limits)
    allocations = _allocations(look, limits)
    if len(allocations) > 1:
        options = {"type": "choice", "options": allocations}
        space["allocation"] = {**options, "when": trained}
    for name, least in layers.items():
        own = {"type": "float", "low": least, "high": 1.0, "log": True}
        space[f"weight_density.{name}"] = {**own, "when": {"allocation": ["uniform"]}}
    for name in _winners(look):
        shares = {"type": "grid", "values": _shares(look, limits)}
        space[name] = {**shares, "when": trained}
    return space


def constraints(look: Look, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return constraints, as in an experiment file, that hold single layers' densities to limits.

    There is one for each pattern: a sum of the densities of the layers that it makes sparse,
    weighted by their sizes, which allows for dense layers and rounding. All must hold whichever
    pattern a trial has, because a linear constraint cannot depend on the pattern.
    """
    layers = _layers(look, limits)
    if not layers or not _limited(limits):
        return []
    bounds: dict[tuple[tuple[str, float], ...], float] = {}
    for pattern in _patterns(look, limits):
        fit = look.patterns[pattern]
        own = {f"weight_density.{n}": fit.sizes[n] / look.weights for n in layers if n in fit.sizes}
        shared = sum(size for name, size in fit.sizes.items() if name not in layers) / look.weights
        coefficients = {**({"weight_density": shared} if shared else {}), **own}
        key, bound = tuple(coefficients.items()), _allowed(look, fit, limits) / look.weights
        bounds[key] = min(bounds.get(key, bound), bound)
    return [{"coefficients": dict(key), "at_most": bound} for key, bound in bounds.items()]


def _limited(limits: Mapping[str, float]) -> bool:
    return not {"density", "log_density", "nonzero", "log_nonzero"}.isdisjoint(limits)


def _allowed(look: Look, fit: Fit, limits: Mapping[str, float]) -> float:
    """Return how many weights a pattern's sparse layers may have within the limits."""
    return _count(look.weights, limits) - fit.dense - fit.rounding


def _count(weights: int, limits: Mapping[str, float]) -> float:
    """Return how many of a network's weights the limits accept."""
    counts = [
        weights,
        limits.get("density", 1.0) * weights,
        math.exp(limits.get("log_density", 0.0)) * weights,
        limits.get("nonzero", math.inf),
        math.exp(min(limits.get("log_nonzero", math.inf), 700.0)),  # of more, no float
    ]
    return min(counts)


def _most(look: Look, pattern: str, limits: Mapping[str, float]) -> float:
    """Return the highest density to search; above it the whole network exceeds its limit."""
    fit = look.patterns[pattern]
    allowed = _allowed(look, fit, limits) / (look.weights - fit.dense)
    return max(min(_MOST, allowed), look.least)


def _patterns(look: Look, limits: Mapping[str, float]) -> list[str]:
    """Return the first pattern, and the others that can stay within the limits."""
    first, *others = look.patterns
    return [first, *(p for p in others if _fits(look, look.patterns[p], limits))]


def _fits(look: Look, fit: Fit, limits: Mapping[str, float]) -> bool:
    return look.least * sum(fit.sizes.values()) <= _allowed(look, fit, limits)


def _layers(look: Look, limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return the layers with separate densities; none if their lowest exceed the limits."""
    fits = (look.patterns[pattern] for pattern in _patterns(look, limits))
    spare = (
        _allowed(look, fit, limits)
        - sum(size * look.layers.get(name, look.least) for name, size in fit.sizes.items())
        for fit in fits
    )
    return look.layers if min(spare) > 0 else {}


def _allocations(look: Look, limits: Mapping[str, float]) -> list[str]:
    """Return the allocations to search; where a density is too low for one, a trial fails at once.

    ``uniform`` has a density for each layer that may have a separate one.
    """
    alike = look.evenly <= min(_most(look, p, limits) for p in _patterns(look, limits))
    return [*look.allocations, *(["uniform"] if alike or _layers(look, limits) else [])]


def _winners(look: Look) -> list[str]:
    """Return the names of k-winners' settings: one for each activation, or one for many."""
    if len(look.activations) > _MOST_ACTIVATIONS:
        return ["winners"]
    return [f"winners.{name}" for name in look.activations]


def _shares(look: Look, limits: Mapping[str, float]) -> list[float]:
    """Return the shares of winners to search; a single layer may have twice the overall limit."""
    limit = limits.get("activation_density", 1.0)
    most = limit if _winners(look) == ["winners"] else min(2 * limit, 1.0)
    return sorted({limit, *(share for share in _WINNERS if share <= most)})


def start(
    look: Look, tuning: Tuning, limits: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return the first trials: without training (seconds), then short and long trainings.

    The arguments are those of `parameters`.
    """
    limits = limits or {}
    patterns = _patterns(look, limits)

    def point(
        density: float, pattern: str, length: int, winners: float, own: bool
    ) -> dict[str, Any]:
        most = _most(look, pattern, limits)
        made: dict[str, Any] = {"weight_density": min(max(density, look.least), most)}
        if len(patterns) > 1:
            made["pattern"] = pattern
        made["epochs"] = tuning.lengths[length]
        if not made["epochs"]:
            return made
        if tuning.learning_rate is not None:
            made |= {"rule": "granet", "teacher_share": _TEACHER_SHARES[-1]}
            if tuning.first_rate is not None:
                made["learning_rate"] = tuning.first_rate
        if len(_allocations(look, limits)) > 1:
            made["allocation"] = "global"
        shares = _shares(look, limits)
        share = min((s for s in shares if s >= winners), default=shares[-1])
        share = min(share, limits.get("activation_density", 1.0))
        made |= dict.fromkeys(_winners(look), share)
        return {**made, **_own(look, limits, made["weight_density"])} if own else made

    single, largest = patterns[0], patterns[-1]
    small = _SMALL_BLOCKS if _SMALL_BLOCKS in patterns else largest
    wanted: list[tuple[float, str, int, float, bool]] = [
        (0.5, single, 0, 1.0, False),
        (0.2, single, 0, 1.0, False),
        (0.5, largest, 0, 1.0, False),
        # The fastest structures, briefly: blocks in each layer, in first ones too, which the
        # largest weights of all leave dense. The promising ones are trained longer.
        *(
            (density, blocks, 1, 1.0, True)
            for density in (_FIRST, _LAST, _MIDDLE)
            for blocks in (small, largest)
        ),
        (_FIRST, single, 1, 1.0, False),
        # The fastest first again: continuation brings single weights to the accuracy meanwhile.
        (_MIDDLE, small, -1, 1.0, True),
        (_LAST, largest, -1, 1.0, True),
        (_LAST, largest, 1, 0.2, True),  # k-winners make some networks faster, others slower
        (_FIRST, single, -1, 1.0, False),
        (_FIRST, largest, -1, 1.0, False),
        (_LAST, largest, -1, 0.2, True),
        (_LAST, largest, -1, 0.1, True),
        (0.05, largest, -1, 0.1, True),
    ]
    points = [point(*each) for each in wanted]
    return [made for i, made in enumerate(points) if made not in points[:i]]


def _own(look: Look, limits: Mapping[str, float], density: float) -> dict[str, Any]:
    """Return a point's settings with the same density in each layer, as far as limits allow.

    Empty if that is not possible within the limits.
    """
    layers = _layers(look, limits)
    if not layers and "uniform" in _allocations(look, limits) and density >= look.evenly:
        return {"allocation": "uniform"}
    for times in (_SPARED, 1):
        spared = {n: min(times * low, 1.0) for n, low in layers.items() if low > look.least}
        shared = density
        for bound in constraints(look, limits):
            terms = [(n.partition(".")[2], c) for n, c in bound["coefficients"].items()]
            fixed = sum(max(density, spared[n]) * c for n, c in terms if n in spared)
            if free := sum(c for n, c in terms if n not in spared):
                shared = min(shared, (bound["at_most"] - fixed) / free)
        if layers and shared >= look.least:
            each = {f"weight_density.{n}": max(shared, spared.get(n, 0.0)) for n in layers}
            return {"allocation": "uniform", "weight_density": shared, **each}
    return {}


def limits_of(metrics: Sequence[Metric]) -> dict[str, float]:
    """Return the highest values that the metrics accept, by name."""
    return {m.name: m.threshold for m in metrics if m.goal.sign < 0 and m.threshold}


def write_experiment(
    path: Path,
    look: Look,
    tuning: Tuning,
    metrics: Sequence[Metric],
    settings: Mapping[str, Any],
    heading: Sequence[str],
    quality: Sequence[str],
) -> None:
    """Write the experiment file, with ``heading`` and ``Look.sentences`` as comments.

    Args:
        path: of the file.
        look: the examined network.
        tuning: settings of fine-tuning.
        metrics: of the search.
        settings: that all trials share.
        heading: lines for its beginning.
        quality: metrics that training improves; one of ``metrics`` at least.

    Raises:
        UserError: the file cannot be written.
    """
    limits = limits_of(metrics)
    fixed: dict[str, Any] = {"rearrange": True} if look.rearranges else {}
    if look.small:
        fixed["exclude"] = list(look.small)
    if look.activations and tuning.learning_rate is not None:
        fixed["activation_anneal"] = _ANNEALED
    described = {
        "name": "compress",
        "budget": UNLIMITED,
        "storage": f"sqlite:///{path.parent / 'search.db'}",
        "sampler": "gp",
        "start": start(look, tuning, limits),
        "settings": {**settings, **tuning.settings, **fixed},
        "metrics": {metric.name: describe_metric(metric) for metric in metrics},
        "parameters": parameters(look, tuning, limits),
        "continuation": asdict(
            Continuation([m.name for m in metrics if m.name in quality], rounds=_ROUNDS)
        ),
    }
    if keep := constraints(look, limits):
        described["constraints"] = keep
    lines = [
        *(*heading, *look.sentences(), "epochs = 0 prunes at once and trains nothing"),
        "continuation: trials that nearly meet the goals are trained 2, 4, 8, ... times as long",
    ]
    comments = "".join(f"# {one_line(line)}\n" for line in lines)
    write_text(path, f"{comments}\n{tomli_w.dumps(described)}")
