"""Common parts of benchmarks: a result as its page and, with all digits, as JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gossamer.files import write_text

BATCHES = (1, 64)  # examples at a time


def write(out: Path, result: Any, page: str) -> None:
    """``OUT.json`` and ``OUT.md``; the folder is made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    write_text(out.with_suffix(".md"), page)
