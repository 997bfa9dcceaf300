"""The search's progress bar: progress, trials inside the thresholds, and the best trial."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gossamer.numbers import number
from gossamer.progress import progress_bar
from gossamer.search.frontier import best, inside
from gossamer.search.metrics import Metric, label
from gossamer.search.trials.trial import ENDED, Trial, TrialRecord


class Board:
    """A context manager that shows a progress bar on standard error.

    Args:
        name: of the experiment.
        metrics: of the experiment.
        total: the budget, as the sum of trials' costs; a full trial costs 1. May be infinite.
        records: the trials so far.
        cost: returns the cost of a trial at a fidelity.
        split: the data that the trials are evaluated on, if known.
        minutes: limit of the running time; None for no limit.
        running: minutes that trials ran in earlier runs.
        deadline: time on the monotonic clock after which no trial is started.
        sign: returns a remark if the trials have stopped improving, else None.
        show: whether to show the bar.
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
        self._continued: dict[int, Trial] = {}
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

    def start(self, trial: Trial) -> None:
        """Show a trial that trains an earlier one for longer, until it ends."""
        if trial.continued:
            self._continued[trial.number] = trial
            self._progress.update(self._bar, below=self.summary())

    def add(self, record: TrialRecord) -> None:
        """Count a trial that has ended."""
        self._records.append(record)
        self._continued.pop(record.number, None)
        self._progress.update(self._bar, advance=self._cost(record.fidelity), below=self.summary())

    def summary(self) -> str:
        """Return a line such as ``3 inside, 1 failed; best: trial 17, accuracy 0.971``.

        All values are of one trial, the frontier's first. If no trial is inside the thresholds,
        the line names the one that misses them least as "nearest". If the running time is limited,
        the line begins with ``12 of 30 min``. It ends with the trials that are trained for longer,
        and the remark of ``sign``, if any.
        """
        parts = [self._counts(), self._leader(), self._longer(), self._sign(self._records)]
        if self._minutes is not None:
            spent = (time.monotonic() - self._began) / 60
            parts.insert(0, f"{number(spent, 2)} of {number(self._minutes)} min")
        return "; ".join(filter(None, parts))

    def _longer(self) -> str:
        return ", ".join(
            f"trial {trial.origin:,} trains {2**trial.continued} times as long"
            for trial in self._continued.values()
        )

    @property
    def _full(self) -> list[TrialRecord]:
        return [record for record in self._records if record.comparable]

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
