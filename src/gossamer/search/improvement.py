"""Detection that a search has stopped improving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.search.coverage import coverage_of
from gossamer.search.distinct import Solutions, distinct
from gossamer.search.metrics import Metric, losses, scaled
from gossamer.search.space.space import Space
from gossamer.search.trials.trial import TrialRecord

# Ended trials by parameter among which one is usually better, while there is something to find.
_PER_PARAMETER = 5
_LEAST = 10
# Gains below this share of the middle half of a metric's values are none.
_NOTHING = 1e-3


def usual_patience(parameters: int) -> int:
    """Return the number of ended trials without an improvement after which a search is stalled."""
    return max(_LEAST, _PER_PARAMETER * parameters)


def no_better(patience: int) -> str:
    """Return the remark on a stalled search."""
    return f"no better trial among the last {patience:,}"


def stalled(
    metrics: Sequence[Metric],
    records: Sequence[TrialRecord],
    patience: int,
    space: Space,
    solutions: Solutions | None = None,
) -> bool:
    """Whether none of the last trials was better than all before them.

    A trial is better if it is the first inside the thresholds, increases the hypervolume inside,
    or, while none is inside, is nearer to the thresholds. With several solutions, one must be
    better or new; without an optimized metric, the covered share must grow.

    Args:
        metrics: to compare trials by.
        records: the trials; only those of the full task that ended without failing count.
        patience: the number of last trials.
        space: of the parameters.
        solutions: number and distance of solutions, if several are searched for.
    """
    ended = (r for r in records if r.fidelity is None and r.state in ("complete", "stopped"))
    full = sorted(ended, key=lambda record: record.number)
    if len(full) <= patience:
        return False
    complete = [record for record in full if record.state == "complete"]
    before = sum(record.state == "complete" for record in full[:-patience])
    if before in (0, len(complete)):
        return before > 0
    values = np.array([[record.values[m.name] for m in metrics] for record in complete])
    beyond = np.array(
        [
            [max(0.0, m.violation(value)) for m, value in zip(metrics, row, strict=True)]
            for row in values
        ]
    )
    inside = np.asarray((beyond <= 0.0).all(axis=1))
    places = scaled(metrics, values)
    tolerance = _NOTHING * np.subtract(*np.quantile(places / 2, [0.75, 0.25], axis=0)) * 2
    if not inside[before:].any() and inside.any():
        return True
    if not inside.any():
        return not _any_better(beyond[:before], beyond[before:], tolerance)
    if not inside[:before].any():
        return False
    optimized = [m.optimized for m in metrics]
    better, tolerance = losses(metrics, values), tolerance[optimized]
    old, new = (np.flatnonzero(inside[part]) for part in (slice(before), slice(before, None)))
    new = new + before
    if not any(optimized):
        points = [complete[row].parameters for row in (*old, *new)]
        shares = coverage_of(space).shares(points)
        return bool(shares[-1] <= shares[len(old) - 1])
    if solutions is None:
        return not _any_better(better[old], better[new], tolerance)
    units = space.encode([record.parameters for record in complete])
    first, now = (
        distinct(space, units, rows[np.argsort(better[rows, 0], kind="stable")], solutions)
        for rows in (old, np.concatenate([old, new]))
    )
    gains = better[first, 0] - better[now[: len(first)], 0]
    return len(now) == len(first) and bool((gains <= tolerance).all())


def _any_better(old: np.ndarray, new: np.ndarray, tolerance: np.ndarray) -> bool:
    """Whether for any of the new losses, no old ones are as good in everything."""
    undercut = (new[:, None] < old[None] - tolerance).any(axis=2)
    return bool(undercut.all(axis=1).any())
