"""The frontier: trials inside all thresholds that no other such trial beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gossamer.search.distinct import Solutions, distinct, most_different_first
from gossamer.search.metrics import Metric, losses
from gossamer.search.space.space import Space
from gossamer.search.trials.table import html_table, to_dataframe
from gossamer.search.trials.trial import TrialRecord

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


_TITLES = {
    "frontier": "On the frontier",
    "solutions": "Distinct solutions",
    "region": "Inside the thresholds",
}
# Of a region as many trials are sorted by how much they differ; nobody compares more.
_SORTED = 100


@dataclass(frozen=True)
class Frontier:
    """The best trials.

    Attributes:
        trials: if `feasible`, the non-dominated trials inside all thresholds, best in the first
            metric first; else the nearest misses: the trials whose violations no other trial
            undercuts, least violation in total first. Empty without complete trials.
        feasible: whether any trial is inside all thresholds.
        kind: "solutions" if an experiment asks for several: the best trials of which no two are
            close, best first; "region" if no metric is optimized: all trials inside, the most
            different first.
    """

    trials: list[TrialRecord]
    feasible: bool
    kind: Literal["frontier", "solutions", "region"] = "frontier"

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the trials as a DataFrame, see `to_dataframe`."""
        return to_dataframe(self.trials)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        words = (
            _TITLES[self.kind] if self.feasible else "No trial is inside the thresholds; nearest"
        )
        return f"<p>{words}:</p>{html_table(self.trials)}"


def violations(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Return how far each value is beyond its metric's threshold, in comparable units.

    A metric's unit is the median violation among the trials that violate its threshold, so that
    neither its scale nor outliers decide which trials are nearest.

    Args:
        values: float64 [trials, metrics].

    Returns:
        float64 [trials, metrics with a threshold]; at most 0 where acceptable.
    """
    columns = []
    for metric, column in zip(metrics, values.T, strict=True):
        if metric.threshold is None:
            continue
        beyond = np.array([metric.violation(value) for value in column])
        violated = np.sort(beyond[beyond > 0])
        if len(violated):
            # The median, written so that neither 1e308 overflows nor 1e-323 becomes 0.
            low, high = violated[(len(violated) - 1) // 2], violated[len(violated) // 2]
            with np.errstate(over="ignore"):
                beyond = beyond / (low + (high - low) / 2)
        columns.append(beyond)
    return np.stack(columns, axis=1) if columns else np.zeros((len(values), 0))


def non_dominated(losses: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that no other row dominates (nowhere greater, somewhere less).

    Equal rows do not dominate each other.

    Args:
        losses: float64 [trials, metrics], smaller is better.

    Returns:
        bool [trials].
    """
    at_most = (losses[:, None] <= losses[None]).all(axis=2)
    less = (losses[:, None] < losses[None]).any(axis=2)
    dominated: np.ndarray = np.any(at_most & less, axis=0)
    return ~dominated


def frontier(
    metrics: Sequence[Metric],
    records: Sequence[TrialRecord],
    space: Space | None = None,
    solutions: Solutions | None = None,
) -> Frontier:
    """Return the frontier of the complete trials among `records`.

    Args:
        metrics: the metrics to compare trials by.
        records: the trials.
        space: the parameters' space, needed to compare points.
        solutions: number and distance of several solutions, instead of the best trial.
    """
    kind: Literal["frontier", "solutions", "region"] = "frontier"
    if not any(metric.optimized for metric in metrics):
        kind = "region"
    elif solutions is not None and space is not None:
        kind = "solutions"
    complete = [record for record in records if record.state == "complete"]
    if not complete:
        return Frontier([], False, kind)
    values = np.array([[record.values[m.name] for m in metrics] for record in complete])
    better = losses(metrics, values)
    beyond = violations(metrics, values)
    inside = np.flatnonzero((beyond <= 0).all(axis=1))
    if len(inside):
        chosen = inside if kind == "solutions" else inside[non_dominated(better[inside])]
        order = sorted(chosen, key=lambda i: (*better[i], complete[i].number))
        points = [complete[i].parameters for i in order]
        if kind == "solutions":
            assert space is not None
            assert solutions is not None
            units = space.encode(points)
            order = [order[i] for i in distinct(space, units, range(len(order)), solutions)]
        elif kind == "region" and space is not None:
            order = [order[i] for i in most_different_first(space, points, _SORTED)]
        return Frontier([complete[i] for i in order], True, kind)
    # Only the violated part counts; ties are broken by the metrics themselves.
    misses = np.maximum(beyond, 0.0)
    nearest = np.flatnonzero(non_dominated(misses))
    order = sorted(
        (
            i
            for i in nearest
            if not any(
                (misses[j] == misses[i]).all()
                and (better[j] <= better[i]).all()
                and (better[j] < better[i]).any()
                for j in nearest
            )
        ),
        key=lambda i: (misses[i].sum(), complete[i].number),
    )
    return Frontier([complete[i] for i in order], False, kind)


def inside(metrics: Sequence[Metric], complete: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the complete trials that are inside all thresholds."""
    return [r for r in complete if all(m.violation(r.values[m.name]) <= 0 for m in metrics)]


def best(
    metrics: Sequence[Metric], complete: Sequence[TrialRecord]
) -> tuple[TrialRecord, bool] | None:
    """Return the first trial of the frontier, and whether it is inside all thresholds.

    Linear in the number of trials if one is inside; the whole frontier is quadratic.
    """
    optimized = [m for m in metrics if m.optimized]
    if acceptable := inside(metrics, complete):
        return min(
            acceptable, key=lambda r: (*(m.loss(r.values[m.name]) for m in optimized), r.number)
        ), True
    nearest = frontier(metrics, complete).trials
    return (nearest[0], False) if nearest else None
