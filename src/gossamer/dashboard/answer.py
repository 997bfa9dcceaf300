"""Answers to HTTP requests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus

from gossamer.dashboard.view import as_json

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """The body of a response, with the properties that its headers state."""

    body: bytes
    kind: str
    etag: str | None = None
    status: HTTPStatus = HTTPStatus.OK
    filename: str | None = None
    lasting: bool = False  # its address changes with its content
    foreign: bool = False  # a file written by a trial: no script in it may run


class Refused(Exception):
    """A request is refused; the message says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def etag_of(*parts: object) -> str:
    """Return an entity tag that changes with any of `parts`."""
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:20] + '"'


def wrong(status: HTTPStatus, message: str) -> Answer:
    """Return the answer for an error, as JSON for the page and other programs."""
    return Answer(as_json({"error": message}), JSON, status=status)
