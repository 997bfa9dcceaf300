"""The protocol of importers, which read the trials of another tool."""

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
        where: its place in the source, for messages: "line 5", "trial 3".
        source: a permanent identifier, so that it is imported only once.
        state: "complete", "failed" or "stopped"; trials in other states are left out.
        parameters: name -> value; numbers may be texts.
        values: name -> number, or a pair of it and its standard deviation; numbers may be texts.
        reason: why it failed or was stopped.
        seconds: its duration.
        fidelity: the cheaper task that it is of; None for the full one.
    """

    where: str
    source: str
    state: State
    parameters: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    seconds: float | None = None
    fidelity: str | None = None


class Importer(Protocol):
    """An importer of one tool's trials."""

    def recognizes(self, source: str) -> bool:
        """Return whether `source`, a path or an address, is of this tool; it need not exist."""

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        """Read all trials.

        Args:
            source: a path or an address.
            study: name of the study, if the source has several.

        Raises:
            UserError: the source cannot be read; the message names the place.
        """


# The tools' names of states, in lower case.
_STATES: dict[str, State] = {
    **dict.fromkeys(("complete", "completed", "finished", "success", "succeeded"), "complete"),
    **dict.fromkeys(("failed", "fail", "failure", "error", "crashed", "abandoned"), "failed"),
    **dict.fromkeys(("stopped", "pruned", "killed", "early_stopped"), "stopped"),
    **dict.fromkeys(("running", "pending", "staged", "unfinished", "preempting"), "running"),
    **dict.fromkeys(("waiting", "candidate", "scheduled", "preempted"), "waiting"),
}


def read_state(text: str, where: str) -> State:
    """Return the state that a tool calls `text`.

    Raises:
        UserError: an unknown state.
    """
    state = _STATES.get(text.strip().lower())
    if state is None:
        raise UserError(f"{where}: unknown state '{text}'; {nearest(text.lower(), _STATES)}")
    return state


def start_of_json(source: str) -> bytes:
    """Return the beginning of a JSON file, by which a tool is recognized; empty for all else."""
    path = Path(source)
    if path.suffix.lower() != ".json" or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4000)


def read_json(path: Path) -> Any:
    """Read a JSON file.

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
    """Return the study to import: the named one, or the only one.

    Raises:
        UserError: no such study, or several and no name.
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
