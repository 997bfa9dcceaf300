"""Rules that stop a trial before its end.

A rule returns a reason to stop, or None, for the learning curves of a trial and of all others. A
new rule is a small frozen dataclass and an entry of `STOPPING`, by whose name experiment files
configure it and conformance tests find it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.numbers import number, whole
from gossamer.search.metrics import Metric
from gossamer.search.ranking import order
from gossamer.search.stopping.context import StoppingContext
from gossamer.search.stopping.learning_curves import Curve
from gossamer.search.stopping.optuna import OptunaPruner
from gossamer.search.validation import check_list, is_number, make_plain


@runtime_checkable
class StoppingRule(Protocol):
    """Interface of a rule; `reason` returns why to stop, in one line, or None."""

    def reason(self, context: StoppingContext) -> str | None: ...


@dataclass(frozen=True)
class _Forecasting:
    """Base of the rules that use a forecast of a trial's end."""

    confidence: float = 0.95
    least: int = 10

    def __post_init__(self) -> None:
        make_plain(self)
        if not is_number(self.confidence) or not 0 < self.confidence < 1:
            raise UserError(
                f"stopping.{_name(self)}: confidence must be between 0 and 1, "
                f"not {self.confidence!r}"
            )
        _check_count(self, "least", 1)


@dataclass(frozen=True)
class OutOfReach(_Forecasting):
    """Stops a trial whose learning curve cannot reach a threshold any more.

    Args:
        confidence: probability that a stopped trial would have ended outside the threshold, over
            all its reports together (see `Forecast`).
        least: finished curves before any trial is stopped; at least what `confidence` needs.
    """

    def reason(self, context: StoppingContext) -> str | None:
        for metric in context.metrics:
            latest = context.latest(metric.name)
            forecast = context.forecasts[metric.name]
            if metric.threshold is None or latest is None or len(forecast) < self.least:
                continue
            best = forecast.best(*latest, self.confidence)
            if metric.violation(best) > 0:
                return (
                    f"{metric.name} {number(latest[1])} after {latest[0]:.0%} would end at "
                    f"{number(best)} at best, outside the threshold {number(metric.threshold, 15)} "
                    f"(confidence {self.confidence:g}, {len(forecast)} finished curves)"
                )
        return None


@dataclass(frozen=True)
class Violated:
    """Stops a trial that violates the threshold of a metric which training does not improve.

    Args:
        metrics: their names, such as the density of a network with fixed masks.
    """

    metrics: Sequence[str] = ("density",)

    def __post_init__(self) -> None:
        make_plain(self)
        names = check_list("stopping.violated: metrics", self.metrics, str, "'density'")
        object.__setattr__(self, "metrics", tuple(names))

    def reason(self, context: StoppingContext) -> str | None:
        for metric in context.metrics:
            values = context.trial.values[metric.name]
            if metric.name not in self.metrics or not len(values) or math.isnan(values[-1]):
                continue
            if metric.threshold is not None and metric.violation(float(values[-1])) > 0:
                return (
                    f"{metric.name} {number(float(values[-1]))} is outside the threshold "
                    f"{number(metric.threshold, 15)}, and training does not improve it"
                )
        return None


@dataclass(frozen=True)
class Dominated(_Forecasting):
    """Stops a trial that would end dominated by a finished one of no higher cost.

    The best possible end of each optimized metric is then at most equal to the other's, which is
    inside all thresholds and made no more steps. If no metric is optimized, no trial is stopped.

    Args:
        confidence: probability of that, over all metrics and reports together (see `Forecast`).
        least: finished curves before any trial is stopped; never fewer than `confidence` needs.
    """

    def reason(self, context: StoppingContext) -> str | None:
        of = context.of()
        optimized = [metric for metric in context.metrics if metric.optimized]
        if not optimized:
            return None
        each = 1 - (1 - self.confidence) / len(optimized)
        best = []
        for metric in optimized:
            latest = context.latest(metric.name)
            forecast = context.forecasts[metric.name]
            if latest is None or of is None or len(forecast) < self.least:
                return None
            best.append(metric.loss(forecast.best(*latest, each)))
        for other in context.finished:
            ends = [metric.loss(other.ends[metric.name]) for metric in optimized]
            inside = all(m.violation(other.ends[m.name]) <= 0 for m in context.metrics)
            dominates = all(e <= b for e, b in zip(ends, best, strict=True)) and ends != best
            if inside and dominates and other.of is not None and other.of <= (of or 0):
                return (
                    f"would end dominated by trial {other.number} "
                    f"(confidence {self.confidence:g}, {len(context.finished)} finished curves)"
                )
        return None


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving: at rungs of rising cost only the best trials continue.

    A trial that reaches rung ``first``, ``first * reduction``, ``first * reduction**2`` ...
    continues if it is among the best 1/reduction of all that have reached the rung so far (ASHA,
    Li et al. 2020, arXiv 1810.05934). Trials are ordered by forecasts from their values there (see
    `Forecast`): inside all thresholds before outside, then by fronts of non-dominated points,
    as in multi-objective ASHA (Schmucker et al. 2021, arXiv 2106.12639). The thresholds are the
    full task's, so trials of a cheaper one are compared without them; of constraints alone,
    where nothing else tells them apart, by how far they are outside.

    Args:
        reduction: a share 1/reduction of the trials continues.
        first: steps before the first decision.
        least: other trials that must have reached a rung before any is stopped there.
    """

    reduction: int = 3
    first: int = 1
    least: int = 10

    def __post_init__(self) -> None:
        make_plain(self)
        _check_count(self, "reduction", 2)
        _check_count(self, "first", 1)
        _check_count(self, "least", 1)

    def reason(self, context: StoppingContext) -> str | None:
        now = int(context.trial.steps[-1])
        before = int(context.trial.steps[-2]) if len(context.trial.steps) > 1 else 0
        rung = self.first
        while rung * self.reduction <= now:
            rung *= self.reduction
        of = context.of()
        if not before < rung <= now or of is None or rung >= of:
            return None
        rows = [self._row(context, curve, rung, of) for curve in (context.trial, *context.others)]
        reached = [row for row in rows if row is not None]
        if rows[0] is None or len(reached) <= self.least:
            return None
        place = int(np.flatnonzero(order(context.ranking, np.array(reached)) == 0)[0])
        keep = math.ceil(len(reached) / self.reduction)
        if place < keep:
            return None
        return (
            f"place {place + 1} of {len(reached)} after {rung} steps; the best {keep} of them go on"
        )

    @staticmethod
    def _row(context: StoppingContext, curve: Curve, rung: int, of: int) -> list[float] | None:
        """Forecasts from the metrics at a rung; None for trials that did not get there."""
        row = []
        for metric in context.metrics:
            values = curve.values[metric.name]
            there = (curve.steps >= rung) & ~np.isnan(values)
            if not there.any():
                return None
            value = float(values[np.argmax(there)])
            share = min(1.0, rung / (curve.of or of))
            row.append(context.forecasts[metric.name].expected(share, value))
        return row


_Named = OutOfReach | Violated | Dominated | Halving | OptunaPruner
STOPPING: dict[str, type[_Named]] = {
    "violated": Violated,
    "out_of_reach": OutOfReach,
    "dominated": Dominated,
    "halving": Halving,
    "optuna": OptunaPruner,
}


def check_rules(rules: Sequence[StoppingRule], metrics: Sequence[Metric]) -> None:
    """Raise `UserError` if a rule does not support an experiment with these metrics."""
    for rule in rules:
        if isinstance(rule, OptunaPruner):
            rule.check(metrics)


def rules_from_mapping(data: Mapping[str, Any]) -> list[StoppingRule]:
    """Make the rules of ``[stopping.NAME]`` tables, in their order.

    Raises:
        UserError: an unknown rule or option, or a value out of range.
    """
    rules: list[StoppingRule] = []
    for name, options in data.items():
        if name not in STOPPING:
            raise UserError(f"stopping: no rule '{name}'; {nearest(name, STOPPING)}")
        if not isinstance(options, Mapping):
            raise UserError(f"stopping.{name} must be a table, not {options!r}")
        known = [f.name for f in fields(STOPPING[name])]
        for option in options:
            if option not in known:
                raise UserError(f"stopping.{name}: no option '{option}'; {nearest(option, known)}")
        rules.append(STOPPING[name](**options))
    return rules


def rules_to_mapping(rules: Sequence[StoppingRule]) -> dict[str, Any]:
    """Return entries for `rules_from_mapping`, of JSON types, without rules that are not in
    `STOPPING`, because these are code."""
    names = {kind: name for name, kind in STOPPING.items()}
    return {
        names[type(rule)]: {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(rule).items()
        }
        for rule in rules
        if isinstance(rule, _Named)
    }


def _check_count(rule: object, name: str, least: int) -> None:
    whole(getattr(rule, name), least, f"stopping.{_name(rule)}: {name}")


def _name(rule: object) -> str:
    return next((name for name, kind in STOPPING.items() if kind is type(rule)), "rule")
