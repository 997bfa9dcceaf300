"""Seconds of a training by part."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds of wall time by part; each lap counts for the part that it names."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last lap for ``part``."""
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now
