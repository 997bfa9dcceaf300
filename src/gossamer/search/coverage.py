"""Coverage: the share of the space that is near a trial inside all thresholds.

It measures the progress of an experiment with constraints only, like the hypervolume for optimized
metrics (Malkomes, Cheng, Lee and McCourt, "Beyond the Pareto Efficient Frontier: Constraint Active
Search for Multiobjective Experimental Design", ICML 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from gossamer.search.distinct import distances
from gossamer.search.space.space import Space
from gossamer.search.validation import Value

# Points that the share is counted in.
_PROBES = 1024
# Share of the space that a trial in its midst covers.
SHARE = 0.01


class Coverage:
    """The share of a space that is near given points.

    "Near" is within the distance (see `distances`) that contains a hundredth of the space around a
    point in it.

    Args:
        space: the space whose feasible points are covered.
    """

    def __init__(self, space: Space) -> None:
        from scipy.stats import qmc  # slow to import, and not for workers

        self._space = space
        units = qmc.Sobol(len(space), scramble=True, seed=0).random(_PROBES)
        rng = np.random.default_rng(0)
        allowed = space.on_grid(units)
        missing = _PROBES - len(allowed)  # constraints may leave few
        drawn = [space.draw(rng) for _ in range(missing)]
        self._probes = np.vstack([allowed, space.encode(drawn)]) if drawn else allowed
        far = distances(space, self._probes, self._probes)
        self.radius = float(np.median(np.quantile(far, SHARE, axis=1)))

    def shares(self, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """Return the share covered by each point and those before it: float64 [points]."""
        if not points:
            return np.zeros(0)
        far = distances(self._space, self._space.encode(points), self._probes)
        covered = np.logical_or.accumulate(far <= self.radius + 1e-12, axis=0)
        shares: np.ndarray = covered.mean(axis=1)
        return shares


@lru_cache(maxsize=8)
def coverage_of(space: Space) -> Coverage:
    """Return the coverage of a space, cached."""
    return Coverage(space)
