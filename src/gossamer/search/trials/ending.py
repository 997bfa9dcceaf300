"""The end of a trial, as it is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from gossamer.numbers import Goal
from gossamer.search.metrics import Metric
from gossamer.search.trials.records import EXPECTED, REASON, value_attributes
from gossamer.search.trials.results import Returned


@dataclass(frozen=True)
class End:
    """The end of a trial.

    Attributes:
        state: Optuna's state.
        attributes: user attributes with its values or its reason.
        values: numbers of a complete trial, by name.
        violations: by how much each metric misses its threshold, in the form of Optuna's tools.
    """

    state: TrialState
    attributes: Mapping[str, Any]
    values: Mapping[str, float] | None = None
    violations: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def complete(cls, returned: Returned, metrics: Sequence[Metric]) -> End:
        """The end of a trial that returned all metrics."""
        values = returned.values
        attributes = value_attributes(values, returned.noise)
        beyond = {m.name: m.violation(values[m.name]) for m in metrics if m.threshold is not None}
        return cls(TrialState.COMPLETE, attributes, values, beyond)

    @classmethod
    def failed(cls, reason: str, values: Mapping[str, float]) -> End:
        """The end of a failed trial, with the values that it returned nevertheless."""
        return cls(TrialState.FAIL, {**value_attributes(values), REASON: reason})

    @classmethod
    def stopped(cls, reason: str, expected: Mapping[str, float]) -> End:
        """The end of a trial that was stopped early, with forecasts of its metrics."""
        return cls(TrialState.PRUNED, {REASON: reason, EXPECTED: dict(expected)})

    def ordered(self, objectives: Mapping[str, str]) -> list[float] | None:
        """Return `ordered_values` of a complete trial."""
        if self.values is None:
            return None
        return ordered_values(objectives, self.values, self.violations)


def ordered_values(
    objectives: Mapping[str, str], values: Mapping[str, float], violations: Mapping[str, float]
) -> list[float]:
    """Return the values of a complete trial as Optuna stores them.

    Args:
        objectives: see `gossamer.search.trials.storage.Store.objectives`.
        values: of the trial; an objective that it did not return gets the worst value.
        violations: of thresholds, by metric; without objectives, their sum is the only value.
    """
    if not objectives:
        return [sum(max(0.0, beyond) for beyond in violations.values())]
    return [values.get(n, -Goal(goal).sign * math.inf) for n, goal in objectives.items()]
