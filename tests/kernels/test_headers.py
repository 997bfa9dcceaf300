"""Every header of the kernels compiles alone, as an editor reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HEADERS = sorted((Path(__file__).parents[2] / "src/gossamer/kernels").glob("*.h"))
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS or [pytest.param("", marks=pytest.mark.skip)])
def test_headers_are_self_contained(compiler: str) -> None:
    assert len(HEADERS) > 15
    for header in HEADERS:
        command = [compiler, "-std=c++20", "-x", "c++", "-fsyntax-only", "-w", str(header)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
