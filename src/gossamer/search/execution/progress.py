"""The search's progress bar: how far, how many inside the thresholds, the best so far."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gossamer.progress import number, progress_bar
from gossamer.search.frontier import best, inside
from gossamer.search.metrics import Metric, label
from gossamer.search.trials.trial import ENDED, TrialRecord


class Board:
    """A context that shows a progress bar on standard error.

    Args:
        name: of the experiment.
        metrics: to count and compare by.
        total: cost to come to, a full trial's being 1; infinite for any.
        records: the trials so far.
        cost: of a trial of a fidelity.
        split: the data that the trials are evaluated on, where that is known.
        minutes: limit on the running time, None for none.
        running: minutes in which trials ran before.
        deadline: on the monotonic clock, after which no trial is begun.
        sign: says of the trials that nothing improves any more, or nothing.
        show: False shows nothing.
    """

    def __init__(
        self,
        name: str,
        metrics: Sequence[Metric],
        total: float,
        records: Sequence[TrialRecord],
        cost: Callable[[str | None], float] = lambda fidelity: 1.0,
        split: str | None = None,
        *,
        minutes: float | None = None,
        running: float = 0.0,
        deadline: float = math.inf,
        sign: Callable[[Sequence[TrialRecord]], str | None] = lambda records: None,
        show: bool,
    ) -> None:
        self._minutes = minutes
        self._began = time.monotonic() - 60 * running
        self._cost = cost
        self._sign = sign
        self._split = split
        self._metrics = metrics
        self._progress = progress_bar(
            show=show,
            # Trials take minutes; the speed is that of the last day, not of the last 30 s.
            speed_seconds=86_400,
        )
        self._records = [record for record in records if record.state in ENDED]
        self._bar = self._progress.add_task(
            name,
            total=total if math.isfinite(total) else None,
            below=self.summary(),
            deadline=deadline,
        )
        self._progress.advance(self._bar, sum(cost(r.fidelity) for r in self._records))

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._progress.stop()

    def add(self, record: TrialRecord) -> None:
        """Count a trial that has ended."""
        self._records.append(record)
        self._progress.update(self._bar, advance=self._cost(record.fidelity), below=self.summary())

    def summary(self) -> str:
        """Such as ``3 inside, 1 failed; best: trial 17, accuracy 0.971, density 0.08``.

        All values are those of one trial, the frontier's first; where none is inside the
        thresholds, "nearest" is the one that misses them least. Where the running time is limited,
        ``12 of 30 min`` stands before it, and behind it the sign that nothing improves any more.
        """
        parts = [self._counts(), self._leader(), self._sign(self._records)]
        if self._minutes is not None:
            spent = (time.monotonic() - self._began) / 60
            parts.insert(0, f"{number(spent, 2)} of {number(self._minutes)} min")
        return "; ".join(filter(None, parts))

    @property
    def _full(self) -> list[TrialRecord]:
        return [r for r in self._records if r.state == "complete" and r.fidelity is None]

    def _counts(self) -> str:
        states = Counter(record.state for record in self._records)
        limited = any(m.threshold is not None for m in self._metrics)
        parts = [
            (len(inside(self._metrics, self._full)) if limited else 0, "inside"),
            (states["stopped"], "stopped early"),
            (states["failed"], "failed"),
        ]
        shown = [part for part in parts if part[0] or (limited and part[1] == "inside")]
        return ", ".join(f"{count:,} {words}" for count, words in shown)

    def _leader(self) -> str | None:
        leader = best(self._metrics, self._full)
        if leader is None:
            return None
        trial, feasible = leader
        if feasible and not any(metric.optimized for metric in self._metrics):
            return None  # none is better than another
        values = ", ".join(
            f"{label(m, self._split)} {number(trial.values[m.name])}" for m in self._metrics
        )
        return f"{'best' if feasible else 'nearest'}: trial {trial.number:,}, {values}"
