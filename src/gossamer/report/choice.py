"""Help in choosing a trial of the frontier: its knee, and the cost of each step along it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.plots.axes import scale_of

if TYPE_CHECKING:
    from gossamer.search import Snapshot, TrialRecord
    from gossamer.search.metrics import Metric


def knee(snapshot: Snapshot) -> TrialRecord | None:
    """Return the trial at the frontier's sharpest bend; None if it does not bend.

    This is the trial with the largest sum of metrics, each scaled from the frontier's worst value
    (0) to its best (1), as in the plots. With two metrics, it is farthest from the straight line
    between the frontier's ends. Das, "On characterizing the 'knee' of the Pareto curve based on
    normal-boundary intersection", Structural Optimization 18, 1999.
    """
    trials = _trials(snapshot)
    if len(trials) < 3:
        return None
    gains = _gains(snapshot, trials)
    best = max(range(len(trials)), key=lambda at: sum(gains[at]))
    return None if 1.0 in gains[best] else trials[best]


def choice(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the data that `choice.js` shows; None if the frontier has no trade-off.

    Each of ``trials`` has ``gains``, its optimized metrics scaled as for the `knee`; ``steps`` lead
    from the frontier's worst trial in the first optimized metric to its best.
    """
    trials, metrics = _trials(snapshot), _optimized(snapshot)
    if len(trials) < 2:
        return None
    bend, unit = knee(snapshot), _unit(metrics[0], trials)
    gains = _gains(snapshot, trials)
    upwards = trials[::-1]
    return {
        "metrics": [snapshot.label(metric) for metric in metrics],
        "trials": [
            {"number": trial.number, "gains": scaled, "text": words.values(snapshot, trial)}
            for trial, scaled in zip(trials, gains, strict=True)
        ],
        "knee": None if bend is None else bend.number,
        "unit": f"{units.plain(unit)} {snapshot.label(metrics[0])}",
        "steps": [
            step
            for worse, better in itertools.pairwise(upwards)
            if (step := _step(snapshot, worse, better, unit))
        ],
    }


def compared(snapshot: Snapshot, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the data of trials that `choice.js` compares: metrics, and each trial as text."""
    return {
        "metrics": [
            {"name": m.name, "label": snapshot.label(m), "limit": words.limit(m) or words.role(m)}
            for m in snapshot.metrics
        ],
        "trials": [
            {
                "number": trial.number,
                "texts": words.texts(snapshot, trial),
                "missed": words.all_missed(snapshot, trial),
            }
            for trial in trials
        ],
    }


def _optimized(snapshot: Snapshot) -> list[Metric]:
    return [metric for metric in snapshot.metrics if metric.optimized]


def _trials(snapshot: Snapshot) -> Sequence[TrialRecord]:
    """Return the frontier's trials; none if there is no trade-off between metrics."""
    front = snapshot.frontier
    return front.trials if front.feasible and len(_optimized(snapshot)) > 1 else ()


def _gains(snapshot: Snapshot, trials: Sequence[TrialRecord]) -> list[list[float]]:
    """Return each trial's metrics scaled from the worst of the trials (0) to the best (1)."""
    columns = []
    for metric in _optimized(snapshot):
        values = [trial.values[metric.name] for trial in trials]
        scale = scale_of(values, log=metric.log)
        places = [metric.goal.sign * scale.position(value) for value in values]
        low, high = min(places), max(places)
        columns.append([(p - low) / (high - low) if high > low else 1.0 for p in places])
    return [list(row) for row in zip(*columns, strict=True)]


def _unit(metric: Metric, trials: Sequence[TrialRecord]) -> float:
    """Return the unit for costs: 0.01 for a share, or else the power of ten below the range."""
    values = [trial.values[metric.name] for trial in trials]
    size = max(values) / 2 - min(values) / 2
    if size <= 0:
        return 1.0
    shares = all(0 <= value <= 1 for value in values) and size > 0.0005
    return 0.01 if shares else float(f"1e{math.floor(math.log10(size))}")


def _step(
    snapshot: Snapshot, worse: TrialRecord, better: TrialRecord, unit: float
) -> Mapping[str, Any] | None:
    """Describe the step to a neighbor on the frontier; None if both have the same values."""
    first, *others = _optimized(snapshot)
    gained = better.values[first.name] - worse.values[first.name]
    changes = []
    for metric in others:
        change = better.values[metric.name] - worse.values[metric.name]
        low, high = sorted((worse.values[metric.name], better.values[metric.name]))
        ratio = high / low if low > 0 else 1.0
        price = change / abs(gained) * unit if gained else 0.0
        changes.append(
            {
                "metric": snapshot.label(metric),
                "text": _signed(change),
                "times": units.times(ratio) if change and 1.05 <= ratio < 1e6 else "",
                "price": _signed(price) if gained and math.isfinite(price) else units.NOTHING,
            }
        )
    if not gained and all(worse.values[m.name] == better.values[m.name] for m in others):
        return None
    return {
        "from": worse.number,
        "to": better.number,
        "metric": snapshot.label(first),
        "gain": _signed(gained),
        "changes": changes,
    }


def _signed(value: float) -> str:
    """Write a difference with its sign."""
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return sign + units.plain(abs(float(value)), 3)
