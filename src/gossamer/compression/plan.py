"""The experiment that is searched: written as a file, from a look at the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.files import write_text
from gossamer.nn import sparsify_activations
from gossamer.search.definition import describe_metric
from gossamer.search.metrics import Metric
from gossamer.sparsity import SparsitySettings, choose_weights
from gossamer.sparsity.layers import dense_weights, unwrap

_PATTERNS = ("unstructured", "block4", "block8", "block16")
_DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05)  # of the one-shot prunings that come first
_LEAST, _MOST = (0.02, 0.05, 0.1, 0.2, 0.3), 0.7  # densities searched
_WINNERS = (0.1, 0.2, 0.4, 1.0)
_TRIAL = 0.5  # density at which a pattern is tried


@dataclass(frozen=True)
class Look:
    """Possibilities of a network.

    Attributes:
        weights: numbers in weights of two and more dimensions.
        dense: those that stay dense, by the parameter's name.
        patterns: that its layers can have.
        least: the lowest density that its layers can have in all of them.
        winners: whether k-winners can take the place of its activations.
    """

    weights: int
    dense: Mapping[str, int]
    patterns: Sequence[str]
    least: float
    winners: bool

    @classmethod
    def at(cls, model: nn.Module, example: Tensor) -> Look:
        """A look at a copy of ``model``.

        Raises:
            UserError: it has no weight that can be sparse.
        """
        chosen = choose_weights(model)
        dense = dense_weights(unwrap(model), chosen)
        sizes = {id(weight.parameter): weight.parameter.numel() for weight in chosen.values()}
        patterns = [p for p in _PATTERNS if _fits(model, p, _TRIAL)]
        if not patterns:
            raise UserError(f"{type(model).__name__} has no layer that can lose half its weights")
        fitting = (low for low in _LEAST if all(_fits(model, p, low) for p in patterns))
        least = next(fitting, _TRIAL)
        total = sum(dense.values()) + sum(sizes.values())
        return cls(total, dense, patterns, least, _takes_winners(model, example))

    def sentences(self) -> list[str]:
        """Layers that stay dense, with their share."""
        share = 1 - sum(self.dense.values()) / self.weights
        lines = [f"{self.weights:,} weights, {share:.1%} of them in layers that can be sparse"]
        lines += [
            f"stays dense: {name}, {size:,} weights, {size / self.weights:.1%}"
            for name, size in self.dense.items()
        ]
        return lines


def _fits(model: nn.Module, pattern: str, density: float) -> bool:
    settings = SparsitySettings(pattern=pattern, allocation="global", rule="one_shot")
    try:
        settings.sparsifier(copy.deepcopy(model), density, rescale=False)
    except UserError:
        return False
    return True


def _takes_winners(model: nn.Module, example: Tensor) -> bool:
    try:
        sparsify_activations(copy.deepcopy(model), _WINNERS[1], example=example)
    except UserError:
        return False
    return True


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of pruned networks.

    Attributes:
        epochs: of the longest training.
        learning_rate: the lowest and the highest; None where the user's own function trains.
        settings: all other settings of the training.
    """

    epochs: int
    learning_rate: tuple[float, float] | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        return sorted({0, max(self.epochs // 3, 1), self.epochs})


def parameters(look: Look, tuning: Tuning) -> dict[str, Any]:
    """Search space as in an experiment file."""
    trained = {"epochs": [n for n in tuning.lengths if n]}
    space: dict[str, Any] = {
        "weight_density": {"type": "float", "low": look.least, "high": _MOST, "log": True}
    }
    if len(look.patterns) > 1:
        space["pattern"] = {"type": "choice", "options": list(look.patterns)}
    space["epochs"] = {"type": "grid", "values": tuning.lengths}
    if tuning.learning_rate is not None:
        low, high = tuning.learning_rate
        rate = {"type": "float", "low": low, "high": high, "log": True}
        space["learning_rate"] = {**rate, "when": trained}
        rule = {"type": "choice", "options": ["one_shot", "granet"]}
        space["rule"] = {**rule, "when": trained}
    if look.winners:
        space["winners"] = {"type": "grid", "values": list(_WINNERS), "when": trained}
    return space


def start(look: Look, tuning: Tuning) -> list[dict[str, Any]]:
    """First trials: pruning at once, which takes seconds, then two that are trained."""
    free = {"pattern": look.patterns[0]} if len(look.patterns) > 1 else {}
    blocks = {"pattern": look.patterns[-1]} if free else {}
    tuned: dict[str, Any] = {
        "epochs": tuning.lengths[-1],
        **({"winners": 1.0} if look.winners else {}),
    }
    if tuning.learning_rate is not None:
        tuned["rule"] = "granet"
    densities = [density for density in _DENSITIES if density >= look.least]
    return [
        *({"weight_density": density, "epochs": 0, **free} for density in densities),
        {"weight_density": max(0.1, look.least), **free, **tuned},
        {"weight_density": max(0.2, look.least), **blocks, **tuned},
    ]


def write_experiment(
    path: Path,
    look: Look,
    tuning: Tuning,
    metrics: Sequence[Metric],
    settings: Mapping[str, Any],
    budget: int,
    heading: Sequence[str],
) -> None:
    """Write the experiment file, with what was seen of the network as comments.

    Raises:
        UserError: the file cannot be written.
    """
    described = {
        "name": "compress",
        "budget": budget,
        "storage": f"sqlite:///{path.parent / 'search.db'}",
        "sampler": "gp",
        "start": start(look, tuning),
        "settings": {**settings, **tuning.settings},
        "metrics": {metric.name: describe_metric(metric) for metric in metrics},
        "parameters": parameters(look, tuning),
    }
    lines = [*heading, *look.sentences(), "epochs = 0 prunes at once and trains nothing"]
    comments = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    write_text(path, f"{comments}\n{tomli_w.dumps(described)}")
