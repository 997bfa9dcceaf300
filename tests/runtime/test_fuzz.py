"""The reader on mutated files, in a process of its own with little memory and time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.mark.no_sanitize
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")
@pytest.mark.parametrize(
    ("first", "count"),
    [(0, 600), pytest.param(1000, 20_000, marks=pytest.mark.slow)],
    ids=["quick", "long"],
)
def test_no_file_does_harm(first: int, count: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZ), str(first), str(count), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused = int(done.stdout.split()[0])
    assert 0.5 * count < refused < count  # it changes most files, and not all beyond repair
