"""An experiment as the report sees it: plain values, read once, judged against the thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gossamer.report import units
from gossamer.report.provenance import Provenance, metric_provenance
from gossamer.report.sources import ExperimentLike, FrontierLike, finite


@dataclass(frozen=True)
class Metric:
    """A metric to maximise or minimise; ``threshold`` is the worst value still acceptable.

    One that is not ``optimised`` only has to be acceptable.
    """

    name: str
    maximise: bool
    threshold: float | None
    optimised: bool = True

    @property
    def provenance(self) -> Provenance:
        return metric_provenance(self.name)

    @property
    def limit(self) -> str:
        """The threshold in words ("≥ 0.965", the space does not break); empty without one."""
        if self.threshold is None:
            return ""
        return f"{'≥' if self.maximise else '≤'}\u00a0{units.plain(float(self.threshold), 15)}"

    @property
    def goal(self) -> str:
        return "maximise" if self.maximise else "minimise"

    def inside(self, value: float) -> bool:
        """Whether ``value`` is acceptable; the threshold itself is."""
        if self.threshold is None:
            return True
        return value >= self.threshold if self.maximise else value <= self.threshold

    def better(self, value: float, than: float) -> bool:
        return value > than if self.maximise else value < than


@dataclass(frozen=True)
class Parameter:
    """A parameter of the search; ``options`` only for a choice."""

    name: str
    log: bool
    options: tuple[Any, ...] | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Trial:
    """A finished trial: ``values`` holds every metric, as finite numbers."""

    number: int
    parameters: dict[str, Any]
    values: dict[str, float]
    seconds: float | None
    inside: bool

    def written(self, parameter: str) -> str:
        """The parameter's value in words; a dash where the trial did not have it."""
        found = self.parameters
        return units.plain(found[parameter]) if parameter in found else units.NOTHING


@dataclass(frozen=True)
class Failure:
    """A trial without usable metrics that failed or was stopped early, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class Study:
    """Everything the report shows of an experiment.

    ``frontier`` holds the best trials inside the thresholds when ``feasible``, best in the
    first metric first, else the nearest to them, nearest first. ``waiting``
    counts trials that have not ended, ``cheaper`` those that did a cheaper task to its end: what
    they measured says nothing of the thresholds and is left out.
    """

    name: str
    metrics: tuple[Metric, ...]
    parameters: tuple[Parameter, ...]
    constraints: tuple[str, ...]
    budget: int | None
    settings: dict[str, Any]
    trials: tuple[Trial, ...]
    failures: tuple[Failure, ...]
    waiting: int
    frontier: tuple[Trial, ...]
    feasible: bool
    stopped: tuple[Failure, ...] = ()
    cheaper: int = 0

    @cached_property
    def digits(self) -> dict[str, int]:
        """Significant digits that tell the values of each metric apart."""
        found = {}
        for metric in self.metrics:
            values = [trial.values[metric.name] for trial in self.trials]
            values += [] if metric.threshold is None else [metric.threshold]
            found[metric.name] = units.digits_between(min(values), max(values)) if values else 4
        return found

    def written(self, metric: Metric, trial: Trial) -> str:
        """The trial's value of a metric, never rounded to a threshold that it misses."""
        value, digits = trial.values[metric.name], self.digits[metric.name]
        text = units.plain(value, digits)
        limit = units.plain(metric.threshold, 15)
        while text == limit and digits < 17 and not metric.inside(value):
            digits += 1
            text = units.plain(value, digits)
        return text

    @property
    def inside(self) -> int:
        return sum(trial.inside for trial in self.trials)

    @property
    def verdict(self) -> str:
        """What the frontier is, in words."""
        count = len(self.frontier)
        trials = f"{count} trial{'' if count == 1 else 's'}"
        if not self.trials:
            of = " of the full task" if self.cheaper else ""
            return f"no trial{of} is complete yet"
        if not self.feasible:
            shown = "is" if count == 1 else f"{count} are"
            return f"no trial is inside the thresholds; the nearest {shown} shown"
        return f"{trials} on the frontier{', inside the thresholds' if self.thresholds else ''}"

    @property
    def thresholds(self) -> bool:
        return any(metric.threshold is not None for metric in self.metrics)


def _maximise(metric: Any) -> bool:
    goal = getattr(metric, "goal", None)
    if isinstance(goal, str):
        return goal.lower().startswith("max")
    return "maxim" in type(metric).__name__.lower()


def _parameter(parameter: Any) -> Parameter:
    options = getattr(parameter, "options", None)
    return Parameter(
        str(parameter.name),
        bool(getattr(parameter, "log", False)),
        None if options is None else tuple(options),
        finite(getattr(parameter, "low", None)),
        finite(getattr(parameter, "high", None)),
    )


def _constraint(constraint: Any) -> str:
    terms: Mapping[str, float] = constraint.coefficients
    words: list[str] = []
    for name, factor in terms.items():
        size = "" if abs(factor) == 1 else f"{units.plain(float(abs(factor)))} · "
        sign = ("− " if factor < 0 else "+ ") if words else ("−" if factor < 0 else "")
        words.append(f"{sign}{size}{name}")
    return f"{' '.join(words)} ≤\u00a0{units.plain(float(constraint.at_most))}"


def _seconds(record: Any) -> float | None:
    return finite(getattr(record, "seconds", None))


def study(experiment: ExperimentLike, frontier: FrontierLike | None = None) -> Study:
    """Reads ``experiment`` once, so that page and tables show one and the same state.

    ``frontier`` is asked of the experiment when not given.

    A complete trial that lacks a metric, or whose metric is not finite, counts as failed.
    """
    metrics = tuple(
        Metric(
            str(metric.name),
            _maximise(metric),
            finite(getattr(metric, "threshold", None)),
            bool(getattr(metric, "optimised", True)),
        )
        for metric in experiment.metrics
    )
    trials: list[Trial] = []
    failures: list[Failure] = []
    stopped: list[Failure] = []
    waiting = cheaper = 0
    for record in experiment.trials():
        state = str(getattr(record.state, "value", record.state)).lower()
        if state in ("failed", "stopped"):
            reason = " ".join(str(record.reason or "").split())
            of_kind = failures if state == "failed" else stopped
            of_kind.append(Failure(record.number, reason or "no reason was given"))
        elif state == "complete" and getattr(record, "fidelity", None) is not None:
            cheaper += 1
        elif state == "complete":
            trial = _trial(record, metrics)
            trials.append(trial) if isinstance(trial, Trial) else failures.append(trial)
        else:
            waiting += 1
    if frontier is None:
        frontier = experiment.frontier()
    known = {trial.number: trial for trial in trials}
    best = tuple(known[trial.number] for trial in frontier.trials if trial.number in known)
    return Study(
        name=str(experiment.name),
        metrics=metrics,
        parameters=tuple(_parameter(parameter) for parameter in experiment.parameters),
        constraints=tuple(_constraint(constraint) for constraint in experiment.constraints),
        budget=experiment.budget,
        settings=dict(experiment.settings or {}),
        trials=tuple(trials),
        failures=tuple(failures),
        stopped=tuple(stopped),
        waiting=waiting,
        cheaper=cheaper,
        frontier=best,
        feasible=bool(frontier.feasible) and bool(best),
    )


def _trial(record: Any, metrics: Sequence[Metric]) -> Trial | Failure:
    values: dict[str, float] = {}
    for name, found in dict(record.values or {}).items():
        number = finite(found)
        if number is not None:
            values[str(name)] = number
    missing = [metric.name for metric in metrics if metric.name not in values]
    if missing:
        return Failure(record.number, f"no finite value of {', '.join(missing)}")
    inside = all(metric.inside(values[metric.name]) for metric in metrics)
    return Trial(record.number, dict(record.parameters), values, _seconds(record), inside)


def importances(experiment: ExperimentLike, study: Study) -> dict[str, dict[str, float]]:
    """Per metric, each parameter's share of the metric's variance, largest first.

    Metrics of which the experiment cannot tell yet are left out.
    """
    if len(study.trials) < 2:
        return {}
    shares = experiment.importances()
    found = {}
    for metric in study.metrics:
        ranked = sorted(shares.get(metric.name, {}).items(), key=lambda item: -item[1])
        known = {str(name): float(share) for name, share in ranked if finite(share) is not None}
        if known:
            found[metric.name] = known
    return found


def best_so_far(study: Study, metric: Metric) -> list[tuple[int, float]]:
    """Trial number and best value of ``metric`` so far among the trials inside all thresholds."""
    best: float | None = None
    steps = []
    for trial in sorted(study.trials, key=lambda trial: trial.number):
        value = trial.values[metric.name]
        if trial.inside and (best is None or metric.better(value, best)):
            best = value
        if best is not None:
            steps.append((trial.number, best))
    return steps


def hypervolume_so_far(study: Study) -> list[tuple[int, float]]:
    """Trial number and hypervolume inside the thresholds so far (two metrics only).

    The area that the trials inside dominate, from the two thresholds on, in one metric's unit
    times the other's. It is measured from what no trial moves, so it never falls.
    Empty unless exactly two metrics are optimised, both with a threshold, and it is above 0.
    """
    metrics = [metric for metric in study.metrics if metric.optimised]
    if len(metrics) != 2 or any(metric.threshold is None for metric in metrics):
        return []
    steps = []
    best: list[tuple[float, float]] = []  # of the gains so far those that no other dominates
    area = 0.0
    for trial in sorted(study.trials, key=lambda trial: trial.number):
        # Two gains over the thresholds, larger is better.
        x, y = (abs(trial.values[m.name] - (m.threshold or 0.0)) for m in metrics)
        if trial.inside and not any(a >= x and b >= y for a, b in best):
            best = [(a, b) for a, b in best if a > x or b > y]
            best = sorted([*best, (x, y)], reverse=True)
            area, covered = 0.0, 0.0
            for width, height in best:
                area += width * (height - covered)
                covered = height
        steps.append((trial.number, area))
    return steps if 0 < area < math.inf else []
