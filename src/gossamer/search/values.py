"""What a parameter may be: names, numbers, texts, and conditions on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gossamer.errors import UserError

Value = float | int | str | bool | None


def check_name(name: object, kind: str) -> None:
    """Raise `UserError` unless `name` can name a parameter or a metric."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"a {kind}'s name must be a text that is not empty, not {name!r}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number (True and False are not)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def check_whole(what: str, value: object, least: int) -> None:
    """Raise `UserError` unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{what} must be a whole number of at least {least}, not {value!r}")


def check_when(where: str, when: object) -> dict[str, tuple[Value, ...]]:
    """`when` with every value in a tuple."""
    if not isinstance(when, Mapping):
        raise UserError(f"{where}: when must map parameters to their values, not {when!r}")
    checked: dict[str, tuple[Value, ...]] = {}
    for name, values in when.items():
        check_name(name, "parameter")
        listed = isinstance(values, Sequence) and not isinstance(values, str)
        checked[name] = tuple(values) if listed else (values,)
        if not checked[name]:
            raise UserError(f"{where}: when '{name}' has no values; it would never be used")
    return checked
