"""Checks of arguments: names, numbers, texts, lists, and conditions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.errors import UserError
from gossamer.numbers import item

Value = float | int | str | bool | None


def plain(value: Any) -> Any:
    """`value` in Python's own types: numpy's and torch's scalars as numbers, arrays as lists."""
    if callable(tolist := getattr(value, "tolist", None)):
        return item(value) if getattr(value, "shape", None) == () else tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def make_plain(instance: Any) -> None:
    """Replace every field of a frozen dataclass by its `plain` value."""
    for field in dataclasses.fields(instance):
        object.__setattr__(instance, field.name, plain(getattr(instance, field.name)))


def check_name(name: object, kind: str) -> None:
    """Raise `UserError` unless `name` can name a parameter or a metric."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"the {kind}'s name must be a text that is not empty, not {name!r}")


def is_number(value: object) -> bool:
    """Whether `value` is a number that a double can hold (True, False and NaN are not)."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def check_minutes(minutes: object) -> float | None:
    """A limit in minutes, or None for none.

    Raises:
        UserError: it is neither None nor a finite number above 0.
    """
    if minutes is None:
        return None
    if not is_number(minutes) or not float(minutes) > 0:  # type: ignore[arg-type]
        raise UserError(f"minutes must be a number above 0, not {minutes!r}")
    return float(minutes)  # type: ignore[arg-type]


def check_list(what: str, values: object, kind: type | tuple[type, ...], example: str) -> list[Any]:
    """`values` as a list.

    Raises:
        UserError: unless all of them are of `kind`, which `example` shows.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise UserError(f"{what} must be a list, such as [{example}], not {values!r}")
    for value in values:
        if not isinstance(value, kind):
            raise UserError(f"{what} must be a list such as [{example}]; {value!r} does not fit")
    return list(values)


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
