"""The channel for reports: worker processes send them, the process of the search answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from gossamer.errors import UserError
from gossamer.search.metrics import as_numbers
from gossamer.search.trials.trial import Reporter

# (trial, step, values, of) -> why it is to stop, None to go on.
Receive = Callable[[int, int, Mapping[str, Any], int | None], str | None]
# Reason to stop the trial, error of the report; each None if there is none.
Answer = tuple[str | None, str | None]


class ReportServer:
    """Answers the reports of this machine's worker processes until closed.

    Each worker opens one connection to a local socket, which only this user can open and which
    requires `key`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.key = os.urandom(32)
        self._listener = Listener(authkey=self.key)
        self.address = self._listener.address
        threading.Thread(target=self._accept, name="gossamer-reports", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except Exception:  # closed; or a caller without the key, or that died while calling
                if self._is_closed():
                    return
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _is_closed(self) -> bool:
        return getattr(self._listener, "_listener", None) is None

    def _serve(self, connection: Connection) -> None:
        with suppress(EOFError, OSError), connection:
            while True:
                connection.send(answer(self._receive, *connection.recv()))


def answer(
    receive: Receive, number: int, step: int, values: Mapping[str, Any], of: int | None
) -> Answer:
    """Receive a report."""
    try:
        return receive(number, step, values, of), None
    except UserError as error:
        return None, str(error)


def reporter(number: int, ask: Callable[[tuple[Any, ...]], Answer]) -> Reporter:
    """Return the reporter of trial `number`; `ask` passes a call of `Receive` on to `answer`."""

    def report(step: int, values: Mapping[str, Any], of: int | None) -> str | None:
        reason, wrong = ask((number, step, as_numbers(values), of))
        if wrong is not None:
            raise UserError(wrong)
        return reason

    return report


class ReportClient:
    """The client of a `ReportServer` in a worker process; connects at the first report."""

    def __init__(self, address: Any, key: bytes) -> None:
        self._address = address
        self._key = key
        self._connection: Connection | None = None

    def ask(self, call: tuple[Any, ...]) -> Answer:
        """Send a report and return its answer."""
        if self._connection is None:
            self._connection = Client(self._address, authkey=self._key)
        self._connection.send(call)
        answered: Answer = self._connection.recv()
        return answered
