"""The runner: asks for trials, executes them and tells their outcomes, up to the budget."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gossamer.errors import UserError
from gossamer.numbers import whole
from gossamer.search.execution.loggers import Logger
from gossamer.search.execution.progress import Board
from gossamer.search.execution.report_channel import Receive
from gossamer.search.execution.workers import Executor, InProcess, Outcome, Train, Workers
from gossamer.search.trials.budget import running_seconds
from gossamer.search.trials.results import read_report
from gossamer.search.trials.storage import EndedError, Store
from gossamer.search.trials.trial import ENDED, Trial, TrialRecord
from gossamer.search.validation import check_minutes

if TYPE_CHECKING:  # an experiment imports its runner
    from gossamer.search.experiment import Experiment

# So many trials that all fail are no accident: a run stops and says why.
_HOPELESS = 5

MakeExecutor = Callable[[Train, Receive], Executor]


@dataclass(frozen=True)
class RunSettings:
    """The validated settings of one run; `Experiment.run` describes each.

    Raises:
        UserError: a setting has an invalid value.
    """

    train: Train
    workers: int = 1
    trials: int | None = None
    progress: bool = True
    loggers: Sequence[Logger] = ()
    executor: MakeExecutor | None = None
    threads: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        whole(self.workers, 1, "workers")
        if self.threads is not None:
            whole(self.threads, 1, "threads")
        if self.trials is not None:
            whole(self.trials, 1, "trials")
        check_minutes(self.minutes)

    def make_executor(self, receive: Receive) -> Executor:
        """Start the executor of the trials; it passes their reports to `receive`."""
        if self.executor is not None:
            return self.executor(self.train, receive)
        if self.workers == 1:
            return InProcess(self.train)
        return Workers(self.train, self.workers, receive, self.threads)


def run(
    experiment: Experiment, store: Store, cost: Callable[[str | None], float], settings: RunSettings
) -> None:
    """Run an experiment's trials; see `Experiment.run`.

    Args:
        experiment: suggests the trials and receives their outcomes.
        store: of its trials.
        cost: returns the cost of a trial at a fidelity.
        settings: of this run.
    """
    before = experiment.trials()
    running = running_seconds(before) / 60
    if experiment.minutes is not None:
        left = max(experiment.minutes - running, sys.float_info.min)
        minutes = left if settings.minutes is None else min(left, settings.minutes)
        settings = replace(settings, minutes=minutes)
    records = [record for record in before if record.state != "failed"]
    failed = sum(cost(r.fidelity) for r in before if r.state == "failed")
    budget = math.inf if experiment.budget is None else experiment.budget
    total = budget + failed  # what failed in earlier runs is tried again elsewhere
    ended = sum(cost(r.fidelity) for r in records if r.state in ENDED)
    goal = budget if settings.trials is None else min(budget, ended + settings.trials)
    minutes = math.inf if settings.minutes is None else settings.minutes
    deadline = time.monotonic() + 60 * minutes
    board = Board(
        experiment.name,
        experiment.metrics,
        goal,
        records,
        cost,
        experiment.split,
        minutes=experiment.minutes,
        running=running,
        deadline=deadline,
        sign=experiment.sign,
        show=settings.progress,
    )
    runner = Runner(experiment, store, settings, total, deadline, board)
    executor = settings.make_executor(runner.receive)
    try:
        with board:
            runner.go(executor, any(record.state == "complete" for record in records))
    finally:
        for logger in settings.loggers:
            logger.close()


class Runner:
    """One run of an experiment; an interruption puts its running trials back.

    Args:
        experiment: suggests the trials and receives their outcomes.
        store: of its trials.
        settings: of the run.
        total: the budget, as the sum of trials' costs.
        deadline: time on the monotonic clock after which no trial is started.
        board: the progress bar.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        settings: RunSettings,
        total: float,
        deadline: float,
        board: Board,
    ) -> None:
        self._experiment = experiment
        self._store = store
        self._total = total
        self._limit = math.inf if settings.trials is None else settings.trials
        self._deadline = deadline
        self._board = board
        self._loggers = settings.loggers
        self._ended = 0
        self._running: dict[Future[Outcome], Trial] = {}
        self._by_number: dict[int, Trial] = {}
        self._lock = threading.Lock()  # workers' reports come in threads
        self._over = experiment.patience is not None and experiment.stalled()

    def receive(
        self, number: int, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """Handle a report of a trial in another process; return why it is to stop, or None."""
        reporter = self._by_number[number]._reporter
        assert reporter is not None
        return reporter(step, values, of)

    def _logged(self, trial: Trial) -> Trial:
        """Return the trial with a reporter that also passes its reports to the loggers."""
        began = time.time()
        reporter = trial._reporter
        assert reporter is not None

        def report(step: int, values: Mapping[str, Any], of: int | None) -> str | None:
            reason = reporter(step, values, of)
            read = read_report(trial.number, step, values, of, time.time() - began)
            with self._lock:
                for logger in self._loggers:
                    logger.report(self._experiment.name, trial, read)
            return reason

        return trial.reporting(report)

    def go(self, executor: Executor, promising: bool) -> None:
        """Run trials up to the budget or deadline, and close the executor in any case.

        Args:
            executor: runs the trials.
            promising: whether a trial completed before this run.

        Raises:
            UserError: the first trials all failed, or all lack a metric.
            KeyboardInterrupt: on Ctrl-C, after the running trials were put back.
        """
        others = self._store.mine()  # asked for by hand, and not this run's to put back
        try:
            self._go(executor, promising)
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

    def _go(self, executor: Executor, promising: bool) -> None:
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
                self._show(record)
                promising = promising or record.state in ("complete", "stopped")
                if not promising and self._ended >= _HOPELESS:
                    raise UserError(
                        f"the first {self._ended} trials all failed, the last with: "
                        f"{record.reason}; fix that and rerun"
                    )

    def _next(self) -> Trial | None:
        begun = self._ended + len(self._running)
        left = self._deadline - time.monotonic()
        if self._over or begun >= self._limit or left <= 0:
            return None
        trial = self._experiment.ask_within(self._total, left)
        if trial is None:
            return None
        self._board.start(trial)
        return self._logged(trial)

    def _show(self, record: TrialRecord) -> None:
        self._over = self._experiment.patience is not None and self._experiment.stalled()
        self._board.add(record)
        with self._lock:
            for logger in self._loggers:
                logger.end(self._experiment.name, record)

    def _end(self, trial: Trial, outcome: Outcome, promising: bool) -> TrialRecord:
        if outcome.lost is not None:
            return self._experiment.record(trial.number)
        try:
            return self._experiment.tell(
                trial, outcome.values, error=outcome.error, stopped=outcome.stopped
            )
        except EndedError:
            # Stopped by a rule; or taken to be lost, and ended by another that ran it again.
            return self._experiment.record(trial.number)
        except UserError:
            # Missing from one trial: that trial's failure. Missing from all: train's mistake.
            record = self._experiment.record(trial.number)
            if record.state != "failed" or not promising:
                raise
            return record
