"""Where trials are kept: an Optuna storage, in memory or in a database.

A trial is written in one transaction when it is asked for, with its parameters and with who
runs it; so whatever is killed, and when, leaves only whole trials behind. One that was left
running by a process that is gone is put back to be run again, once, with the same parameters.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)

from gossamer.errors import UserError
from gossamer.search.quiet import quiet_optuna
from gossamer.search.trials import State, TrialRecord

_DEFINITION = "gossamer:definition"
_EARLIER = "gossamer:earlier"
_OWNER = "gossamer:owner"
_ALIVE = "gossamer:alive:"
_REASON = "gossamer:reason"
VALUE = "gossamer:value:"

_BEAT_SECONDS = 30.0
# A process on another machine counts as gone when it has not been heard of for this long.
_SILENCE_SECONDS = 600.0

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class Store:
    """One experiment's trials.

    Args:
        storage: an Optuna storage, see `open_storage`.
        name: the study's name.
        goals: of the metrics, in order; None opens an existing study only.
    """

    def __init__(self, storage: BaseStorage, name: str, goals: Sequence[str] | None) -> None:
        self._storage = storage
        # One object, one owner: a notebook that makes its experiment anew is another owner.
        self._owner = f"{_process()}/{uuid.uuid4().hex[:8]}"
        with quiet_optuna(), _readable_errors():
            if goals is not None:
                directions = [StudyDirection[goal.upper()] for goal in goals]
                # Made first, looked up after: of two processes that both want to make it, one
                # is told that it is there already.
                with suppress(DuplicatedStudyError):
                    storage.create_new_study(directions, name)
            self._study = storage.get_study_id_from_name(name)

    @property
    def definition(self) -> dict[str, Any] | None:
        """What was stored with the study; None if nothing was yet."""
        with _readable_errors():
            stored = self._storage.get_study_user_attrs(self._study).get(_DEFINITION)
        return stored if isinstance(stored, dict) else None

    @definition.setter
    def definition(self, definition: dict[str, Any]) -> None:
        with _readable_errors():
            self._storage.set_study_user_attr(self._study, _DEFINITION, definition)

    @property
    def earlier(self) -> dict[str, Any] | None:
        """What was stored of an earlier experiment; None if nothing was yet."""
        with _readable_errors():
            stored = self._storage.get_study_user_attrs(self._study).get(_EARLIER)
        return stored if isinstance(stored, dict) else None

    @earlier.setter
    def earlier(self, earlier: dict[str, Any]) -> None:
        with _readable_errors():
            self._storage.set_study_user_attr(self._study, _EARLIER, earlier)

    def frozen(self) -> list[FrozenTrial]:
        """All trials as Optuna keeps them, by number."""
        with _readable_errors():
            return self._storage.get_all_trials(self._study, deepcopy=False)

    def records(self, metrics: Sequence[str]) -> list[TrialRecord]:
        """All trials by number; `metrics` come first among the values."""
        return [_record(trial, metrics) for trial in self.frozen()]

    def claim_waiting(self) -> FrozenTrial | None:
        """A trial that was put back, now running as ours; None if there is none."""
        for trial in self.frozen():
            if trial.state is not TrialState.WAITING:
                continue
            with _readable_errors():
                trial_id = self._id(trial.number)
                try:
                    claimed = self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
                    if claimed:
                        self._storage.set_trial_user_attr(trial_id, _OWNER, self._owner)
                        return trial
                except UpdateFinishedTrialError:
                    continue
        return None

    def create(
        self, parameters: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> int:
        """A new running trial of ours. Returns its number."""
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={_OWNER: self._owner},
        )
        with _readable_errors():
            trial_id = self._storage.create_new_trial(self._study, template)
            return self._storage.get_trial_number_from_id(trial_id)

    def complete(
        self,
        number: int,
        values: Mapping[str, float],
        ordered: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Ends a trial with its values; `violations` as Optuna's own tools read them."""
        with _readable_errors(number):
            trial_id = self._id(number)
            for name, value in values.items():
                self._storage.set_trial_user_attr(trial_id, VALUE + name, value)
            for name, violation in violations.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", violation)
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, list(ordered))

    def fail(self, number: int, reason: str, values: Mapping[str, float]) -> None:
        """Ends a trial without its metrics, but with what it did return."""
        with _readable_errors(number):
            trial_id = self._id(number)
            for name, value in values.items():
                self._storage.set_trial_user_attr(trial_id, VALUE + name, value)
            self._storage.set_trial_user_attr(trial_id, _REASON, reason)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def mine(self) -> set[int]:
        """The running trials that were asked for through this object."""
        return {
            trial.number
            for trial in self.frozen()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(_OWNER) == self._owner
        }

    def put_back(self, number: int) -> bool:
        """A running trial becomes a waiting one; False if it has ended in the meantime."""
        with _readable_errors():
            trial = self._storage.get_trial(self._id(number))
            if trial.state is not TrialState.RUNNING:
                return False
            try:
                return self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)
            except UpdateFinishedTrialError:
                return False

    def put_back_abandoned(self) -> int:
        """Puts back the running trials whose process is gone. Returns how many."""
        gone = [
            trial.number
            for trial in self.frozen()
            if trial.state is TrialState.RUNNING and self._is_gone(trial.user_attrs.get(_OWNER, ""))
        ]
        return sum(self.put_back(number) for number in gone)

    def beating(self) -> _Heart:
        """A context in which other machines see this process as alive."""
        return _Heart(self)

    def beat(self) -> None:
        """Says that this process is alive."""
        with _readable_errors():
            self._storage.set_study_user_attr(self._study, _ALIVE + self._owner, time.time())

    def _is_gone(self, owner: str) -> bool:
        if owner == self._owner or not owner:
            return False
        process = owner.rsplit("/", 1)[0]
        if process.rsplit("/", 2)[0] == _process().rsplit("/", 2)[0]:
            return not _is_running(process)
        with _readable_errors():
            heard = self._storage.get_study_user_attrs(self._study).get(_ALIVE + owner)
        # A trial asked for by hand on another machine has no heartbeat: it is left alone.
        return heard is not None and time.time() - float(heard) > _SILENCE_SECONDS

    def _id(self, number: int) -> int:
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(self._study, number)
        except KeyError:
            raise UserError(
                f"trial {number} is not in this experiment; tell only trials that ask() returned"
            ) from None


class _Heart:
    """Calls `Store.beat` from a thread until left."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gossamer-heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._store.beat()
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            try:
                self._store.beat()
            except UserError:
                continue  # a database that is busy now hears the next beat


def _record(trial: FrozenTrial, metrics: Sequence[str]) -> TrialRecord:
    values = {
        key.removeprefix(VALUE): value
        for key, value in trial.user_attrs.items()
        if key.startswith(VALUE)
    }
    duration = trial.duration
    finished = trial.state.is_finished()
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        parameters=dict(trial.params),
        values={
            **{name: values[name] for name in metrics if name in values},
            **{name: values[name] for name in sorted(values) if name not in metrics},
        }
        if finished
        else {},
        reason=trial.user_attrs.get(_REASON) if trial.state is TrialState.FAIL else None,
        seconds=duration.total_seconds() if finished and duration is not None else None,
    )


def _process(pid: int | None = None) -> str:
    """host/pid/start of a process, which tells it from a later one of the same number."""
    pid = os.getpid() if pid is None else pid
    try:
        # The 22nd field, counted after the name, which may itself hold spaces and brackets.
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        start = "0"  # no /proc on this system: the number alone must do
    return f"{socket.gethostname()}/{pid}/{start}"


def _is_running(process: str) -> bool:
    """Whether `process`, of this host, still runs."""
    pid = int(process.split("/")[-2])
    if Path("/proc/self/stat").exists():
        return process == _process(pid) and not _is_zombie(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def open_storage(url: str | None, *, create: bool = True) -> BaseStorage:
    """An Optuna storage.

    Args:
        url: such as ``sqlite:///speech.db`` (relative to the working directory) or
            ``postgresql://user@host/base``; None keeps everything in memory.
        create: make the SQLite file if it is not there.

    Raises:
        UserError: when it cannot be opened, with the reason.
    """
    if url is None:
        return InMemoryStorage()
    if not isinstance(url, str) or "://" not in url:
        raise UserError(
            f"storage {url!r} is not a database URL; for a file write 'sqlite:///{url}'"
        )
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(
            f"storage '{url}' is not a database URL; for a file write 'sqlite:///name.db'"
        ) from None
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database in (None, "", ":memory:"):
        raise UserError(
            f"storage '{url}' names no file; write 'sqlite:///name.db', "
            "or leave storage out to keep the trials in memory"
        )
    if is_sqlite:
        assert parsed.database is not None
        _check_file(url, Path(parsed.database), create)
    storage = _connect(url, {"connect_args": {"timeout": 60}} if is_sqlite else {})
    if is_sqlite:
        _serialise(storage.engine)
    return get_storage(storage)


def _check_file(url: str, path: Path, create: bool) -> None:
    folder = path.parent
    if path.is_dir():
        raise UserError(f"storage '{url}': {path} is a folder; name a file in it")
    if not folder.is_dir():
        raise UserError(f"storage '{url}': folder {folder} does not exist; create it first")
    if not path.exists():
        if not create:
            raise UserError(f"storage '{url}': file {path} does not exist; check the name")
        if not os.access(folder, os.W_OK):
            raise UserError(f"storage '{url}': folder {folder} is not writable; choose another")
    elif not os.access(path, os.R_OK | os.W_OK):
        raise UserError(f"storage '{url}': file {path} is not readable and writable")
    elif path.stat().st_size and path.read_bytes()[:16] != b"SQLite format 3\0":
        raise UserError(
            f"storage '{url}': {path} is not an SQLite database; choose another file name"
        )


def _connect(url: str, engine: dict[str, Any]) -> RDBStorage:
    attempts = 20
    for attempt in range(attempts):
        try:
            with quiet_optuna():
                return RDBStorage(url, engine_kwargs=engine)
        except ImportError as error:
            cause = error.__cause__ or error
            raise UserError(
                f"storage '{url}': the database's Python driver is missing ({cause})"
            ) from None
        except RuntimeError as error:  # an older Optuna's tables: the message says what to run
            raise UserError(f"storage '{url}': {_one_line(error)}") from None
        except (OperationalError, IntegrityError, AssertionError) as error:
            # Two processes that make the tables of a new database at once: one of them fails,
            # and finds them made when it looks again.
            if attempt == attempts - 1:
                raise UserError(f"storage '{url}' cannot be opened: {_one_line(error)}") from None
            time.sleep(0.1)
        except SQLAlchemyError as error:
            raise UserError(f"storage '{url}' cannot be opened: {_one_line(error)}") from None
    raise AssertionError("the last attempt returns or raises")


def _serialise(engine: sqlalchemy.engine.Engine) -> None:
    """One SQLite transaction after the other.

    Python's sqlite3 begins a transaction only at the first write, so two processes could both
    read "waiting" and both claim the trial, or both count the same trials and take one number.
    See "Serializable isolation / Savepoints / Transactional DDL" in SQLAlchemy's SQLite page.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.engine.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Connections made before this are of the old kind.
    engine.dispose()


@contextmanager
def _readable_errors(number: int | None = None) -> Iterator[None]:
    """Database trouble as a one-line `UserError`; `number` is the trial being ended."""
    try:
        yield
    except UpdateFinishedTrialError:
        raise UserError(f"trial {number} has ended already; it can be told only once") from None
    except (StorageInternalError, DBAPIError) as error:
        cause = error.__cause__ or error
        raise UserError(f"the experiment's storage failed: {_one_line(cause)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n[SQL")[0].split("\n(Background")[0].split())
