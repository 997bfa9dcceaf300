"""Trials on a Ray cluster.

Ray places trials on nodes by the resources that they need, and restarts a trial whose node or
worker is lost. The experiment, its storage and all decisions stay in the process that called
`run`. If that process dies, its trials are ended, and the next run of the experiment resumes them.
"""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gossamer.errors import UserError
from gossamer.extras import needed
from gossamer.files import make_folder, writing
from gossamer.search.execution.report_channel import Answer, Receive, answer, reporter
from gossamer.search.execution.workers import Executor, Outcome, Train, attempt, pickled, reason_of
from gossamer.search.trials.attachments import files_of
from gossamer.search.trials.trial import Trial

# So often a trial is begun again when its node or worker is lost.
_RETRIES = 3
_PAUSE_SECONDS = 0.05
_LOOK_SECONDS = 5.0


def on_ray(
    address: str | None = "auto",
    *,
    cpus: float = 1,
    gpus: float = 0,
    workers: int | None = None,
) -> Callable[[Train, Receive], Executor]:
    """Return an executor for `Experiment.run(train, executor=on_ray(...))`.

    Args:
        address: of the cluster, such as ``ray://host:10001`` or ``host:6379``; "auto" uses the
            one that runs on this machine; None starts one here.
        cpus, gpus: CPUs and GPUs that a trial needs; fractions are allowed.
        workers: trials that run concurrently; by default as many as fit the cluster, also when
            nodes join.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or no node has the CPUs
            and GPUs of one trial.
    """
    if cpus <= 0 and gpus <= 0:
        raise UserError("a trial needs some CPUs or GPUs; give cpus or gpus above 0")
    return partial(Cluster, address=address, cpus=cpus, gpus=gpus, workers=workers)


class Cluster:
    """Runs trials as Ray tasks; see `on_ray`."""

    def __init__(
        self,
        train: Train,
        receive: Receive,
        address: str | None,
        cpus: float,
        gpus: float,
        workers: int | None,
    ) -> None:
        with needed("running on a cluster"):
            ray: Any = importlib.import_module("ray")
        self._ray = ray
        data = pickled(train)
        self._needs = {"CPU": cpus, "GPU": gpus}
        self._workers = workers
        self._connected = not ray.is_initialized()
        if self._connected:
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises of many kinds
                raise UserError(
                    f"no Ray cluster at '{address}' ({reason_of(error)}); "
                    "start one with 'ray start --head', or leave --ray out"
                ) from None
        self._looked = 0.0
        self._capacity = 0
        if self.capacity < 1:
            wanted = ", ".join(f"{n:g} {kind}" for kind, n in self._needs.items() if n)
            self._leave()
            raise UserError(f"no node of the Ray cluster has the {wanted} that a trial needs")
        # Reports wait here until the driver, which alone has all trials, has answered them. It
        # stays on the driver's node: were it on another, all trials would be lost with that.
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(
            _Mailbox
        ).remote()
        self._work = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES, retry_exceptions=False
        )(_work)
        self._data = ray.put(data)
        self._path = list(sys.path)
        self._references: dict[Future[Outcome], Any] = {}
        self._folders: dict[Future[Outcome], Path | None] = {}
        self._closed = threading.Event()
        self._clerk = threading.Thread(
            target=self._answer, args=(receive,), name="gossamer-ray-reports", daemon=True
        )
        self._clerk.start()

    @property
    def capacity(self) -> int:
        """The number of trials that fit the current nodes, or `workers` if that is set."""
        if self._workers is not None:
            return self._workers
        if time.monotonic() - self._looked > _LOOK_SECONDS or not self._looked:
            self._looked = time.monotonic()
            self._capacity = sum(
                self._fit(node["Resources"]) for node in self._ray.nodes() if node["Alive"]
            )
        return self._capacity

    def _fit(self, resources: Mapping[str, float]) -> int:
        return int(min(resources.get(kind, 0.0) // n for kind, n in self._needs.items() if n))

    def submit(self, trial: Trial) -> Future[Outcome]:
        reference = self._work.remote(self._data, trial.reporting(None), self._mailbox, self._path)
        future: Future[Outcome] = reference.future()
        self._references[future] = reference
        self._folders[future] = trial.files
        return future

    def collect(self, future: Future[Outcome]) -> Outcome:
        del self._references[future]
        folder = self._folders.pop(future)
        error = future.exception()
        if error is None:
            outcome: Outcome = future.result()
            if folder is not None:
                for name, content in outcome.files.items():
                    make_folder((folder / name).parent)
                    with writing(folder / name) as file:
                        file.write(content)
            return outcome
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return Outcome(error=reason_of(error))
        return Outcome(
            error=f"its worker or node was lost {_RETRIES + 1} times ({type(error).__name__}); "
            "if memory ran out, give a trial more CPUs"
        )

    def close(self, *, kill: bool) -> None:
        """Shut down; `kill` ends running trials immediately."""
        if kill:
            for reference in self._references.values():
                with suppress(Exception):  # a cluster that is gone runs nothing
                    self._ray.cancel(reference, force=True)
        self._closed.set()
        self._clerk.join()
        with suppress(Exception):
            self._ray.kill(self._mailbox)
        self._leave()

    def _leave(self) -> None:
        if self._connected:
            self._ray.shutdown()

    def _answer(self, receive: Receive) -> None:
        while not self._closed.wait(_PAUSE_SECONDS):
            try:
                for key, call in self._ray.get(self._mailbox.take.remote()):
                    try:
                        answered = answer(receive, *call)
                    except Exception as error:
                        # The mailbox outlives trials: of one that ended, nobody waits.
                        answered = (None, reason_of(error))
                    self._ray.get(self._mailbox.put.remote(key, answered))
            except self._ray.exceptions.RayError:
                continue  # the mailbox's node is being replaced


class _Mailbox:
    """An actor that passes reports to the driver, and the driver's answers to the trials."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, tuple[Any, ...]] = {}
        self._answers: dict[int, Answer] = {}
        self._arrived = threading.Condition(self._lock)
        self._count = 0

    def ask(self, call: tuple[Any, ...]) -> Answer:
        with self._lock:
            self._count += 1
            key = self._count
            self._calls[key] = call
            while key not in self._answers:
                self._arrived.wait()
            return self._answers.pop(key)

    def take(self) -> list[tuple[int, tuple[Any, ...]]]:
        with self._lock:
            calls = list(self._calls.items())
            self._calls.clear()
            return calls

    def put(self, key: int, answered: Answer) -> None:
        with self._lock:
            self._answers[key] = answered
            self._arrived.notify_all()


def _work(data: bytes, trial: Trial, mailbox: Any, path: list[str]) -> Outcome:
    ray: Any = importlib.import_module("ray")
    sys.path.extend(entry for entry in path if entry not in sys.path)
    try:
        train = pickle.loads(data)
    except Exception as error:
        return Outcome(error=f"train cannot be loaded in the worker: {reason_of(error)}")

    report = reporter(trial.number, lambda call: ray.get(mailbox.ask.remote(call)))
    trial = trial.reporting(report)
    if trial.files is None:
        return attempt(train, trial)
    # The driver's folder is not here: it gets what is written to this one.
    with tempfile.TemporaryDirectory() as folder:
        trial = dataclasses.replace(trial, files=Path(folder))
        outcome = attempt(train, trial)
        files = {file.name: Path(file.path).read_bytes() for file in files_of(trial.files)}
    return dataclasses.replace(outcome, files=files)
