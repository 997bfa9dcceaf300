"""A trial as `train` receives it, and as it is remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["complete", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Trial:
    """A point to evaluate: its number in the experiment, and parameter name -> value."""

    number: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        number: counted from 0 in the order in which trials were first asked for.
        state: "complete"; "failed" (see `reason`); "running"; "waiting" (to be run again with
            the same parameters, because what ran it was stopped).
        parameters: name -> value.
        values: every finite number that was returned, metrics first.
        reason: one line on why it failed, else None.
        seconds: from being asked for to being told, None until then.
    """

    number: int
    state: State
    parameters: dict[str, Any]
    values: dict[str, float]
    reason: str | None
    seconds: float | None
