"""The plan of a network: the chosen kernels, and the file that stores them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gossamer.errors import UserError
from gossamer.files import is_stream, write_text
from gossamer.runtime.graph import Graph
from gossamer.runtime.machine import machine

CHUNKS = (2, 8, 16, 32)
VERSION = 19


@dataclass
class Plan:
    """The chosen candidates for one network on one machine."""

    machine: str
    isa: str
    network: str
    single: dict[str, str] = field(default_factory=dict)
    batched: dict[str, str] = field(default_factory=dict)
    chunk: int = 8
    smallest_batch: int = 2  # smaller batches go through "single", example by example
    # Threads -> steps of "single" that one of them computes alone, where they have one example.
    single_threaded: dict[str, list[int]] = field(default_factory=dict)
    densities: dict[str, float] = field(default_factory=dict)
    measured_ns: dict[str, dict[str, float]] = field(default_factory=dict)
    version: int = VERSION

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(
        path: str | os.PathLike[str], graph: Graph, isa: str
    ) -> tuple[Plan | None, str | None]:
        """Return (plan, None), or (None, why the plan in the file cannot be used).

        Both are None if there is no plan.

        Raises:
            UserError: the file contains something else, which a new plan would overwrite.
        """
        if is_stream(path):  # takes the plan, gives none
            return None, None
        try:
            text = Path(path).read_text()
            stored = json.loads(text) if text else None
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError:
            raise UserError(f"{path}: not a plan (not JSON); name another file") from None
        if stored is None:
            return None, None
        if not isinstance(stored, dict) or not {"version", "network"} <= set(stored):
            raise UserError(f"{path}: not a plan, though JSON; name another file")
        try:
            plan = Plan(**stored)
        except TypeError:
            return None, "is of another version of gossamer"
        for name, theirs, ours in (
            ("another version of gossamer", plan.version, VERSION),
            (f"another machine ({plan.machine})", plan.machine, machine()),
            (f"another instruction set ({plan.isa})", plan.isa, isa),
            ("another network", plan.network, graph.fingerprint()),
        ):
            if theirs != ours:
                return None, f"was made for {name}"
        return (plan, None) if plan._sound() else (None, "is damaged")

    def _sound(self) -> bool:
        """Return whether the fields hold what a plan can; a chunk below one would never end."""
        choices = [*self.single.items(), *self.batched.items()] if self._dicts() else None
        return (
            choices is not None
            and all(isinstance(text, str) for choice in choices for text in choice)
            and all(type(size) is int and size > 0 for size in (self.chunk, self.smallest_batch))
            and self.chunk <= max(CHUNKS)
            and all(isinstance(steps, list) for steps in self.single_threaded.values())
            and all(
                isinstance(share, int | float) and 0 <= share <= 1
                for share in self.densities.values()
            )
        )

    def _dicts(self) -> bool:
        fields = (self.single, self.batched, self.single_threaded, self.densities)
        return all(isinstance(field, dict) for field in fields)
