"""Goals of a compressed network: thresholds, and the metrics to optimize."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gossamer.deploy.metrics import METRICS
from gossamer.errors import UserError, nearest
from gossamer.search.metrics import AtLeast, AtMost, Maximize, Metric, Minimize

#: Acceptable loss if no goal is about the quality of the answers: half a point.
LOSS = 0.005

#: The metric of a user's ``evaluate`` that returns a number; more is better.
SCORE = "score"

# Metrics that say how good the network's answers are.
_QUALITY = ("accuracy", "error_rate", "loss")


@dataclass(frozen=True)
class Goals:
    """Goals by metric.

    Attributes:
        at_least, at_most: the worst acceptable value.
        lose_at_most: the largest acceptable loss against the dense network.
        maximize, minimize: metrics to optimize inside all thresholds, the most important
            first; by default ``speedup``.
        own: metrics that the user's own ``evaluate`` returns, in addition to those of
            :data:`gossamer.deploy.METRICS`.

    Raises:
        UserError: an unknown metric, a goal in the wrong direction, a value that is no number,
            or two thresholds for one metric.
    """

    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    lose_at_most: Mapping[str, float] = field(default_factory=dict)
    maximize: Sequence[str] = ()
    minimize: Sequence[str] = ()
    own: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("maximize", "minimize"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        known = {*METRICS, *self.own}
        # Goal, its metrics, their direction, and the same goal for the other direction.
        goals: list[tuple[str, Collection[str], str, str]] = [
            ("at_least", self.at_least, "maximize", "at_most"),
            ("at_most", self.at_most, "minimize", "at_least"),
            ("lose_at_most", self.lose_at_most, "", ""),
            ("maximize", self.maximize, "maximize", "minimize"),
            ("minimize", self.minimize, "minimize", "maximize"),
        ]
        for goal, names, wanted, turned in goals:
            for name in names:
                if name not in known:
                    raise UserError(f"{goal}: no metric '{name}'; {nearest(name, known)}")
                better = METRICS[name].goal if name in METRICS else wanted
                if wanted and better != wanted:
                    less = "more" if METRICS[name].goal.sign > 0 else "less"
                    raise UserError(f"{goal} {name}: {less} is better; use {turned}")
        for goal, values in (
            ("at_least", self.at_least),
            ("at_most", self.at_most),
            ("lose_at_most", self.lose_at_most),
        ):
            for name, value in values.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if not is_number or not math.isfinite(value):
                    raise UserError(f"{goal} {name}: must be a number, not {value!r}")
                if goal == "lose_at_most" and value < 0:
                    raise UserError(f"lose_at_most {name}: must not be negative, not {value!r}")
                if name in METRICS and name not in self.own:
                    METRICS[name].check_number(value, goal)
        for name in self.lose_at_most:
            if name in self.at_least or name in self.at_most:
                raise UserError(
                    f"{name} has two thresholds, lose_at_most and at_least or at_most; keep one"
                )

    def metrics(self, dense: Mapping[str, float]) -> list[Metric]:
        """Return the metrics of the search, optimized ones first.

        Args:
            dense: values of the dense network.

        Raises:
            UserError: nothing says whether more of a metric of the user is better, or no network
                has a loss as large as the acceptable one.
        """
        limits = {**self.at_least, **self.at_most, **self._losses(dense)}
        optimized = dict.fromkeys(self.maximize, Maximize) | dict.fromkeys(self.minimize, Minimize)
        optimized = optimized or {"speedup": Maximize}
        made: list[Metric] = [kind(n, limits.get(n)) for n, kind in optimized.items()]
        for name, limit in limits.items():
            if name not in optimized:
                made.append((AtLeast if self._rises(name) else AtMost)(name, limit))
        return made

    @property
    def quality(self) -> tuple[str, ...]:
        """The metrics that say how good the network's answers are, which training improves."""
        return tuple(self.own) or _QUALITY

    def _rises(self, name: str) -> bool:
        """Whether more of the metric is better."""
        if name in METRICS:
            return METRICS[name].goal.sign > 0
        return name not in self.at_most and name not in self.minimize

    def _losses(self, dense: Mapping[str, float]) -> dict[str, float]:
        losses = dict(self.lose_at_most)
        quality = {*self.quality}
        named = {*self.at_least, *self.at_most, *losses, *self.maximize, *self.minimize}
        if not quality & named:
            first = next(iter(self.own), "accuracy")
            # The unit of a user's own metric is unknown.
            losses[first] = LOSS * abs(dense[first]) if self.own else min(LOSS, dense[first])
        directed = {*METRICS, SCORE, *self.at_least, *self.at_most, *self.maximize, *self.minimize}
        for name in losses:
            if name not in directed:
                raise UserError(
                    f"is more of '{name}' better, or less? Say so with at_least or at_most and "
                    f"its worst value (the dense network has {dense[name]:.6g}), or name it in "
                    "maximize or minimize"
                )
        limits = {
            name: dense[name] - loss if self._rises(name) else dense[name] + loss
            for name, loss in losses.items()
        }
        for name, limit in limits.items():
            try:
                if name in METRICS and name not in self.own:
                    METRICS[name].check_number(limit, "")
            except UserError:
                raise UserError(
                    f"lose_at_most {name}: no network loses {losses[name]:g} against "
                    f"{dense[name]:.6g}, which the dense network has; write less, or leave it out"
                ) from None
        return limits
