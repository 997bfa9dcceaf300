"""The search space of a compression, within the limits of its goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gossamer.compression.examination import Examination, Fit, accepted
from gossamer.compression.tuning import Tuning
from gossamer.search.metrics import Metric

TEACHER_SHARES = (0.0, 0.5, 0.9)
_HIGHEST = 0.7  # density
_WINNERS = (0.1, 0.2, 0.4, 1.0)
_MOST_ACTIVATIONS = 3  # with more activations than these, they share their winners


def limits_of(metrics: Sequence[Metric]) -> dict[str, float]:
    """Return the highest values that the metrics accept, by name."""
    return {m.name: m.threshold for m in metrics if m.goal.sign < 0 and m.threshold}


@dataclass(frozen=True)
class SearchSpace:
    """The ways of making a network sparse that stay within limits.

    Attributes:
        network: the examined network.
        limits: the highest values of counted metrics that the goals accept.
    """

    network: Examination
    limits: Mapping[str, float] = field(default_factory=dict)

    def parameters(self, tuning: Tuning) -> dict[str, Any]:
        """Return the parameters as in an experiment file."""
        trained = {"epochs": [n for n in tuning.lengths if n]}
        space: dict[str, Any] = {
            "weight_density": {
                "type": "float",
                "low": self.network.least,
                "high": self.highest(self.patterns[0]),
                "log": True,
            }
        }
        if len(self.patterns) > 1:
            space["pattern"] = {"type": "choice", "options": self.patterns}
        space["epochs"] = {"type": "grid", "values": tuning.lengths}
        if tuning.learning_rate is not None:
            low, high = tuning.learning_rate
            rate = {"type": "float", "low": low, "high": high, "log": True}
            space["learning_rate"] = {**rate, "when": trained}
            rule = {"type": "choice", "options": ["one_shot", "granet"]}
            space["rule"] = {**rule, "when": trained}
            share = {"type": "grid", "values": list(TEACHER_SHARES)}
            space["teacher_share"] = {**share, "when": trained}
        if tuning.crop:
            crop = {"type": "grid", "values": [0, tuning.crop]}
            space["crop"] = {**crop, "when": trained}
        if len(self.allocations) > 1:
            options = {"type": "choice", "options": self.allocations}
            space["allocation"] = {**options, "when": trained}
        for name, least in self.layers.items():
            own = {"type": "float", "low": least, "high": 1.0, "log": True}
            space[f"weight_density.{name}"] = {**own, "when": {"allocation": ["uniform"]}}
        for name in self.winners:
            space[name] = {"type": "grid", "values": self.shares, "when": trained}
        return space

    @cached_property
    def constraints(self) -> list[dict[str, Any]]:
        """Constraints, as in an experiment file, that hold single layers' densities to the limits.

        There is one for each pattern: a sum of the densities of the layers that it makes sparse,
        weighted by their sizes, which allows for dense layers and rounding. All must hold whichever
        pattern a trial has, because a linear constraint cannot depend on the pattern.
        """
        if not self.layers or {"density", "nonzero"}.isdisjoint(self.limits):
            return []
        total = self.network.weights
        bounds: dict[tuple[tuple[str, float], ...], float] = {}
        for pattern in self.patterns:
            fit = self.network.patterns[pattern]
            own = {
                f"weight_density.{name}": fit.sizes[name] / total
                for name in self.layers
                if name in fit.sizes
            }
            shared = sum(size for name, size in fit.sizes.items() if name not in self.layers)
            coefficients = {**({"weight_density": shared / total} if shared else {}), **own}
            key, bound = tuple(coefficients.items()), self._allowed(fit) / total
            bounds[key] = min(bounds.get(key, bound), bound)
        return [{"coefficients": dict(key), "at_most": bound} for key, bound in bounds.items()]

    def _allowed(self, fit: Fit) -> float:
        """Return how many weights a pattern's sparse layers may have within the limits."""
        return accepted(self.network.weights, self.limits) - fit.dense - fit.rounding

    def highest(self, pattern: str) -> float:
        """Return the highest density; above it the whole network exceeds its limit."""
        fit = self.network.patterns[pattern]
        allowed = self._allowed(fit) / (self.network.weights - fit.dense)
        return max(min(_HIGHEST, allowed), self.network.least)

    @cached_property
    def patterns(self) -> list[str]:
        """The first pattern, and the others that can stay within the limits."""
        first, *others = self.network.patterns
        return [first, *(pattern for pattern in others if self._fits(pattern))]

    def _fits(self, pattern: str) -> bool:
        fit = self.network.patterns[pattern]
        return self.network.least * sum(fit.sizes.values()) <= self._allowed(fit)

    @cached_property
    def layers(self) -> Mapping[str, float]:
        """The lowest densities of layers with separate ones; none if these exceed the limits."""
        lowest, least = self.network.layers, self.network.least
        spare = (
            self._allowed(fit)
            - sum(size * lowest.get(name, least) for name, size in fit.sizes.items())
            for fit in (self.network.patterns[pattern] for pattern in self.patterns)
        )
        return lowest if min(spare) > 0 else {}

    @cached_property
    def allocations(self) -> list[str]:
        """The allocations; where a density is too low for one, a trial fails at once.

        ``uniform`` has a density for each layer that may have a separate one.
        """
        alike = self.network.evenly <= min(map(self.highest, self.patterns))
        return [*self.network.allocations, *(["uniform"] if alike or self.layers else [])]

    @property
    def winners(self) -> list[str]:
        """The names of k-winners' settings: one for each activation, or one for many."""
        if len(self.network.activations) > _MOST_ACTIVATIONS:
            return ["winners"]
        return [f"winners.{name}" for name in self.network.activations]

    @property
    def shares(self) -> list[float]:
        """The shares of winners; a single layer may have twice the overall limit."""
        limit = self.limits.get("activation_density", 1.0)
        most = limit if self.winners == ["winners"] else min(2 * limit, 1.0)
        return sorted({limit, *(share for share in _WINNERS if share <= most)})
