"""Parsing of thresholds in requests."""

from __future__ import annotations

import json
import urllib.parse

from gossamer.errors import UserError
from gossamer.numbers import digits


def thresholds_asked(query: str) -> dict[str, float | None]:
    """Parse a query such as ``threshold.accuracy=0.9&threshold.density=``.

    An empty value means no threshold.

    Raises:
        UserError: a value that is no number, or another key.
    """
    thresholds: dict[str, float | None] = {}
    for key, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
        name = key.removeprefix("threshold.")
        if name == key:
            raise UserError(f"unknown key '{key}' in the address; known: threshold.METRIC")
        try:
            thresholds[name] = float(digits(text)) if text.strip() else None
        except ValueError:
            raise UserError(f"threshold of '{name}' must be a number, not '{text}'") from None
    return thresholds


def thresholds_sent(body: bytes) -> dict[str, float | None]:
    """Parse a JSON object of metric names to numbers or null.

    Raises:
        UserError: the body is something else.
    """
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("the body is not JSON; send an object of metric to threshold") from None
    if not isinstance(sent, dict) or not sent:
        raise UserError("send a JSON object of metric to threshold, with at least one")
    return sent
