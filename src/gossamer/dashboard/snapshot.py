"""An experiment at one moment, judged by its own thresholds or by others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.search import Experiment, Frontier, TrialRecord
from gossamer.search.frontier import frontier
from gossamer.search.metrics import Metric

# The newest trials tell best how long the next ones take.
_RECENT = 30


@dataclass(frozen=True)
class Snapshot:
    """What a report asks of an experiment (`gossamer.report.ExperimentLike`), read once.

    ``records`` holds every trial; `trials` leaves out those of cheaper tasks, whose metrics
    are not to be compared with the full one's.
    """

    name: str
    metrics: tuple[Metric, ...]
    parameters: Sequence[Any]
    constraints: Sequence[Any]
    budget: int
    settings: Mapping[str, Any]
    records: tuple[TrialRecord, ...]

    @classmethod
    def of(cls, experiment: Experiment) -> Snapshot:
        """Reads the trials, and the thresholds as they are stored now."""
        experiment.frontier()  # takes over thresholds that another process has changed
        return cls(
            experiment.name,
            tuple(experiment.metrics),
            tuple(experiment.parameters),
            tuple(experiment.constraints),
            experiment.budget,
            dict(experiment.settings),
            tuple(experiment.trials()),
        )

    @property
    def version(self) -> str:
        """Another one whenever something that is shown has changed."""
        state = [
            [(metric.name, metric.threshold) for metric in self.metrics],
            [(r.number, r.state, r.seconds, len(reports(r))) for r in self.records],
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]

    def trials(self) -> list[TrialRecord]:
        return [record for record in self.records if getattr(record, "fidelity", None) is None]

    def frontier(self) -> Frontier:
        return frontier(self.metrics, self.trials())

    def importances(self) -> dict[str, dict[str, float]]:
        """None: they take seconds and are asked of the experiment itself."""
        return {}

    def judged_by(self, thresholds: Mapping[str, float | None]) -> Snapshot:
        """The same trials under other thresholds; metrics not named keep theirs.

        Raises:
            UserError: for an unknown metric, or a threshold that it cannot have.
        """
        names = [metric.name for metric in self.metrics]
        for name in thresholds:
            if name not in names:
                raise UserError(f"no metric '{name}'; {nearest(name, names)}")
        changed = tuple(
            dataclasses.replace(metric, threshold=thresholds[metric.name])
            if metric.name in thresholds
            else metric
            for metric in self.metrics
        )
        return dataclasses.replace(self, metrics=changed)

    @property
    def states(self) -> dict[str, int]:
        """State -> number of trials, none left out."""
        known = ("complete", "stopped", "failed", "running", "waiting")
        counts = Counter(str(record.state) for record in self.records)
        return {state: counts[state] for state in known}

    @property
    def seconds_left(self) -> float | None:
        """Until the budget is used up at the present pace; None while nothing has ended.

        The trials still to be ended, each taking the median of the newest ended ones, shared
        among as many at a time as run now.
        """
        ended = [record for record in self.records if record.seconds is not None]
        left = self.budget - len(ended)
        if left <= 0:
            return 0.0
        if not ended:
            return None
        usual = statistics.median(record.seconds or 0.0 for record in ended[-_RECENT:])
        return left * usual / max(1, self.states["running"])


def reports(record: TrialRecord) -> Sequence[Any]:
    """What the trial said while it trained; empty when it said nothing."""
    found: Sequence[Any] = getattr(record, "reports", ())
    return found


def described(record: TrialRecord) -> dict[str, Any]:
    """A trial as JSON holds it."""
    return dataclasses.asdict(record)
