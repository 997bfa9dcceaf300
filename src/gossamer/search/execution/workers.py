"""Executors of trials in this process or in worker processes, any of which may die.

Each worker process has its own executor: loky shuts down a whole executor when one of its
processes dies, without naming the trial that killed it.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

import loky
from loky.backend.reduction import dumps

from gossamer.errors import UserError, one_line
from gossamer.search.execution.report_channel import (
    Receive,
    ReportClient,
    ReportServer,
    reporter,
)
from gossamer.search.metrics import Numbers, as_numbers
from gossamer.search.trials.trial import Trial, TrialStopped

Train = Callable[[Trial], Mapping[str, Any]]

# Limits of the threads of torch, NumPy's BLAS and others; effective if set before the import.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_REASON_LENGTH = 500


@dataclass(frozen=True)
class Outcome:
    """Outcome of a trial: one of the first four is set.

    Attributes:
        values: its metrics by name, see `as_numbers`.
        error: why it failed, in one line.
        stopped: why it was stopped early.
        lost: how its process died.
        files: its files by name, if it ran on another machine.
    """

    values: Numbers | None = None
    error: str | None = None
    stopped: str | None = None
    lost: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def attempt(train: Train, trial: Trial) -> Outcome:
    """Call `train` and return its outcome; an exception becomes the outcome's error."""
    try:
        returned = train(trial)
    except TrialStopped as stop:
        return Outcome(stopped=one_line(stop) or "train stopped it")
    except (Exception, SystemExit) as error:
        return Outcome(error=reason_of(error))
    if not isinstance(returned, Mapping):
        kind = type(returned).__name__
        return Outcome(error=f"train returned {kind} instead of a mapping of metrics to numbers")
    return Outcome(values=as_numbers(returned))


def reason_of(error: BaseException) -> str:
    """Return type, message, file and line of an exception as one line."""
    text = one_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}"[:_REASON_LENGTH] + last


def pickled(train: Train) -> bytes:
    """Return `train` pickled by value for another process.

    Raises:
        UserError: it cannot be pickled.
    """
    try:
        # loky's pickler is cloudpickle: closures and what is defined in a notebook go too.
        return bytes(dumps(train))
    except Exception as error:
        raise UserError(
            f"train cannot be sent to worker processes ({reason_of(error)}); "
            "open files, locks and databases inside train, or use workers=1"
        ) from None


class Executor(Protocol):
    """Interface of executors of trials."""

    @property
    def capacity(self) -> int: ...

    def submit(self, trial: Trial) -> Future[Outcome]: ...

    def collect(self, future: Future[Outcome]) -> Outcome: ...

    def close(self, *, kill: bool) -> None: ...


class InProcess:
    """Runs each trial in this process as soon as it is submitted."""

    capacity = 1

    def __init__(self, train: Train) -> None:
        self._train = train

    def submit(self, trial: Trial) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(attempt(self._train, trial))
        return future

    def collect(self, future: Future[Outcome]) -> Outcome:
        return future.result()

    def close(self, *, kill: bool) -> None:
        """Do nothing: every trial has ended when `submit` returns."""


class Workers:
    """Runs trials in `count` worker processes.

    Args:
        train: the objective; may be a closure or be defined in a notebook.
        count: number of processes.
        receive: handles the trials' reports.
        threads: of each process; the cores divided by `count` by default.

    Raises:
        UserError: `train` cannot be pickled.
    """

    def __init__(self, train: Train, count: int, receive: Receive, threads: int | None) -> None:
        self._train = pickled(train)
        self._server = ReportServer(receive)
        share = threads or max(1, loky.cpu_count() // count)
        self._environment = dict.fromkeys(_THREADS, str(share))
        self._free = [self._start() for _ in range(count)]
        self._busy: dict[Future[Outcome], loky.ProcessPoolExecutor] = {}

    def _start(self) -> loky.ProcessPoolExecutor:
        return loky.ProcessPoolExecutor(
            max_workers=1,
            initializer=_prepare,
            initargs=(
                self._train,
                os.getpid(),
                list(sys.path),
                ReportClient(self._server.address, self._server.key),
            ),
            env=self._environment,
        )

    @property
    def capacity(self) -> int:
        """The number of trials that it runs at a time."""
        return len(self._free) + len(self._busy)

    def submit(self, trial: Trial) -> Future[Outcome]:
        """Start a trial; fewer trials than workers must be running."""
        executor = self._free.pop()
        future: Future[Outcome] = executor.submit(_work, trial.reporting(None))
        self._busy[future] = executor
        return future

    def collect(self, future: Future[Outcome]) -> Outcome:
        """Return the outcome of a future that is done; replace its worker if that died."""
        executor = self._busy.pop(future)
        error = future.exception()
        if error is None:
            self._free.append(executor)
            return future.result()
        executor.shutdown(wait=True, kill_workers=True)
        self._free.append(self._start())
        if isinstance(error, BrokenProcessPool):
            code = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
            return Outcome(
                lost=f"the worker process died ({code[1] if code else 'killed'}; "
                "if memory ran out, use fewer workers)"
            )
        return Outcome(error=reason_of(error))

    def close(self, *, kill: bool) -> None:
        """End the worker processes; `kill` ends running trials immediately."""
        executors = [*self._free, *self._busy.values()]
        self._free, self._busy = [], {}
        for executor in executors:
            executor.shutdown(wait=True, kill_workers=kill)
        self._server.close()


# In a worker process: the pickled train, and what it unpickles to when first needed (in a
# trial, so that what goes wrong is that trial's reason).
_pickled: bytes = b""
_train: Train | None = None
_client: ReportClient | None = None


def _prepare(train: bytes, parent: int, path: list[str], client: ReportClient) -> None:
    """Initialize a worker process."""
    global _pickled, _client
    _pickled, _client = train, client
    # Modules next to the user's script must be found here as they are there.
    sys.path.extend(entry for entry in path if entry not in sys.path)
    # Ctrl-C reaches every process of the terminal; what becomes of the trials is up to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has died, so that it does not train on for hours."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(trial: Trial) -> Outcome:
    global _train
    if _train is None:
        try:
            _train = pickle.loads(_pickled)
        except Exception as error:
            return Outcome(error=f"train cannot be loaded in the worker: {reason_of(error)}")
    assert _client is not None
    return attempt(_train, trial.reporting(reporter(trial.number, _client.ask)))
