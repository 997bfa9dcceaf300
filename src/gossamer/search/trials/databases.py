"""Opening of an experiment's database, and the handling of its errors."""

from __future__ import annotations

import os
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)

from gossamer.errors import UserError, one_line
from gossamer.extras import needed
from gossamer.files import is_sqlite
from gossamer.search.trials.optuna_log import quiet_optuna
from gossamer.search.trials.transactions import watch

_MOUNTS = Path("/proc/mounts")
# As the table of mounts calls network file systems.
_NETWORK = (
    "afs",
    "beegfs",
    "ceph",
    "cephfs",
    "cifs",
    "davfs",
    "davfs2",
    "fhgfs",
    "gcsfuse",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "orangefs",
    "pvfs2",
    "rclone",
    "s3fs",
    "smb3",
    "smbfs",
    "sshfs",
)
# A key of PostgreSQL's advisory locks: who holds it makes the tables.
_MAKING = 0x676F7373
_MAKING_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 1.0


class NothingStoredError(UserError):
    """A storage that was opened for reading has no experiment."""


def open_storage(url: str | None, *, create: bool = True) -> BaseStorage:
    """An Optuna storage.

    Args:
        url: such as ``sqlite:///speech.db`` (relative to the working directory) or
            ``postgresql://user@host/base``; None keeps everything in memory.
        create: create missing tables, and SQLite's file; False also opens read-only databases.

    Raises:
        NothingStoredError: there are no tables, and `create` is False.
        UserError: it cannot be opened; the message has the reason.
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
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UserError(
                f"storage '{url}' names no file; write 'sqlite:///name.db', "
                "or leave storage out to keep the trials in memory"
            )
        _check_file(url, Path(parsed.database), create)
        if (kind := network_mount(parsed.database, _MOUNTS)) is not None:
            warnings.warn(
                f"storage '{url}' is an SQLite file on a network file system ({kind}), whose locks "
                "may fail between machines; use a local disk, or PostgreSQL to share it",
                stacklevel=2,
            )
        path = Path(parsed.database)
        if not create and not os.access(path, os.W_OK):
            connect = partial(connect_to_read, path, timeout=60, check_same_thread=False)
            return get_storage(_connect(url, {"creator": connect}))
        storage = _connect(url, {"connect_args": {"timeout": 60}})
        _serialize(storage.engine)
        return get_storage(storage)
    if parsed.get_backend_name() == "postgresql":
        return get_storage(_connect_postgresql(url, parsed, create))
    return get_storage(_connect(url, {"pool_pre_ping": True}, create=create))


def _check_file(url: str, path: Path, create: bool) -> None:
    folder = path.parent
    if path.is_dir():
        raise UserError(f"storage '{url}': {path} is a folder; name a file in it")
    if not folder.is_dir():
        raise UserError(f"storage '{url}': folder {folder} does not exist; create it first")
    if not path.exists():
        if not create:
            raise NothingStoredError(f"storage '{url}': file {path} does not exist; check the name")
        if not os.access(folder, os.W_OK):
            raise UserError(f"storage '{url}': folder {folder} is not writable; choose another")
    elif not os.access(path, os.R_OK):
        raise UserError(f"storage '{url}': file {path} is not readable; change its permissions")
    elif create and not os.access(path, os.W_OK):
        raise UserError(
            f"storage '{url}': file {path} is not writable; change its permissions, or copy it"
        )
    elif path.stat().st_size and not is_sqlite(path):
        raise UserError(
            f"storage '{url}': {path} is not an SQLite database; choose another file name"
        )
    elif not create and not _has_studies(path):
        # Whoever only reads must not make tables in somebody's file.
        raise NothingStoredError(f"storage '{url}' has no experiment yet")


def network_mount(path: str | os.PathLike[str], mounts: Path) -> str | None:
    """Return the type of the network file system of `path`; None if it is local or unknown."""
    try:
        table = [line.split()[1:3] for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return None
    # Spaces and such are octal escapes there.
    places = {re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), at): kind for at, kind in table}
    here = Path(path).resolve()
    kind = next((places[str(p)] for p in (here, *here.parents) if str(p) in places), "")
    return kind if kind.removeprefix("fuse.") in _NETWORK else None


def connect_to_read(path: Path, **options: Any) -> sqlite3.Connection:
    """Open an SQLite file without making or changing anything; ``options`` are those of sqlite3.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection: sqlite3.Connection = sqlite3.connect(address, uri=True, **options)
    return connection


def has_table(path: Path, table: str) -> bool:
    """Return whether an SQLite file has a table.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with closing(connect_to_read(path)) as connection:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return connection.execute(query, (table,)).fetchone() is not None


def _has_studies(path: Path) -> bool:
    """Whether an SQLite file has Optuna's table of studies; true also if it cannot be read, since
    opening it reports the reason."""
    try:
        return has_table(path, "studies")
    except sqlite3.Error:
        return True


def _connect(
    shown: str, engine: dict[str, Any], url: str | None = None, *, create: bool = True
) -> RDBStorage:
    """`shown` stands for the URL in messages, `url` is used where it is another one."""
    deadline = time.monotonic() + _MAKING_SECONDS
    while True:
        try:
            if not create:
                looking = sqlalchemy.create_engine(url or shown, **engine)
                there = sqlalchemy.inspect(looking).has_table("studies")
                looking.dispose()
                if not there:
                    raise NothingStoredError(f"storage '{shown}' has no experiment yet")
            with quiet_optuna():
                storage = RDBStorage(url or shown, engine_kwargs=engine)
            watch(storage)
            return storage
        except ImportError as error:
            cause = error.__cause__ or error
            raise UserError(
                f"storage '{shown}': the database's Python driver is missing ({cause})"
            ) from None
        except RuntimeError as error:  # an older Optuna's tables: the message says what to run
            raise UserError(f"storage '{shown}': {message_of(error)}") from None
        except (OperationalError, IntegrityError, AssertionError, StorageInternalError) as error:
            # Two processes that make the tables of a new database at once: one of them fails,
            # and finds them made when it looks again.
            if time.monotonic() > deadline or _is_hopeless(error):
                raise UserError(f"storage '{shown}' cannot be opened: {_shown(error)}") from None
            time.sleep(0.1)
        except SQLAlchemyError as error:
            raise UserError(f"storage '{shown}' cannot be opened: {message_of(error)}") from None


def _connect_postgresql(url: str, parsed: sqlalchemy.engine.URL, create: bool) -> RDBStorage:
    """Connect under a lock, so that of many processes that start at once one creates the tables."""
    with needed(f"storage '{parsed}'"):
        import psycopg  # noqa: F401
    through = parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    # No connection stays open: a server has few of them, and one that was restarted forgets them.
    options: dict[str, Any] = {
        "poolclass": sqlalchemy.NullPool,
        "connect_args": {"connect_timeout": 20},
    }
    gate = sqlalchemy.create_engine(through, **options)
    try:
        with gate.connect() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_MAKING})"))
            return _connect(str(parsed), options, through, create=create)
    except SQLAlchemyError as error:
        raise UserError(f"storage '{parsed}' cannot be opened: {message_of(error)}") from None


def _serialize(engine: sqlalchemy.engine.Engine) -> None:
    """Serialize SQLite's transactions.

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
def readable_errors() -> Iterator[None]:
    """Raise database errors within the ``with`` block as one-line `UserError`."""
    try:
        yield
    except (StorageInternalError, DBAPIError) as error:
        raise UserError(f"the experiment's storage failed: {_shown(error)}") from None


P = ParamSpec("P")
T = TypeVar("T")


def patient(method: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method to be retried for two minutes while a database server is unreachable.

    The method must be idempotent: a call whose answer was lost may have succeeded.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return method(*args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not _is_lost(error) or time.monotonic() > deadline:
                    with readable_errors():
                        raise
            time.sleep(_PAUSE_SECONDS)

    return call


def _is_lost(error: BaseException) -> bool:
    """Whether the server could not be reached, in contrast to errors of the query."""
    cause = _cause(error)
    state = getattr(cause, "sqlstate", None)
    server = type(cause).__module__.partition(".")[0] not in ("sqlite3", "builtins", "sqlalchemy")
    # Classes 08 (connection) and 57 (shut down, starting up), and no answer at all.
    return (
        server
        and type(cause).__name__ != "ProgrammingError"
        and (state is None or state[:2] in ("08", "57"))
    )


def _is_hopeless(error: BaseException) -> bool:
    """Whether trying again will not help."""
    text = str(_cause(error))
    if "disk is full" in text or "readonly" in text or "unable to open" in text:
        return True
    return isinstance(error, OperationalError) and type(_cause(error)).__module__ != "sqlite3"


def _cause(error: BaseException) -> BaseException:
    """The database driver's own error."""
    while True:
        inner = getattr(error, "orig", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


_REMEDIES = {
    "disk is full": "make room on its disk, then run again: it goes on where it was",
    "No space left": "make room on the database's disk, then run again: it goes on where it was",
    "disk I/O error": "check its disk, then run again: it goes on where it was",
    "readonly database": "make the file and its folder writable, or copy it to a folder that is",
}


def _shown(error: BaseException) -> str:
    cause = error if isinstance(error, DBAPIError) else error.__cause__ or error
    text = message_of(cause)
    remedy = next((remedy for words, remedy in _REMEDIES.items() if words in text), None)
    return f"{text}; {remedy}" if remedy else text


def message_of(error: BaseException) -> str:
    """Return the message of a database error without the query and the address that follow it."""
    return one_line(str(error).split("\n[SQL")[0].split("\n(Background")[0])
