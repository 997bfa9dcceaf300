"""The trials so far, for samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.search.distinct import Solutions
from gossamer.search.metrics import Metric
from gossamer.search.samplers.warm_start import Earlier
from gossamer.search.space.space import Point
from gossamer.search.stopping.fidelity import Ladder
from gossamer.search.trials.trial import TrialRecord


@dataclass(frozen=True)
class History:
    """The trials so far: points with values of metrics, and points without.

    Attributes:
        points: points of complete trials.
        values: float64 [complete trials, metrics].
        failed: points of failed trials.
        pending: points of running and waiting trials.
        earlier: trials of an earlier experiment.
        noise: float64 [complete trials, metrics], standard deviation of each value; NaN if it
            is unknown, None if all are.
        solutions: how many distinct solutions to search for, instead of the one best point.
    """

    points: Sequence[Point]
    values: np.ndarray
    failed: Sequence[Point]
    pending: Sequence[Point]
    earlier: Earlier | None = None
    noise: np.ndarray | None = None
    solutions: Solutions | None = None

    @classmethod
    def of_trials(
        cls,
        records: Sequence[TrialRecord],
        metrics: Sequence[Metric],
        ladder: Ladder,
        earlier: Earlier | None,
        solutions: Solutions | None,
    ) -> History:
        """Make the history; each point appears once, with its best known values at full cost.

        A stopped trial counts with its expected final values.
        """
        climbed = {r.origin for r in records if r.state in ("complete", "stopped")}
        full = ladder.at_full_cost(records)
        known: list[tuple[Point, list[float], list[float]]] = []
        failed, pending = [], []
        for record in records:
            values = record.values if record.state == "complete" else record.expected
            if record.state in ("running", "waiting"):
                pending.append(record.parameters)
            elif record.number in climbed:
                continue
            elif all(m.name in values for m in metrics) and record.state != "failed":
                own = record.noise if record.fidelity is None else {}
                noise = [own.get(m.name, np.nan) for m in metrics]
                known.append((record.parameters, full(record, values), noise))
            else:
                failed.append(record.parameters)
        return cls(
            points=[point for point, _, _ in known],
            values=np.array([values for _, values, _ in known]).reshape(-1, len(metrics)),
            failed=failed,
            pending=pending,
            earlier=earlier,
            noise=np.array([noise for _, _, noise in known]).reshape(-1, len(metrics)),
            solutions=solutions,
        )

    def __len__(self) -> int:
        return len(self.points) + len(self.failed) + len(self.pending)
