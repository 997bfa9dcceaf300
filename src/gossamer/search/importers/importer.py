"""An importer: reads the trials that another tool made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gossamer.errors import UserError, nearest
from gossamer.files import read_bytes
from gossamer.search.trials.trial import State


@dataclass(frozen=True)
class OtherTrial:
    """A trial of another tool.

    Attributes:
        where: it is, as a message begins: "line 5", "trial 3".
        source: its name for ever, by which it is imported only once.
        state: "complete", "failed" or "stopped"; others have not ended and are left out.
        parameters: name -> value; numbers may be texts.
        values: name -> number, or a pair of it and its standard deviation; numbers may be texts.
        reason: why it failed or was stopped.
        seconds: that it took.
    """

    where: str
    source: str
    state: State
    parameters: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    seconds: float | None = None


class Importer(Protocol):
    """Reads one tool's trials."""

    def recognizes(self, source: str) -> bool:
        """Whether `source`, a path or an address, is of this tool; it may not exist."""

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        """All trials.

        Args:
            source: a path or an address.
            study: which one, where the source has several.

        Raises:
            UserError: it cannot be read, with the place in it.
        """


# As the tools call them, in small letters.
_STATES: dict[str, State] = {
    **dict.fromkeys(("complete", "completed", "finished", "success", "succeeded"), "complete"),
    **dict.fromkeys(("failed", "fail", "failure", "error", "crashed", "abandoned"), "failed"),
    **dict.fromkeys(("stopped", "pruned", "killed", "early_stopped"), "stopped"),
    **dict.fromkeys(("running", "pending", "staged", "unfinished", "preempting"), "running"),
    **dict.fromkeys(("waiting", "candidate", "scheduled", "preempted"), "waiting"),
}


def read_state(text: str, where: str) -> State:
    """The state that a tool calls `text`.

    Raises:
        UserError: an unknown one.
    """
    state = _STATES.get(text.strip().lower())
    if state is None:
        raise UserError(f"{where}: unknown state '{text}'; {nearest(text.lower(), _STATES)}")
    return state


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read, or is no JSON; the message names the line.
    """
    content = read_bytes(path)
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {error.lineno}: no JSON ({error.msg}); export it again"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is no JSON file; export it again") from None


def choose(kind: str, source: str, names: Sequence[str], study: str | None) -> str:
    """The study that is meant.

    Raises:
        UserError: there is none, or several and no name.
    """
    if not names:
        raise UserError(f"{source} has no {kind}; check the name")
    if study is None and len(names) > 1:
        listed = ", ".join(sorted(names))
        raise UserError(f"{source} has several: {listed}; choose one with --study")
    chosen = names[0] if study is None else study
    if chosen not in names:
        raise UserError(f"{source} has no {kind} '{chosen}'; {nearest(chosen, names)}")
    return chosen
