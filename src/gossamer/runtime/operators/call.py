"""A node of an ONNX file as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One node of a file: an operator applied to values.

    Attributes:
        operator: its ONNX type, after the domain and a dot for other domains than ONNX's.
        name: of the node, for messages.
        inputs: names of values; "" for an optional input that is absent.
        outputs: names of values; "" for an output that is not used.
        attributes: by name, as Python values or arrays.
        graphs: its branches or loop body, by attribute; unparsed.
        names: maps names of outer values in the file to names here, where the two differ.
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
        """Return the name of an input, "" if it is absent."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return an attribute, ``default`` if the file does not set it."""
        return self.attributes.get(attribute, default)
