"""Compiles what ``to_c`` writes, with every warning an error, and calls it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from gossamer.runtime.c.source import to_c
from gossamer.runtime.importer import read

STRICT = (
    "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow",
    "-Wmissing-prototypes",
)  # fmt: skip
GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc to compile the C with")


def compile_c(text: str, target: Path, *options: str) -> None:
    source = target.with_suffix(".c")
    source.write_text(text, encoding="ascii")
    done = subprocess.run(
        [str(GCC), *STRICT, *options, str(source), "-o", str(target), "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run_c(model: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of each example of the inputs, one call each."""
    graph = read(model)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "net.so"
        compile_c(to_c(graph, "net"), library, "-O1", "-shared", "-fPIC")
        run = ctypes.CDLL(str(library)).net_run
        sizes = [graph.shapes[value] for value in graph.outputs]
        count = len(inputs[0]) // graph.shapes[graph.inputs[0]][0]
        found: list[list[np.ndarray]] = [[] for _ in sizes]
        for i in range(count):
            given = []
            for value, x in zip(graph.inputs, inputs, strict=True):
                items = graph.shapes[value][0]
                given.append(np.ascontiguousarray(x[i * items : (i + 1) * items]))
            made = [np.full(shape, np.nan, np.float32) for shape in sizes]
            run(*(ctypes.c_void_p(array.ctypes.data) for array in (*given, *made)))
            for outputs, each in zip(found, made, strict=True):
                outputs.append(each)
        return [np.concatenate(outputs) for outputs in found]
