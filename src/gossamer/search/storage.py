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
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gossamer.errors import UserError
from gossamer.search.budget import Budget, SpentError, within
from gossamer.search.databases import patient
from gossamer.search.quiet import quiet_optuna
from gossamer.search.trials import Report, State, TrialRecord

_DEFINITION = "gossamer:definition"
_EARLIER = "gossamer:earlier"
_OWNER = "gossamer:owner"
_ALIVE = "gossamer:alive:"
_REASON = "gossamer:reason"
_VALUE = "gossamer:value:"
_EXPECTED = "gossamer:expected"
_FIDELITY = "gossamer:fidelity"
_ORIGIN = "gossamer:origin"
# Of a trial's attempts only the last one counts: "gossamer:report:<attempt>:<step>".
_REPORT = "gossamer:report:"
_ATTEMPT = "gossamer:attempt"
_LOST = "gossamer:lost"
# Which call ended the trial, for one that was repeated because the answer was lost.
_TOLD = "gossamer:told"

_BEAT_SECONDS = 30.0
# A process on another machine counts as gone when it has not been heard of for this long.
_SILENCE_SECONDS = 600.0
# A trial whose process was lost so often is not run again: it may be what kills them.
_LIVES = 5

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "stopped",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class EndedError(UserError):
    """A trial that has ended already cannot be told of again."""


class Store:
    """One experiment's trials.

    While it has running trials it lets others know, every half minute, that it is alive.

    Args:
        storage: an Optuna storage, see `open_storage`.
        name: the study's name.
        goals: of the metrics, in order; None opens an existing study only.
    """

    def __init__(self, storage: BaseStorage, name: str, goals: Sequence[str] | None) -> None:
        self._storage = storage
        # One object, one owner: a notebook that makes its experiment anew is another owner.
        self._owner = f"{_process()}/{uuid.uuid4().hex[:8]}"
        self._handed: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._ended: dict[int, TrialRecord] = {}
        self._heart: threading.Thread | None = None
        self._study = self._find_or_make(name, goals)

    @patient
    def _find_or_make(self, name: str, goals: Sequence[str] | None) -> int:
        with quiet_optuna():
            if goals is not None:
                directions = [StudyDirection[goal.upper()] for goal in goals]
                # Made first, looked up after: of two processes that both want to make it, one
                # is told that it is there already.
                with suppress(DuplicatedStudyError):
                    self._storage.create_new_study(directions, name)
            return self._storage.get_study_id_from_name(name)

    @property
    def definition(self) -> dict[str, Any] | None:
        """What was stored with the study; None if nothing was yet."""
        stored = self._study_attributes().get(_DEFINITION)
        return stored if isinstance(stored, dict) else None

    @definition.setter
    def definition(self, definition: dict[str, Any]) -> None:
        self._set_study_attribute(_DEFINITION, definition)

    @property
    def earlier(self) -> dict[str, Any] | None:
        """What was stored of an earlier experiment; None if nothing was yet."""
        stored = self._study_attributes().get(_EARLIER)
        return stored if isinstance(stored, dict) else None

    @earlier.setter
    def earlier(self, earlier: dict[str, Any]) -> None:
        self._set_study_attribute(_EARLIER, earlier)

    @patient
    def _study_attributes(self) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(self._study)

    @patient
    def _set_study_attribute(self, key: str, value: Any) -> None:
        self._storage.set_study_user_attr(self._study, key, value)

    @patient
    def frozen(self) -> list[FrozenTrial]:
        """All trials as Optuna keeps them, by number."""
        return self._storage.get_all_trials(self._study, deepcopy=False)

    def records(self, metrics: Sequence[str]) -> list[TrialRecord]:
        """All trials by number; `metrics` come first among the values."""
        for trial in (trials := self.frozen()):
            if trial.state.is_finished() and trial.number not in self._ended:
                self._ended[trial.number] = _record(trial, metrics)
        return [self._ended.get(trial.number) or _record(trial, metrics) for trial in trials]

    def claim_waiting(self, budget: Budget) -> TrialRecord | None:
        """A trial that was put back, now running as ours; None if there is none.

        Nor where a budget that was made smaller since leaves no room for it beside those that
        are not waiting, and the waiting ones before it, which others may claim meanwhile.
        """
        trials = self.frozen()
        waiting = [trial for trial in trials if trial.state is TrialState.WAITING]
        others = [trial for trial in trials if trial.state is not TrialState.WAITING]
        spent = sum(budget.cost(_fidelity(trial)) for trial in others)
        for trial in waiting:
            spent += budget.cost(_fidelity(trial))
            if not budget.holds(spent):
                return None
            if self._claim(trial):
                self._hand(trial.number, trial.user_attrs.get(_ATTEMPT, 1) + 1)
                return _record(trial, ())
        return None

    @patient
    def _claim(self, trial: FrozenTrial) -> bool:
        trial_id = self._id(trial.number)
        try:
            if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                # Another's, unless it is ours by a call whose answer was lost.
                return False
            attempt = trial.user_attrs.get(_ATTEMPT, 1) + 1
            self._storage.set_trial_user_attr(trial_id, _ATTEMPT, attempt)
            self._storage.set_trial_user_attr(trial_id, _OWNER, self._owner)
        except UpdateFinishedTrialError:
            return False
        return True

    def create(
        self,
        parameters: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        budget: Budget,
        fidelity: str | None = None,
        origin: int | None = None,
    ) -> int | None:
        """A new running trial of ours. Returns its number; None if there was no room for it.

        Args:
            budget: never overshot, however many processes make trials at once.
            fidelity: the cheaper task that it runs.
            origin: the trial of a lower fidelity that it repeats.
        """
        extra = {_FIDELITY: fidelity, _ORIGIN: origin}
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={_OWNER: self._owner, **{k: v for k, v in extra.items() if v is not None}},
        )
        try:
            number = self._create(template, budget)
        except SpentError:
            return None
        self._hand(number, 1)
        return number

    @patient
    def _create(self, template: FrozenTrial, budget: Budget) -> int:
        # Where the answer to a first call was lost, the trial of that call stays unhanded, and
        # `put_back_abandoned` puts it back.
        with within(budget, self._study, _FIDELITY):
            trial_id = self._storage.create_new_trial(self._study, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def _hand(self, number: int, attempt: int) -> None:
        self._handed.add(number)
        self._attempts[number] = attempt
        self._start_heart()

    @patient
    def report(self, number: int, report: Report) -> None:
        """Keeps what a running trial says of itself."""
        key = f"{_REPORT}{self._attempts.get(number, 1)}:{report.step}"
        entry = {"values": report.values, "of": report.of, "seconds": report.seconds}
        with _ended_only_once(number):
            self._storage.set_trial_user_attr(self._id(number), key, entry)

    def complete(
        self,
        number: int,
        values: Mapping[str, float],
        ordered: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Ends a trial with its values; `violations` as Optuna's own tools read them."""
        attributes = {_VALUE + name: value for name, value in values.items()}
        self._end(number, TrialState.COMPLETE, attributes, violations, ordered)

    def fail(self, number: int, reason: str, values: Mapping[str, float]) -> None:
        """Ends a trial without its metrics, but with what it did return."""
        attributes = {_VALUE + name: value for name, value in values.items()}
        self._end(number, TrialState.FAIL, {**attributes, _REASON: reason})

    def stop(self, number: int, reason: str, expected: Mapping[str, float]) -> None:
        """Ends a trial that was given up, with where its metrics were expected to end."""
        attributes = {_REASON: reason, _EXPECTED: dict(expected)}
        self._end(number, TrialState.PRUNED, attributes)

    def _end(
        self,
        number: int,
        state: TrialState,
        attributes: Mapping[str, Any],
        violations: Mapping[str, float] | None = None,
        ordered: Sequence[float] | None = None,
    ) -> None:
        told = uuid.uuid4().hex
        self._write_end(number, state, {**attributes, _TOLD: told}, violations or {}, ordered)
        self._handed.discard(number)

    @patient
    def _write_end(
        self,
        number: int,
        state: TrialState,
        attributes: Mapping[str, Any],
        violations: Mapping[str, float],
        ordered: Sequence[float] | None,
    ) -> None:
        trial_id = self._id(number)
        try:
            for key, value in attributes.items():
                self._storage.set_trial_user_attr(trial_id, key, value)
            for name, violation in violations.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", violation)
            values = None if ordered is None else list(ordered)
            self._storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            stored = self._storage.get_trial(trial_id).user_attrs.get(_TOLD)
            if stored != attributes[_TOLD]:
                raise _ended(number) from None

    def mine(self) -> set[int]:
        """The running trials that were asked for through this object."""
        return {
            trial.number
            for trial in self.frozen()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(_OWNER) == self._owner
        }

    @patient
    def put_back(self, number: int) -> bool:
        """A running trial becomes a waiting one; False if it has ended in the meantime."""
        trial = self._storage.get_trial(self._id(number))
        if trial.state is not TrialState.RUNNING:
            return False
        try:
            back = self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)
        except UpdateFinishedTrialError:
            return False
        self._handed.discard(number)
        return back

    def put_back_abandoned(self) -> int:
        """Puts back the running trials whose process is gone. Returns how many.

        One that lost its process too often fails instead.
        """
        back = 0
        for trial in self.frozen():
            if trial.state is not TrialState.RUNNING or not self._is_abandoned(trial):
                continue
            lost = trial.user_attrs.get(_LOST, 0) + 1
            if lost >= _LIVES:
                with suppress(EndedError):
                    self.fail(trial.number, f"the process that ran it was lost {lost} times", {})
                continue
            self._count_loss(trial.number, lost)
            back += self.put_back(trial.number)
        return back

    @patient
    def _count_loss(self, number: int, lost: int) -> None:
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(self._id(number), _LOST, lost)

    def beat(self) -> None:
        """Says that this process is alive."""
        self._set_study_attribute(_ALIVE + self._owner, time.time())

    def _start_heart(self) -> None:
        if self._heart is not None or isinstance(self._storage, InMemoryStorage):
            return
        self.beat()
        stop = threading.Event()
        weakref.finalize(self, stop.set)
        self._heart = threading.Thread(
            target=_beat, args=(weakref.ref(self), stop), name="gossamer-heartbeat", daemon=True
        )
        self._heart.start()

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(_OWNER, "")
        if owner == self._owner:
            return trial.number not in self._handed
        if not owner:
            return False
        process = owner.rsplit("/", 1)[0]
        if process.rsplit("/", 2)[0] == _process().rsplit("/", 2)[0]:
            return not _is_running(process)
        heard = self._study_attributes().get(_ALIVE + owner)
        return heard is not None and time.time() - float(heard) > _SILENCE_SECONDS

    def _id(self, number: int) -> int:
        if number not in self._ids:
            try:
                self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(
                    self._study, number
                )
            except KeyError:
                raise UserError(
                    f"trial {number} is not in this experiment; "
                    "tell only trials that ask() returned"
                ) from None
        return self._ids[number]


def _beat(store: weakref.ref[Store], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):
        alive = store()
        if alive is None:
            return
        if alive._handed:
            with suppress(UserError):  # a database in trouble now hears the next beat
                alive.beat()
        del alive


def _ended(number: int) -> EndedError:
    return EndedError(f"trial {number} has ended already; it can be told only once")


@contextmanager
def _ended_only_once(number: int) -> Iterator[None]:
    try:
        yield
    except UpdateFinishedTrialError:
        raise _ended(number) from None


def _fidelity(trial: FrozenTrial) -> str | None:
    return trial.user_attrs.get(_FIDELITY)


def _record(trial: FrozenTrial, metrics: Sequence[str]) -> TrialRecord:
    stored = trial.user_attrs
    values = {
        key.removeprefix(_VALUE): value for key, value in stored.items() if key.startswith(_VALUE)
    }
    duration = trial.duration
    finished = trial.state.is_finished()
    owner = stored.get(_OWNER)
    attempt = stored.get(_ATTEMPT, 1)
    prefix = f"{_REPORT}{attempt}:"
    reports = [
        Report(int(key.removeprefix(prefix)), entry["of"], entry["values"], entry["seconds"])
        for key, entry in stored.items()
        if key.startswith(prefix)
    ]
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
        reason=stored.get(_REASON) if finished else None,
        seconds=duration.total_seconds() if finished and duration is not None else None,
        fidelity=_fidelity(trial),
        reports=tuple(sorted(reports, key=lambda report: report.step)),
        expected=dict(stored.get(_EXPECTED, {})) if finished else {},
        # host/pid of host/pid/start/object
        worker="/".join(owner.split("/")[:-2]) if owner else None,
        attempts=attempt,
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        origin=stored.get(_ORIGIN),
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
