"""The search's progress bar: how far, how many inside the thresholds, the best so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from gossamer.progress import progress_bar
from gossamer.search.metrics import Metric
from gossamer.search.trials import ENDED, TrialRecord


class Board:
    """A context that shows a progress bar on standard error.

    Args:
        name: of the experiment.
        metrics: to count and compare by.
        total: cost to come to, a full trial's being 1.
        records: the trials so far.
        cost: of a trial of a fidelity.
        show: False shows nothing.
    """

    def __init__(
        self,
        name: str,
        metrics: Sequence[Metric],
        total: float,
        records: Sequence[TrialRecord],
        cost: Callable[[str | None], float] = lambda fidelity: 1.0,
        *,
        show: bool,
    ) -> None:
        self._cost = cost
        self._stopped = 0
        self._metrics = metrics
        self._inside = 0
        self._failed = 0
        self._best: dict[str, float] = {}
        self._progress = progress_bar(
            show=show,
            # Trials take minutes; the speed is that of the last day, not of the last 30 s.
            speed_seconds=86_400,
        )
        finished = [record for record in records if record.state in ENDED]
        for record in finished:
            self._count(record)
        self._bar = self._progress.add_task(
            name,
            total=total,
            below=self.summary(),
        )
        self._progress.advance(self._bar, sum(cost(record.fidelity) for record in finished))

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def add(self, record: TrialRecord) -> None:
        """Counts a trial that has ended."""
        self._count(record)
        self._progress.update(self._bar, advance=self._cost(record.fidelity), below=self.summary())

    def summary(self) -> str:
        """Such as ``3 inside, 4 stopped early, 1 failed; best accuracy 0.971, density 0.08``."""
        counts = (
            [f"{self._inside} inside"]
            if any(m.threshold is not None for m in self._metrics)
            else []
        )
        if self._stopped:
            counts.append(f"{self._stopped} stopped early")
        if self._failed:
            counts.append(f"{self._failed} failed")
        best = ", ".join(f"{name} {value:.4g}" for name, value in self._best.items())
        return "; ".join(part for part in (", ".join(counts), best and f"best {best}") if part)

    def _count(self, record: TrialRecord) -> None:
        if record.state == "failed":
            self._failed += 1
            return
        if record.state == "stopped":
            self._stopped += 1
            return
        if record.fidelity is not None:
            return
        self._inside += all(m.violation(record.values[m.name]) <= 0 for m in self._metrics)
        for metric in self._metrics:
            value = record.values[metric.name]
            best = self._best.get(metric.name)
            if best is None or metric.loss(value) < metric.loss(best):
                self._best[metric.name] = value
