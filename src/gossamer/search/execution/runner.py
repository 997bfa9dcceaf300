"""The runner: asks for trials, executes them and tells their outcomes, until none is left."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

from gossamer.errors import UserError
from gossamer.search.execution.commands import Command
from gossamer.search.execution.loggers import Logger
from gossamer.search.execution.progress import Board
from gossamer.search.execution.report_channel import Receive
from gossamer.search.execution.workers import Executor, InProcess, Outcome, Train, Workers
from gossamer.search.metrics import Metric
from gossamer.search.trials.results import read_report
from gossamer.search.trials.storage import EndedError, Store
from gossamer.search.trials.trial import ENDED, Trial, TrialRecord
from gossamer.search.validation import check_whole, is_number

# So many trials that all fail are no accident: a run stops and says why.
_HOPELESS = 5

MakeExecutor = Callable[[Train, Receive], Executor]


class Asked(Protocol):
    """Interface of an experiment to its runner."""

    name: str
    metrics: list[Metric]
    budget: int | None
    command: Command | None

    @property
    def split(self) -> str | None: ...

    def trials(self) -> list[TrialRecord]: ...

    def record(self, number: int) -> TrialRecord: ...

    def ask_within(self, budget: float) -> Trial | None: ...

    def tell(
        self,
        trial: Trial,
        values: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        stopped: str | None = None,
    ) -> TrialRecord: ...


def run(
    experiment: Asked,
    store: Callable[[], Store],
    cost: Callable[[str | None], float],
    train: Train | None,
    workers: int,
    trials: int | None,
    progress: bool,
    loggers: Sequence[Logger],
    executor: MakeExecutor | None,
    threads: int | None,
    minutes: float | None,
) -> None:
    """Run an experiment's trials; see `Experiment.run`.

    Args:
        store: opens the trials for writing, called once the other arguments are checked.
        cost: of a trial, by its fidelity.
    """
    check_whole("workers", workers, 1)
    if threads is not None:
        check_whole("threads", threads, 1)
    if trials is not None:
        check_whole("trials", trials, 1)
    if minutes is not None and not (is_number(minutes) and minutes > 0):
        raise UserError(f"minutes must be a number above 0, not {minutes!r}")
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    train = train or experiment.command
    if train is None:
        raise UserError(
            f"experiment '{experiment.name}' has no command; give run() a function that trains"
        )
    before = experiment.trials()
    records = [record for record in before if record.state != "failed"]
    failed = sum(cost(r.fidelity) for r in before if r.state == "failed")
    budget = math.inf if experiment.budget is None else experiment.budget
    total = budget + failed  # what failed in earlier runs is tried again elsewhere
    ended = sum(cost(r.fidelity) for r in records if r.state in ENDED)
    goal = budget if trials is None else min(budget, ended + trials)
    board = Board(
        experiment.name, experiment.metrics, goal, records, cost, experiment.split, show=progress
    )
    runner = Runner(experiment, store(), total, trials, deadline, board, loggers)
    if executor is not None:
        chosen = executor(train, runner.receive)
    elif workers == 1:
        chosen = InProcess(train)
    else:
        chosen = Workers(train, workers, runner.receive, threads)
    try:
        with board:
            runner.go(chosen, any(record.state == "complete" for record in records))
    finally:
        for logger in loggers:
            logger.close()


class Runner:
    """One run of an experiment, which an interruption leaves in order.

    Args:
        experiment: to ask and to tell.
        store: of its trials.
        total: the budget.
        limit: at most so many trials are run; None for any number.
        deadline: on the monotonic clock, after which no trial is begun.
        board: shows each trial that ends.
        loggers: hear of each report and each end.
    """

    def __init__(
        self,
        experiment: Asked,
        store: Store,
        total: float,
        limit: int | None,
        deadline: float,
        board: Board,
        loggers: Sequence[Logger],
    ) -> None:
        self._experiment = experiment
        self._store = store
        self._total = total
        self._limit = limit
        self._deadline = deadline
        self._board = board
        self._loggers = loggers
        self._ended = 0
        self._running: dict[Future[Outcome], Trial] = {}
        self._by_number: dict[int, Trial] = {}
        self._lock = threading.Lock()  # workers' reports come in threads

    def receive(
        self, number: int, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """A report from elsewhere."""
        reporter = self._by_number[number]._reporter
        assert reporter is not None
        return reporter(step, values, of)

    def _logged(self, trial: Trial) -> Trial:
        """The trial, whose reports the loggers hear of too."""
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
        """Run until nothing is left to do; the executor is closed then, whatever happens.

        Args:
            executor: runs the trials.
            promising: some trial completed before this run.

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
        if time.monotonic() >= self._deadline:
            return None
        if self._limit is not None and self._ended + len(self._running) >= self._limit:
            return None
        trial = self._experiment.ask_within(self._total)
        return None if trial is None else self._logged(trial)

    def _show(self, record: TrialRecord) -> None:
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
