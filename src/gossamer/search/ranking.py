"""Ordering of points by several metrics with thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.search.frontier import non_dominated, violations
from gossamer.search.metrics import Metric, losses


def order(metrics: Sequence[Metric], values: np.ndarray) -> np.ndarray:
    """Rows of `values`, best first.

    Inside all thresholds before outside. Inside: by fronts of non-dominated points, and within a
    front the lonelier first, so that the whole frontier stays and not one end of it (crowding
    distance, Deb et al. 2002). Outside: by the sum of the violations.

    Args:
        values: float64 [points, metrics].

    Returns:
        int64 [points].
    """
    beyond = np.maximum(violations(metrics, values), 0.0).sum(axis=1)
    better = losses(metrics, values)
    front = np.zeros(len(values), dtype=np.int64)
    crowding = np.zeros(len(values))
    left = np.flatnonzero(beyond <= 0)
    level = 0
    while len(left):
        best = left[non_dominated(better[left])]
        front[best] = level
        crowding[best] = _crowding(better[best])
        left = np.setdiff1d(left, best)
        level += 1
    # Stable: of equal points the earlier comes first.
    result: np.ndarray = np.lexsort((-crowding, front, beyond))
    return result


def _crowding(losses: np.ndarray) -> np.ndarray:
    """float64 [points]: distance between each point's neighbors, summed over the metrics."""
    distance = np.zeros(len(losses))
    for column in losses.T / 2:  # so that no difference overflows
        by_value = np.argsort(column, kind="stable")
        width = column[by_value[-1]] - column[by_value[0]]
        distance[by_value[[0, -1]]] = np.inf
        if width > 0:
            gaps = (column[by_value[2:]] - column[by_value[:-2]]) / width
            distance[by_value[1:-1]] += gaps
    return distance
