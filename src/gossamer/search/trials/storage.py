"""Store of trials: an Optuna storage, in memory or in a database.

A new trial is written in one transaction, with its parameters and its owner, so that a process
that is killed at any moment leaves only complete records. A trial whose process has died is put
back, to be run again with the same parameters.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gossamer.errors import UserError
from gossamer.numbers import Goal
from gossamer.search.trials.budget import Budget, Room, RoomTakenError, within
from gossamer.search.trials.databases import patient
from gossamer.search.trials.edits import Edits, deleted_key, note_key, value_key
from gossamer.search.trials.ending import End
from gossamer.search.trials.heartbeat import is_gone, keep_beating, new_owner
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.records import (
    ATTEMPT,
    CONTINUED,
    ENDED_BY,
    FIDELITY,
    LOST,
    ORIGIN,
    OWNER,
    SOURCE,
    attempt,
    fidelity,
    lost_key,
    record,
    report_key,
)
from gossamer.search.trials.transactions import OwnerChangedError, handing_to, while_owned_by
from gossamer.search.trials.trial import Report, Trial, TrialRecord

# Attributes of a study. MADE tells it from any other of its name.
MADE = "gossamer:made"
DEFINITION = "gossamer:definition"
OBJECTIVES = "gossamer:objectives"
_EARLIER = "gossamer:earlier"
_DATA = "gossamer:data"
_ALIVE = "gossamer:alive:"

# A trial that lost its process, worker or driver, so often is not run again.
_LIVES = 5


def directions_of(objectives: Mapping[str, str]) -> list[StudyDirection]:
    """Directions of a study with these objectives, which has at least one."""
    goals = list(objectives.values()) or [Goal.MINIMIZE]
    return [StudyDirection[goal.upper()] for goal in goals]


class EndedError(UserError):
    """A second result of a trial that has ended already."""


class Store:
    """One experiment's trials.

    It sends a heartbeat every half minute while it has running trials.

    Args:
        storage: an Optuna storage, see `open_storage`.
        name: the study's name.
        objectives: goals of the optimized metrics by name; None opens an existing study only.
    """

    def __init__(
        self, storage: BaseStorage, name: str, objectives: Mapping[str, str] | None
    ) -> None:
        self.name = name
        self._storage = storage
        self._owner = new_owner()
        self._handed: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._ended: dict[int, TrialRecord] = {}
        # By number: the record, how it was changed since, and what became of it. Whoever compares
        # trials from one reading to the next finds the same objects.
        self._edited: dict[int, tuple[TrialRecord, object, TrialRecord]] = {}
        self._beating = False
        self._study = self._find_or_make(name, objectives)

    @patient
    def _find_or_make(self, name: str, objectives: Mapping[str, str] | None) -> int:
        with quiet_optuna():
            if objectives is not None:
                # Made first, looked up after: of two processes that both want to make it, one
                # learns that it is there already.
                with suppress(DuplicatedStudyError):
                    made = self._storage.create_new_study(directions_of(objectives), name)
                    self._storage.set_study_user_attr(made, OBJECTIVES, dict(objectives))
                    self._storage.set_study_user_attr(made, MADE, uuid.uuid4().hex)
            return self._storage.get_study_id_from_name(name)

    @property
    def lasts(self) -> bool:
        """Whether the trials outlive this process."""
        return not isinstance(self._storage, InMemoryStorage)

    @property
    def definition(self) -> dict[str, Any] | None:
        """The definition stored with the study; None if there is none yet."""
        return self._stored(DEFINITION)

    @definition.setter
    def definition(self, definition: dict[str, Any]) -> None:
        self._set_study_attribute(DEFINITION, definition)

    @property
    def objectives(self) -> Mapping[str, str]:
        """The metrics whose values Optuna stores, with their goals, in its order.

        They were optimized when the study was created and may not be now: Optuna cannot change
        a study's objectives. If it is empty, Optuna's value is the total violation.
        """
        stored = self._stored(OBJECTIVES)
        if stored is None:  # an older study, whose optimized metrics never changed
            metrics = (self.definition or {}).get("metrics", {})
            goals = {name: str(metric["goal"]) for name, metric in metrics.items()}
            return {n: goal for n, goal in goals.items() if goal in tuple(Goal)}
        return stored

    def keep_objectives(self, wanted: Mapping[str, str]) -> None:
        """Store the objectives before another definition is stored.

        Args:
            wanted: objectives of the new definition, for a study without one: its creator was
                killed before it stored any, or is about to store it.
        """
        if self._stored(OBJECTIVES) is None:
            objectives = wanted if self.definition is None else self.objectives
            self._set_study_attribute(OBJECTIVES, dict(objectives))

    @property
    def earlier(self) -> dict[str, Any] | None:
        """The earlier experiment stored with the study; None if there is none yet."""
        return self._stored(_EARLIER)

    @earlier.setter
    def earlier(self, earlier: dict[str, Any]) -> None:
        self._set_study_attribute(_EARLIER, earlier)

    @property
    def data(self) -> dict[str, str]:
        """The fingerprints of the data that trials are of, by name; empty if none are known."""
        return self._stored(_DATA) or {}

    @data.setter
    def data(self, data: Mapping[str, str]) -> None:
        self._set_study_attribute(_DATA, dict(data))

    def _stored(self, key: str) -> dict[str, Any] | None:
        stored = self._study_attributes().get(key)
        return stored if isinstance(stored, dict) else None

    @patient
    def _study_attributes(self) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(self._study)

    @patient
    def _set_study_attribute(self, key: str, value: Any) -> None:
        self._storage.set_study_user_attr(self._study, key, value)

    @patient
    def frozen(self) -> list[FrozenTrial]:
        """Return all trials as Optuna's records, by number."""
        return self._storage.get_all_trials(self._study, deepcopy=False)

    @property
    def edits(self) -> Edits:
        """The changes of trials since they ended."""
        return Edits.read(self._study_attributes())

    def records(self, metrics: Sequence[str], *, deleted: bool = False) -> list[TrialRecord]:
        """Return all trials by number with their changes; `metrics` come first among the values.

        Args:
            metrics: names, in order.
            deleted: whether to include deleted trials.
        """
        for trial in (trials := self.frozen()):
            if trial.state.is_finished() and trial.number not in self._ended:
                self._ended[trial.number] = record(trial, metrics)
        edits = self.edits
        return [
            self._edit(self._ended.get(trial.number) or record(trial, metrics), edits)
            for trial in trials
            if deleted or trial.number not in edits.deleted
        ]

    def _edit(self, record: TrialRecord, edits: Edits) -> TrialRecord:
        known, changes = self._edited.get(record.number), edits.of(record.number)
        if known is None or known[0] is not record or known[1] != changes:
            known = record, changes, edits.apply(record)
            self._edited[record.number] = known
        return known[2]

    def delete(self, records: Sequence[TrialRecord]) -> None:
        """Mark trials as deleted, whatever their state."""
        for one in records:
            self._set_study_attribute(deleted_key(one.number), one.fidelity)

    def correct(self, number: int, values: Mapping[str, float | tuple[float, float]]) -> None:
        """Replace values of a trial that has ended."""
        for name, value in values.items():
            self._set_study_attribute(value_key(number, name), value)

    def note(self, number: int, text: str) -> None:
        """Replace a trial's note; an empty one removes it."""
        self._set_study_attribute(note_key(number), text)

    def claim_waiting(self, budget: Budget) -> TrialRecord | None:
        """Claim a trial that was put back, and return it as running; None if there is none.

        Also None if the budget was reduced and has no room for it, besides all trials that are not
        waiting and the waiting ones before it, which others may claim meanwhile.
        """
        deleted = self.edits.deleted
        trials = [trial for trial in self.frozen() if trial.number not in deleted]
        waiting = [trial for trial in trials if trial.state is TrialState.WAITING]
        others = [trial for trial in trials if trial.state is not TrialState.WAITING]
        spent = sum(budget.cost(fidelity(trial)) for trial in others)
        for trial in waiting:
            spent += budget.cost(fidelity(trial))
            if not budget.holds(spent):
                return None
            if self._claim(trial):
                self._hand(trial.number, attempt(trial) + 1)
                return record(trial)
        return None

    @patient
    def _claim(self, trial: FrozenTrial) -> bool:
        trial_id = self._id(trial.number)
        try:
            with handing_to(self._owner, trial_id, OWNER):
                if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    # Another's, unless it is ours by a call whose answer was lost.
                    return False
            self._storage.set_trial_user_attr(trial_id, ATTEMPT, attempt(trial) + 1)
            # Of trials in memory, and of those that had no owner yet.
            self._storage.set_trial_user_attr(trial_id, OWNER, self._owner)
        except UpdateFinishedTrialError:
            return False
        return True

    def create(
        self, trial: Trial, distributions: Mapping[str, BaseDistribution], room: Room
    ) -> int | None:
        """Create a running trial of this process and return its number; None without room.

        Args:
            trial: what it is to run; its number does not count.
            distributions: of the parameters, as Optuna's.
            room: condition that is checked in the same transaction.
        """
        extra = {
            FIDELITY: trial.fidelity,
            ORIGIN: trial.origin,
            CONTINUED: trial.continued or None,
        }
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(trial.parameters),
            distributions=dict(distributions),
            user_attrs={OWNER: self._owner, **{k: v for k, v in extra.items() if v is not None}},
        )
        try:
            number = self._create(template, room)
        except RoomTakenError:
            return None
        self._hand(number, 1)
        return number

    @patient
    def _create(self, template: FrozenTrial, room: Room) -> int:
        # Where the answer to a first call was lost, the trial of that call stays unhanded, and
        # `put_back_abandoned` puts it back.
        with within(room, self._study, FIDELITY):
            trial_id = self._storage.create_new_trial(self._study, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def _hand(self, number: int, attempt: int) -> None:
        self._handed.add(number)
        self._attempts[number] = attempt
        self._start_beating()

    @patient
    def report(self, number: int, report: Report) -> None:
        """Store a running trial's report."""
        key = report_key(self._attempts.get(number, 1), report.step)
        entry = {"values": report.values, "of": report.of, "seconds": report.seconds}
        try:
            self._storage.set_trial_user_attr(self._id(number), key, entry)
        except UpdateFinishedTrialError:
            raise _ended(number) from None

    def end(self, number: int, end: End) -> None:
        """End a running trial of this process."""
        self._write_end(number, end, uuid.uuid4().hex)
        self._handed.discard(number)

    def add(
        self,
        parameters: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        end: End,
        seconds: float | None = None,
        source: str | None = None,
    ) -> int:
        """Store a trial that has ended elsewhere, in one transaction, and return its number.

        Args:
            parameters: name -> value.
            distributions: of the parameters, as Optuna's.
            end: how it ended.
            seconds: its duration.
            source: its name in the tool that ran it.
        """
        origin = {} if source is None else {SOURCE: source}
        template = optuna.trial.create_trial(
            state=end.state,
            values=end.ordered(self.objectives),
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={OWNER: self._owner, **end.attributes, **origin, ENDED_BY: uuid.uuid4().hex},
            system_attrs={f"constraints:{name}": v for name, v in end.violations.items()},
        )
        template.datetime_complete = datetime.now()
        template.datetime_start = template.datetime_complete - timedelta(seconds=seconds or 0.0)
        return self._add(template)

    @patient
    def _add(self, template: FrozenTrial) -> int:
        call = template.user_attrs[ENDED_BY]
        for trial in self.frozen():  # by a call whose answer was lost
            if trial.user_attrs.get(ENDED_BY) == call:
                return trial.number
        trial_id = self._storage.create_new_trial(self._study, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def sources(self) -> frozenset[str]:
        """Return the sources of trials that ended elsewhere, deleted ones included."""
        named = (trial.user_attrs.get(SOURCE) for trial in self.frozen())
        return frozenset(source for source in named if source is not None)

    @patient
    def _write_end(self, number: int, end: End, call: str) -> None:
        trial_id = self._id(number)
        try:
            for key, value in {**end.attributes, ENDED_BY: call}.items():
                self._storage.set_trial_user_attr(trial_id, key, value)
            for name, violation in end.violations.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", violation)
            values = end.ordered(self.objectives)
            self._storage.set_trial_state_values(trial_id, end.state, values)
        except UpdateFinishedTrialError:
            stored = self._storage.get_trial(trial_id).user_attrs.get(ENDED_BY)
            if stored != call:
                raise _ended(number) from None

    def mine(self) -> set[int]:
        """Return the numbers of the running trials of this object."""
        return {
            trial.number
            for trial in self.frozen()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(OWNER) == self._owner
        }

    @patient
    def put_back(self, number: int, owner: str | None = None) -> bool:
        """Put a running trial back, to wait for being run again.

        Args:
            number: of the trial.
            owner: its owner when it was read; this object by default.

        Returns:
            False if it has ended, was put back or got another owner in the meantime.
        """
        trial_id, owner = self._id(number), owner or self._owner
        if self._storage.get_trial(trial_id).state is not TrialState.RUNNING:
            return False
        try:
            with while_owned_by(owner, trial_id, OWNER):
                back = self._storage.set_trial_state_values(trial_id, TrialState.WAITING)
        except (UpdateFinishedTrialError, OwnerChangedError):
            return False
        self._handed.discard(number)
        return back

    def put_back_abandoned(self) -> int:
        """Put back the running trials whose process has died; return their number."""
        running = (t for t in self.frozen() if t.state is TrialState.RUNNING)
        return sum(
            self.lose(trial.number, "the process that ran it was lost", trial)
            for trial in running
            if self._is_abandoned(trial)
        )

    def lose(self, number: int, how: str, seen: FrozenTrial | None = None) -> bool:
        """Put back a running trial that lost its process; False if it is not to be run again.

        A trial that lost its process too often fails instead, since it may be the cause.

        Args:
            number: of the trial.
            how: how it was lost, the start of the reason if it fails.
            seen: the trial when it was lost; this object's by default.
        """
        owner = self._owner if seen is None else seen.user_attrs[OWNER]
        lost = self._count_loss(number, self._attempts[number] if seen is None else attempt(seen))
        if lost < _LIVES:
            return self.put_back(number, owner)
        with suppress(EndedError):
            self.end(number, End.failed(f"{how}, {lost} times", {}))
        return False

    @patient
    def _count_loss(self, number: int, attempt: int) -> int:
        """Count the loss of this attempt, once for all processes; return the trial's losses."""
        trial_id = self._id(number)
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial_id, lost_key(attempt), True)
        attributes = self._storage.get_trial(trial_id).user_attrs
        return sum(key.startswith(LOST) for key in attributes)

    def beat(self) -> None:
        """Send a heartbeat."""
        self._set_study_attribute(_ALIVE + self._owner, time.time())

    def beat_if_busy(self) -> None:
        """Send a heartbeat if trials run here."""
        if self._handed:
            with suppress(UserError):  # a database in trouble now hears the next beat
                self.beat()

    def _start_beating(self) -> None:
        if self._beating or not self.lasts:
            return
        self.beat()
        self._beating = True
        keep_beating(self)

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER, "")
        if owner == self._owner:
            return trial.number not in self._handed
        return bool(owner) and is_gone(owner, lambda: self._heard(owner))

    def _heard(self, owner: str) -> float | None:
        beat = self._study_attributes().get(_ALIVE + owner)
        return None if beat is None else float(beat)

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


def _ended(number: int) -> EndedError:
    return EndedError(f"trial {number} has ended already; it can be ended only once")
