"""Options and arguments of the form NAME=VALUE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from gossamer.errors import UserError

_T = TypeVar("_T")


def pairs(
    option: str,
    texts: Sequence[str] | None,
    form: str,
    read: Callable[[str], _T],
    split: Callable[[str, str], tuple[str, str, str]] = str.partition,
) -> dict[str, _T]:
    """Return the values by name.

    Args:
        option: as typed, the beginning of error messages.
        texts: each a name and a value.
        form: how to write one, for the messages.
        read: reads a value; raises ``ValueError`` for one that is none, or a ``UserError`` that
            says why.
        split: ``str.rpartition`` where a name may contain ``=`` and no value does.

    Raises:
        UserError: no ``=``, no name, a value that is none, or the same name twice.
    """
    values: dict[str, _T] = {}
    for text in texts or ():
        name, sign, value = split(text, "=")
        name = name.strip()
        if name in values:
            raise UserError(f"{option} {name} appears twice; remove one")
        try:
            if not sign or not name:
                raise ValueError
            values[name] = read(value)
        except ValueError as error:
            remedy = error if isinstance(error, UserError) else f"write it as {form}"
            raise UserError(f"{option} {text}: {remedy}") from None
    return values
