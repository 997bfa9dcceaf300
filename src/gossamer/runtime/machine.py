"""Description of the machine, for measured figures."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from gossamer.kernels.registry import ISAS


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Return processor, usable cores and widest instruction set as one line.

    Every measured figure names its machine with this line.
    """
    return f"{_processor()}, {usable_cores()} cores, {ISAS[-1]}, {platform.system()}"
