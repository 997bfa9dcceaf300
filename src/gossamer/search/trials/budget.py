"""The budget of an experiment, shared by all processes that work on it.

Several processes may see room for the last trial at the same time, and choose the same next point.
So both conditions are checked again in the transaction that writes the new trial, while Optuna
locks the study's row (SQLite: the file) against other writers.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy.orm import Session

from gossamer.search.trials.edits import DELETED
from gossamer.search.trials.transactions import before_commit
from gossamer.search.trials.trial import TrialRecord

# Costs such as 0.1 do not sum up exactly.
_ROUNDING = 1e-9


def running_seconds(records: Iterable[TrialRecord]) -> float:
    """Return the seconds in which at least one of the ended trials ran."""
    spans = sorted(
        (record.started, record.started + record.seconds)
        for record in records
        if record.started is not None and record.seconds is not None
    )
    total, until = 0.0, -math.inf
    for begin, end in spans:
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


@dataclass(frozen=True)
class Budget:
    """Limit on the cost of all trials.

    Every trial counts, whatever its state, unless it was deleted: one that waits to be run again
    was admitted before.

    Args:
        total: the limit; may be infinite.
        cost: returns the cost of a trial at a fidelity.
    """

    total: float
    cost: Callable[[str | None], float]

    def spent(self, fidelities: Mapping[str | None, int]) -> float:
        """Return the cost of numbers of trials by fidelity."""
        return sum(count * self.cost(fidelity) for fidelity, count in fidelities.items())

    def holds(self, spent: float) -> bool:
        """Whether this cost is within the limit, up to rounding."""
        return spent <= self.total + _ROUNDING


@dataclass(frozen=True)
class Room:
    """Condition that is checked again when a trial is written.

    Args:
        budget: must have room for it.
        seen: number of trials when it was chosen, deleted ones included.
        strict: no trial may have been added since; else none with the same parameters.
    """

    budget: Budget
    seen: int
    strict: bool


class RoomTakenError(Exception):
    """The trial was not written: other processes have added trials meanwhile."""


def within(room: Room, study: int, key: str) -> AbstractContextManager[None]:
    """Write trials that are created within the ``with`` block only if `room` allows it.

    The database must be watched, see `transactions.watch`.

    Args:
        room: for one trial of the study.
        study: its id in the database.
        key: the user attribute of a trial that holds its fidelity.

    Raises:
        RoomTakenError: in place of writing a trial.
    """

    def check(session: Session) -> None:
        session.flush()
        rows = session.execute(_COUNT, {"study": study, "key": key})
        counted: Counter[str | None] = Counter()
        for fidelity, count in rows:
            counted[None if fidelity is None else json.loads(fidelity)] += count
        # The trial itself is among them.
        taken = counted.total() - 1 > room.seen and (
            room.strict or _is_repeated(session, study, room.seen)
        )
        for (fidelity,) in session.execute(_DELETED, {"study": study, "keys": f"{DELETED}%"}):
            counted[json.loads(fidelity)] -= 1
        if taken or not room.budget.holds(room.budget.spent(counted)):
            raise RoomTakenError

    return before_commit(check)


def _is_repeated(session: Session, study: int, first: int) -> bool:
    """Whether the last trial repeats the parameters of a trial from number `first` on."""
    points: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for number, name, value in session.execute(_NEWEST, {"study": study, "first": first}):
        points[number][name] = value
    last = points.pop(max(points))
    return last in points.values()


# The trial that is about to be committed is among them.
_COUNT = sqlalchemy.text(
    "SELECT attribute.value_json, COUNT(*) FROM trials "
    "LEFT JOIN trial_user_attributes AS attribute "
    "ON attribute.trial_id = trials.trial_id AND attribute.key = :key "
    "WHERE trials.study_id = :study GROUP BY attribute.value_json"
)
_DELETED = sqlalchemy.text(
    "SELECT attribute.value_json FROM study_user_attributes AS attribute "
    "WHERE attribute.study_id = :study AND attribute.key LIKE :keys"
)
_NEWEST = sqlalchemy.text(
    "SELECT trials.number, param_name, param_value FROM trials "
    "JOIN trial_params ON trial_params.trial_id = trials.trial_id "
    "WHERE trials.study_id = :study AND trials.number >= :first"
)
