"""The importer and the engine on mutated files, in processes with little memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
PROCESSES = min(8, os.cpu_count() or 1)


@pytest.mark.no_sanitize
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")
@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 600),
        pytest.param(1000, 20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1500)]),
    ],
    ids=["quick", "long"],
)
def test_no_file_does_harm_or_computes_something_else(
    first: int, count: int, tmp_path: Path
) -> None:
    processes = 1 if count < 1000 else PROCESSES
    each = count // processes
    running = []
    for i in range(processes):
        folder = tmp_path / str(i)
        folder.mkdir()
        command = [sys.executable, str(FUZZ), str(first + i * each), str(each), str(folder)]
        log = (folder / "log").open("w")
        running.append((subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log), folder, log))
    results: Counter[str] = Counter()
    for process, folder, log in running:
        out, _ = process.communicate()
        log.close()
        assert process.returncode == 0, (folder / "log").read_text()[-3000:]
        results.update(json.loads(out))
    assert results.total() == each * processes
    assert 0.4 * count < results["refused"] < 0.95 * count  # it changes most, not beyond repair
    assert results["equal"] > 0.05 * count
    unexplained = results["near a tie of winners or codes"]
    assert unexplained < 0.002 * count + 2, results
