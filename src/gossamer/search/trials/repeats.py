"""Repeated trials of one point, from which the noise of metrics is estimated."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gossamer.search.trials.trial import TrialRecord


def with_noise_of_repeats(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials, with noise for those of points that were tried more than once.

    The noise is the standard deviation within the groups of repeats, pooled over all groups of a
    fidelity: the root of the sum of squared distances from the groups' means, divided by the number
    of trials less that of groups. A value that was returned with a standard deviation keeps it.
    """
    groups: defaultdict[object, list[TrialRecord]] = defaultdict(list)
    for record in records:
        if record.state == "complete":
            point = frozenset(record.parameters.items())
            groups[record.fidelity, record.continued, point].append(record)
    repeated = [group for group in groups.values() if len(group) > 1]
    if not repeated:
        return list(records)
    squares: defaultdict[tuple[str | None, str], list[float]] = defaultdict(list)
    degrees: defaultdict[tuple[str | None, str], int] = defaultdict(int)
    for group in repeated:
        for name in group[0].values:
            values = np.array([r.values[name] for r in group if name in r.values])
            # Halves, so that nothing overflows; from the first, so that equal ones give exactly 0.
            half = values / 2 - values[0] / 2
            squares[group[0].fidelity, name] += (half - half.mean()).tolist()
            degrees[group[0].fidelity, name] += len(values) - 1
    pooled = {
        key: min(2.0 * (math.hypot(*halves) / degrees[key] ** 0.5), sys.float_info.max)
        for key, halves in squares.items()
        if degrees[key]
    }
    changed = {}
    for group in repeated:
        for record in group:
            own = {
                name: pooled[record.fidelity, name]
                for name in record.values
                if (record.fidelity, name) in pooled
            }
            changed[record.number] = dataclasses.replace(record, noise={**own, **record.noise})
    return [changed.get(record.number, record) for record in records]
