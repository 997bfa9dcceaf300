"""Changes of trials after they ended: deletions, corrected values, notes.

Optuna never changes an ended trial in a database, so each change is an attribute of the study and
is applied whenever trials are read. A deleted trial keeps its number and its data but is ignored.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.search.trials.trial import TrialRecord
from gossamer.settings import strip_prefix

# Attributes of a study. That of a deleted trial holds its fidelity, for the budget.
DELETED = "gossamer:deleted:"
_NOTE = "gossamer:note:"
_VALUE = "gossamer:corrected:"
EDITS = (DELETED, _NOTE, _VALUE)


def deleted_key(number: int) -> str:
    """Return the attribute that marks a trial as deleted."""
    return f"{DELETED}{number}"


def note_key(number: int) -> str:
    """Return the attribute of a trial's note."""
    return f"{_NOTE}{number}"


def value_key(number: int, name: str) -> str:
    """Return the attribute of a corrected value: a number, or (number, standard deviation)."""
    return f"{_VALUE}{number}:{name}"


@dataclass(frozen=True)
class Edits:
    """The changes of an experiment's trials, by number.

    Attributes:
        deleted: numbers of deleted trials.
        notes: free text with a trial.
        values: metric -> its corrected value, and standard deviation if it has one.
    """

    deleted: frozenset[int] = frozenset()
    notes: Mapping[int, str] = field(default_factory=dict)
    values: Mapping[int, Mapping[str, tuple[float, float | None]]] = field(default_factory=dict)

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> Edits:
        """From the attributes of a study."""
        values: defaultdict[int, dict[str, tuple[float, float | None]]] = defaultdict(dict)
        for key, stored in strip_prefix(attributes, _VALUE).items():
            number, _, name = key.partition(":")
            value, deviation = stored if isinstance(stored, list | tuple) else (stored, None)
            values[int(number)][name] = value, deviation
        notes = strip_prefix(attributes, _NOTE)
        return cls(
            frozenset(map(int, strip_prefix(attributes, DELETED))),
            {int(number): note for number, note in notes.items() if note},
            values,
        )

    def of(self, number: int) -> tuple[str | None, Mapping[str, tuple[float, float | None]]]:
        """Note and corrected values of a trial."""
        return self.notes.get(number), self.values.get(number, {})

    def apply(self, record: TrialRecord) -> TrialRecord:
        """Return the trial with its changes."""
        note, corrected = self.of(record.number)
        if note is None and not corrected:
            return record
        noise = {name: n for name, n in record.noise.items() if name not in corrected}
        noise |= {name: n for name, (_, n) in corrected.items() if n is not None}
        values = record.values | {name: value for name, (value, _) in corrected.items()}
        return dataclasses.replace(record, values=values, noise=noise, note=note)
