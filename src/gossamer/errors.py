"""The exception for a user's mistake, and suggestions for its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message says what is wrong, where, and how to fix it.

    The command line prints the message on one line and exits with status 2.
    """


def one_line(text: object) -> str:
    """Return a text, or an error's message, without line breaks and repeated spaces."""
    return " ".join(str(text).split())


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the error's type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the nearest known name, and the list of known names.

    >>> nearest("mnst", ["mnist", "spoken_words"])
    "did you mean 'mnist'? Known: mnist, spoken_words"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = "Known: " + ", ".join(names)
    return f"did you mean '{close[0]}'? {listed}" if close else listed
