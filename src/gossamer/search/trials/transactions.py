"""Conditions that are looked at in the transaction that writes, and writes that belong to it.

Processes that share a database read it at one moment and write at a later one. What must still
hold then is checked once more while the database keeps all others from writing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.orm import Session

_before_commit: ContextVar[Callable[[Session], None] | None] = ContextVar(
    "before_commit", default=None
)


class OwnerChangedError(Exception):
    """Nothing was written: the trial is another process's by now."""


@contextmanager
def before_commit(check: Callable[[Session], None]) -> Iterator[None]:
    """What is written inside, in a database that is watched, is committed unless this raises."""
    token = _before_commit.set(check)
    try:
        yield
    finally:
        _before_commit.reset(token)


def watch(storage: RDBStorage) -> None:
    """Let `before_commit` look at what is about to be committed to this database."""

    @sqlalchemy.event.listens_for(storage.scoped_session, "before_commit")
    def _look(session: Session) -> None:
        check = _before_commit.get()
        if check is not None:
            check(session)


@contextmanager
def handing_to(owner: str, trial: int, key: str) -> Iterator[None]:
    """A state written inside is written together with the trial's new owner.

    Args:
        owner: the process that the trial is of from now on.
        trial: its id in the database.
        key: the user attribute that holds the owner, where the trial has one.
    """

    def check(session: Session) -> None:
        if session.dirty:  # else another process was faster, and nothing is written
            session.execute(_SET_OWNER, _parameters(trial, key, owner))

    with before_commit(check):
        yield


@contextmanager
def while_owned_by(owner: str, trial: int, key: str) -> Iterator[None]:
    """A state written inside is written only while the trial has this owner.

    Raises:
        OwnerChangedError: in place of writing.
    """

    def check(session: Session) -> None:
        # An update, not a query: it sees what others have committed meanwhile.
        if session.execute(_CONFIRM_OWNER, _parameters(trial, key, owner)).rowcount == 0:  # type: ignore[attr-defined]
            raise OwnerChangedError

    with before_commit(check):
        yield


def _parameters(trial: int, key: str, owner: str) -> dict[str, object]:
    return {"trial": trial, "key": key, "owner": json.dumps(owner)}


_SET_OWNER = sqlalchemy.text(
    "UPDATE trial_user_attributes SET value_json = :owner WHERE trial_id = :trial AND key = :key"
)
_CONFIRM_OWNER = sqlalchemy.text(f"{_SET_OWNER.text} AND value_json = :owner")
