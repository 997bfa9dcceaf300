"""Distances between points, and the best trials of which no two are close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.errors import UserError
from gossamer.numbers import whole
from gossamer.search.metrics import Metric
from gossamer.search.space.space import Space
from gossamer.search.validation import Value, is_number, make_plain

# Of a distance that is stated as a decimal fraction.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Solutions:
    """A search for several distinct solutions instead of the best trial of a single metric.

    Args:
        count: number of solutions, at least 2.
        distance: least distance of two solutions, see `distances`; above 0 and below 1.

    Raises:
        UserError: a number out of range.
    """

    count: int
    distance: float = 0.2

    def __post_init__(self) -> None:
        make_plain(self)
        whole(self.count, 2, "solutions: count")
        if not is_number(self.distance) or not 0 < self.distance < 1:
            raise UserError(
                f"solutions: distance must be a number above 0 and below 1, not {self.distance!r}"
            )

    def check(self, metrics: Sequence[Metric]) -> None:
        """Raise `UserError` unless exactly one of the metrics is optimized."""
        count = sum(metric.optimized for metric in metrics)
        if count != 1:
            raise UserError(
                f"solutions need exactly one metric to maximize or minimize, not {count}: "
                "make the others constraints, or leave solutions out"
            )


def distances(space: Space, units: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return distances of points, the RMS of their parameters' differences: [points, others].

    A difference is a share of the parameter's range, on its scale; two options of a choice differ
    by 1, as do a parameter and its absence. So the distance is 0 for equal points, and 1 if all
    parameters differ as much as possible.

    Args:
        units: float64 [points, parameters], as `Space.encode` returns them.
        others: float64 [others, parameters].
    """
    here, there = (space.features(each).columns for each in (units, others))
    squared = (here**2).sum(axis=1)[:, None] + (there**2).sum(axis=1) - 2.0 * here @ there.T
    far: np.ndarray = np.sqrt(np.maximum(squared, 0.0) / len(space))
    return far


def distinct(
    space: Space, units: np.ndarray, best_first: Iterable[int], solutions: Solutions
) -> list[int]:
    """Return the rows of the solutions: each is the best one far enough from all better ones.

    Args:
        space: the space of the points.
        units: float64 [points, parameters].
        best_first: rows that may be solutions, the best first.
        solutions: number and least distance.
    """
    chosen: list[int] = []
    nearest = np.full(len(units), np.inf)
    for row in best_first:
        if nearest[row] >= solutions.distance - ROUNDING:
            chosen.append(row)
            nearest = np.minimum(nearest, distances(space, units, units[[row]])[:, 0])
        if len(chosen) == solutions.count:
            break
    return chosen


def most_different_first(
    space: Space, points: Sequence[Mapping[str, Value]], most: int | None = None
) -> list[int]:
    """Return the rows of `points`: the first, then always the one farthest from all before it.

    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.

    Args:
        space: the space of the points.
        points: the points to order.
        most: how many to order; the others follow in their old order. None for all.
    """
    units = space.encode(points)
    left = dict.fromkeys(range(len(points)))
    order: list[int] = []
    nearest = np.full(len(points), np.inf)
    while left and (most is None or len(order) < most):
        row = max(left, key=lambda one: (nearest[one], -one))
        del left[row]
        order.append(row)
        nearest = np.minimum(nearest, distances(space, units, units[[row]])[:, 0])
    return [*order, *left]
