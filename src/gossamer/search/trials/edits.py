"""Changes of trials after they ended: deleted ones, corrected values, notes.

Databases of Optuna never change a trial that has ended, so changes are attributes of the study, one
for each, and are applied whenever trials are read. A deleted trial keeps its number and its data;
it only counts no more.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.search.trials.trial import TrialRecord

# Attributes of a study. That of a deleted trial holds its fidelity, for the budget.
DELETED = "gossamer:deleted:"
_NOTE = "gossamer:note:"
_VALUE = "gossamer:corrected:"
EDITS = (DELETED, _NOTE, _VALUE)


def deleted_key(number: int) -> str:
    """The attribute that says that a trial is deleted."""
    return f"{DELETED}{number}"


def note_key(number: int) -> str:
    """The attribute that holds a trial's note."""
    return f"{_NOTE}{number}"


def value_key(number: int, name: str) -> str:
    """The attribute that holds a corrected value: the number, or it and its deviation."""
    return f"{_VALUE}{number}:{name}"


@dataclass(frozen=True)
class Edits:
    """The changes of an experiment's trials, by number.

    Attributes:
        deleted: trials that count no more.
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
        for key, stored in attributes.items():
            if key.startswith(_VALUE):
                number, _, name = key.removeprefix(_VALUE).partition(":")
                value, deviation = stored if isinstance(stored, list | tuple) else (stored, None)
                values[int(number)][name] = value, deviation
        return cls(
            frozenset(
                int(key.removeprefix(DELETED)) for key in attributes if key.startswith(DELETED)
            ),
            {
                int(key.removeprefix(_NOTE)): note
                for key, note in attributes.items()
                if key.startswith(_NOTE) and note
            },
            values,
        )

    def of(self, number: int) -> tuple[str | None, Mapping[str, tuple[float, float | None]]]:
        """Note and corrected values of a trial."""
        return self.notes.get(number), self.values.get(number, {})

    def apply(self, record: TrialRecord) -> TrialRecord:
        """The trial with what was changed of it."""
        note, corrected = self.of(record.number)
        if note is None and not corrected:
            return record
        noise = {name: n for name, n in record.noise.items() if name not in corrected}
        noise |= {name: n for name, (_, n) in corrected.items() if n is not None}
        values = record.values | {name: value for name, (value, _) in corrected.items()}
        return dataclasses.replace(record, values=values, noise=noise, note=note)
