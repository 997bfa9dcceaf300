"""The trials so far, as samplers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.search.space import Point
from gossamer.search.starting import Earlier


@dataclass(frozen=True)
class History:
    """The trials so far: points with their metrics' values, and points without (yet).

    Attributes:
        points: of complete trials.
        values: float64 [complete trials, metrics].
        failed: points whose trial failed.
        pending: points running, or waiting to be run.
        earlier: what is known from another experiment.
    """

    points: Sequence[Point]
    values: np.ndarray
    failed: Sequence[Point]
    pending: Sequence[Point]
    earlier: Earlier | None = None

    def __len__(self) -> int:
        return len(self.points) + len(self.failed) + len(self.pending)
