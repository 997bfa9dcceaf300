"""gossamer finds, trains and runs sparse neural networks.

Public names are resolved when first used, so that importing ``gossamer.runtime``
needs neither torch nor any other part.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_PUBLIC: dict[str, str] = {}

_ROOMS = ("sparsity", "nn", "models", "data", "training", "search", "runtime", "report", "cli")

__all__ = [*_PUBLIC, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"gossamer.{name}")
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
