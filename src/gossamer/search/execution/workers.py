"""Trials run in this process, or in worker processes of which any may die.

Each worker process has an executor of its own: loky gives up a whole executor when one of its
processes dies, and would not say which trial killed it.
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

from gossamer.errors import UserError
from gossamer.search.execution.report_channel import Receive, ReportClient, ReportServer
from gossamer.search.metrics import Numbers, as_numbers
from gossamer.search.trials.trial import Trial, TrialStopped

Train = Callable[[Trial], Mapping[str, Any]]

# What limits the threads of torch, numpy's BLAS and others, as long as it is set before import.
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
    """Outcome of a trial: its values by name, see `as_numbers`; an error; why it was stopped; or
    how its process was lost. And its files, where they are on another machine."""

    values: Numbers | None = None
    error: str | None = None
    stopped: str | None = None
    lost: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def attempt(train: Train, trial: Trial) -> Outcome:
    """Call `train`; what it raises becomes the outcome's error, in one line."""
    try:
        returned = train(trial)
    except TrialStopped as stop:
        return Outcome(stopped=" ".join(str(stop).split()) or "train stopped it")
    except (Exception, SystemExit) as error:
        return Outcome(error=reason_of(error))
    if not isinstance(returned, Mapping):
        kind = type(returned).__name__
        return Outcome(error=f"train returned {kind} instead of a mapping of metrics to numbers")
    return Outcome(values=as_numbers(returned))


def reason_of(error: BaseException) -> str:
    """Type, message and line of an error, in one line."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    last = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}"[:_REASON_LENGTH] + last


def pickled(train: Train) -> bytes:
    """`train` by value, for another process.

    Raises:
        UserError: when it cannot be sent.
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
    """Executor of trials."""

    @property
    def capacity(self) -> int: ...

    def submit(self, trial: Trial) -> Future[Outcome]: ...

    def collect(self, future: Future[Outcome]) -> Outcome: ...

    def close(self, *, kill: bool) -> None: ...


class InProcess:
    """Runs each trial in this process as soon as it is submitted."""

    def __init__(self, train: Train) -> None:
        self._train = train

    @property
    def capacity(self) -> int:
        """The number of trials that it runs at a time."""
        return 1

    def submit(self, trial: Trial) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(attempt(self._train, trial))
        return future

    def collect(self, future: Future[Outcome]) -> Outcome:
        return future.result()

    def close(self, *, kill: bool) -> None:
        """There is nothing to end."""


class Workers:
    """Runs trials in `count` processes, which take what they need from this one by value.

    Args:
        train: may be a closure or be defined in a notebook.
        count: processes; each may use its share of the cores.
        receive: takes the trials' reports.
        threads: of each process; its share of the cores by default.

    Raises:
        UserError: when `train` cannot be sent to another process.
    """

    def __init__(
        self, train: Train, count: int, receive: Receive, threads: int | None = None
    ) -> None:
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
        """Start a trial; there must be fewer under way than workers."""
        executor = self._free.pop()
        future: Future[Outcome] = executor.submit(_work, trial.reporting(None))
        self._busy[future] = executor
        return future

    def collect(self, future: Future[Outcome]) -> Outcome:
        """The outcome of a future that is done; a dead worker is replaced."""
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
        """End the worker processes, with `kill` in the middle of what they do."""
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
    """Run first in a worker process."""
    global _pickled, _client
    _pickled, _client = train, client
    # Modules next to the user's script must be found here as they are there.
    sys.path.extend(entry for entry in path if entry not in sys.path)
    # Ctrl-C reaches every process of the terminal; what becomes of the trials is up to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would train on for hours, for nobody."""
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
    return attempt(_train, trial.reporting(_client.reporter(trial.number)))
