"""Answer to a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus

from gossamer.dashboard.view import as_json

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """The body of a response, and what its headers say of it."""

    body: bytes
    kind: str
    etag: str | None = None
    status: HTTPStatus = HTTPStatus.OK
    filename: str | None = None
    lasting: bool = False  # its address changes with its content
    foreign: bool = False  # whatever a trial wrote: nothing in it may run


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def etag_of(*parts: object) -> str:
    """An entity tag that changes with any of `parts`."""
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:20] + '"'


def wrong(status: HTTPStatus, message: str) -> Answer:
    """An error, as the page and other programs read it."""
    return Answer(as_json({"error": message}), JSON, status=status)
