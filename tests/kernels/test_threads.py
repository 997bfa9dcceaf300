"""Threads that share a network's steps: each part once, in order, also where threads come late."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "src/gossamer/kernels"


@pytest.mark.no_sanitize  # it is compiled here, with the sanitizer of its own
@pytest.mark.parametrize("sanitizer", [None, "thread"])
def test_parts_are_computed_once_whoever_comes(tmp_path: Path, sanitizer: str | None) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler: threads are tried by the networks' tests alone")
    command = [compiler, "-std=c++20", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror"]
    command += [f"-fsanitize={sanitizer}"] if sanitizer else []
    command += [f"-I{KERNELS}", str(Path(__file__).with_name("stages.cpp"))]
    program = tmp_path / "stages"
    made = subprocess.run(
        [*command, str(KERNELS / "threads.cpp"), "-o", str(program)], capture_output=True, text=True
    )
    if made.returncode and sanitizer and "tsan" in made.stderr:
        pytest.skip("the compiler has no ThreadSanitizer: data races are not looked for")
    assert made.returncode == 0, made.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=120)
    if sanitizer and "unexpected memory mapping" in ran.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel: data races are not looked for")
    assert ran.returncode == 0, ran.stderr
