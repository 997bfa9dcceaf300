"""optuna-dashboard in addition to the page, with an adapted storage and the same restrictions."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from gossamer.dashboard.hosts import HERE, is_here
from gossamer.extras import needed
from gossamer.search.trials.edits import Edits

# Optuna 5 stores each constraint under a separate key, but optuna-dashboard reads a list.
_WRITTEN, _READ = "constraints:", "constraints"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def with_constraint_list(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial with its constraints also as a list, in the order of their names."""
    attributes = trial._system_attrs
    names = sorted(key for key in attributes if key.startswith(_WRITTEN))
    if not names or _READ in attributes:
        return trial
    other = copy.copy(trial)
    other._system_attrs = {**attributes, _READ: [attributes[name] for name in names]}
    return other


def _passed_on(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return call


# A storage whose methods are those of another one.
_PASSED_ON = {name: _passed_on(name) for name in BaseStorage.__abstractmethods__}
_Passing: Any = type("_Passing", (BaseStorage,), _PASSED_ON)


class ConstraintsAsList(_Passing):  # type: ignore[misc]
    """A storage whose trials hold their constraints as optuna-dashboard reads them, without those
    that were deleted."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return with_constraint_list(self.inner.get_trial(trial_id))

    def get_all_trials(self, study_id: int, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        deleted = Edits.read(self.inner.get_study_user_attrs(study_id)).deleted
        trials = self.inner.get_all_trials(study_id, *args, **kwargs)
        return [with_constraint_list(trial) for trial in trials if trial.number not in deleted]


def guarded(application: Application, write: bool) -> Application:
    """Refuse requests to other host names and, without ``write``, requests that change data."""

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        host = environment.get("HTTP_HOST", "")
        origin = environment.get("HTTP_ORIGIN")
        reads = environment["REQUEST_METHOD"] in ("GET", "HEAD")
        foreign = origin is not None and origin != f"http://{host}"
        if is_here(host) and (reads or (write and not foreign)):
            return application(environment, start)
        status = HTTPStatus.FORBIDDEN
        start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
        return [b"refused: another host, or writing without --write\n"]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def optuna_dashboard(storage: BaseStorage, write: bool) -> Iterator[str]:
    """Serve optuna-dashboard at a free port within a ``with`` block, and yield its address.

    Raises:
        UserError: it is not installed.
    """
    with needed("--optuna"):
        from optuna_dashboard import wsgi
    application = guarded(wsgi(ConstraintsAsList(storage)), write)
    server = make_server(HERE, 0, application, _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, name="optuna-dashboard", daemon=True)
    thread.start()
    try:
        yield f"http://{HERE}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
