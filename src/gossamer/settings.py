"""Settings by name, of which a class takes its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Settings:
    """Base of a dataclass whose fields are settings."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Make it from those settings that are its own; ignore all others."""
        return cls(**{name: settings[name] for name in cls.names() if name in settings})


def strip_prefix(entries: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the entries whose names begin with ``prefix``, and remove it from the names."""
    return {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}


def below(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of single parts: ``name.part`` by the part's name."""
    return strip_prefix(settings, f"{name}.")
