"""Conditions that are checked, and further writes, within a database transaction.

Processes that share a database read it at one moment and write later. What must still be true then
is checked again in the transaction, while the database is locked against other writers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.orm import Session

_before_commit: ContextVar[Callable[[Session], None] | None] = ContextVar(
    "before_commit", default=None
)


class OwnerChangedError(Exception):
    """Nothing was written: the trial has another owner by now."""


@contextmanager
def before_commit(check: Callable[[Session], None]) -> Iterator[None]:
    """Call a check before each commit within the ``with`` block; nothing is written if it raises.

    The database must be watched, see `watch`.
    """
    token = _before_commit.set(check)
    try:
        yield
    finally:
        _before_commit.reset(token)


def watch(storage: RDBStorage) -> None:
    """Let `before_commit` check what is about to be committed to this database."""

    @sqlalchemy.event.listens_for(storage.scoped_session, "before_commit")
    def _look(session: Session) -> None:
        check = _before_commit.get()
        if check is not None:
            check(session)


def handing_to(owner: str, trial: int, key: str) -> AbstractContextManager[None]:
    """Write a state within the ``with`` block together with the trial's new owner.

    Args:
        owner: the new owner.
        trial: its id in the database.
        key: the user attribute of the owner, if the trial has one.
    """

    def check(session: Session) -> None:
        if session.dirty:  # else another process was faster, and nothing is written
            session.execute(_SET_OWNER, _parameters(trial, key, owner))

    return before_commit(check)


def while_owned_by(owner: str, trial: int, key: str) -> AbstractContextManager[None]:
    """Write a state within the ``with`` block only if the trial still has this owner.

    Raises:
        OwnerChangedError: it has another; nothing was written.
    """

    def check(session: Session) -> None:
        # An update, not a query: it sees what others have committed meanwhile.
        if session.execute(_CONFIRM_OWNER, _parameters(trial, key, owner)).rowcount == 0:  # type: ignore[attr-defined]
            raise OwnerChangedError

    return before_commit(check)


def _parameters(trial: int, key: str, owner: str) -> dict[str, object]:
    return {"trial": trial, "key": key, "owner": json.dumps(owner)}


_SET_OWNER = sqlalchemy.text(
    "UPDATE trial_user_attributes SET value_json = :owner WHERE trial_id = :trial AND key = :key"
)
_CONFIRM_OWNER = sqlalchemy.text(f"{_SET_OWNER.text} AND value_json = :owner")
