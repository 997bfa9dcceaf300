"""The loop of a run: ask for trials, execute them and tell their outcomes, until none is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from gossamer.errors import UserError
from gossamer.search.execution.workers import Executor, Outcome
from gossamer.search.trials.storage import EndedError, Store
from gossamer.search.trials.trial import Trial, TrialRecord

# So many trials that all fail are no accident: a run stops and says why.
_HOPELESS = 5


class Run:
    """One run of an experiment, which an interruption leaves in order.

    Args:
        store: of its trials.
        ask: the next trial; None while the budget has no room for one.
        tell: ends a trial with its outcome.
        trials: all of them, by number.
        limit: at most so many are run; None for any number.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[], Trial | None],
        tell: Callable[[Trial, Outcome], TrialRecord],
        trials: Callable[[], Sequence[TrialRecord]],
        limit: int | None,
    ) -> None:
        self._store = store
        self._ask = ask
        self._tell = tell
        self._trials = trials
        self._limit = limit
        self._ended = 0
        self._running: dict[Future[Outcome], Trial] = {}
        self._by_number: dict[int, Trial] = {}

    def receive(
        self, number: int, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """A report from elsewhere."""
        reporter = self._by_number[number]._reporter
        assert reporter is not None
        return reporter(step, values, of)

    def go(
        self, executor: Executor, on_end: Callable[[TrialRecord], None], promising: bool
    ) -> None:
        """Until nothing is left to do; the executor is closed then, whatever happens.

        Args:
            executor: runs the trials.
            on_end: called with each trial of this run as it ends.
            promising: some trial completed before this run.

        Raises:
            UserError: the first trials all failed, or all lack a metric.
            KeyboardInterrupt: on Ctrl-C, after the running trials were put back.
        """
        others = self._store.mine()  # asked for by hand, and not this run's to put back
        try:
            self._go(executor, on_end, promising)
        except BaseException as error:
            try:
                back = sum(map(self._store.put_back, self._store.mine() - others))
            finally:
                executor.close(kill=True)
            if isinstance(error, KeyboardInterrupt):
                after = f"stopped after {self._ended:,} trials"
                raise KeyboardInterrupt(
                    f"{after}; {back} put back, to be run again when the search goes on"
                    if self._store.lasts
                    else f"{after}, which are in memory only; a storage would keep them"
                ) from None
            raise
        executor.close(kill=False)

    def _go(
        self, executor: Executor, on_end: Callable[[TrialRecord], None], promising: bool
    ) -> None:
        running = self._running
        while True:
            while len(running) < executor.capacity and (trial := self._next()) is not None:
                self._by_number[trial.number] = trial
                running[executor.submit(trial)] = trial
            if not running:
                # What a lost process ran has used up its share of the budget until put back.
                if self._store.put_back_abandoned():
                    continue
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                trial = running.pop(future)
                outcome = executor.collect(future)
                del self._by_number[trial.number]
                if outcome.lost is not None and self._store.lose(trial.number, outcome.lost):
                    continue
                record = self._end(trial, outcome, promising)
                self._ended += 1
                on_end(record)
                promising = promising or record.state in ("complete", "stopped")
                if not promising and self._ended >= _HOPELESS:
                    raise UserError(
                        f"the first {self._ended} trials all failed, the last with: "
                        f"{record.reason}; fix that and rerun"
                    )

    def _next(self) -> Trial | None:
        if self._limit is not None and self._ended + len(self._running) >= self._limit:
            return None
        return self._ask()

    def _end(self, trial: Trial, outcome: Outcome, promising: bool) -> TrialRecord:
        if outcome.lost is not None:
            return self._trials()[trial.number]
        try:
            return self._tell(trial, outcome)
        except EndedError:
            # Stopped by a rule; or taken to be lost, and told by another who ran it again.
            return self._trials()[trial.number]
        except UserError:
            # Missing from one trial: that trial's failure. Missing from all: train's mistake.
            record = self._trials()[trial.number]
            if record.state != "failed" or not promising:
                raise
            return record
