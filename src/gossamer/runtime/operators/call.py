"""A node of a file as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One node of a file: an operator applied to values.

    ``graphs`` are those of the file that it may run, which are parsed where they are; ``names``
    are what the values around it are called in the file and here, where these differ.
    """

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: Attributes
    graphs: dict[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"node {self.name!r} ({self.operator})"

    @property
    def value(self) -> str:
        """Its first input."""
        return self.inputs[0]

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    def optional(self, position: int) -> str:
        """An input, "" where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute, ``default`` where the file does not set it."""
        return self.attributes.get(attribute, default)
