"""The portable kernels on another processor: programs recorded here, run in an emulator.

The lowered networks are written to files, with inputs and outputs; ``replay.cpp`` and the kernels
are compiled for aarch64, and run the files under qemu.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

from gossamer.kernels import _kernels
from gossamer.runtime import program
from gossamer.runtime.constants import Quantized
from gossamer.runtime.examples import synthetic
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import read
from gossamer.runtime.lowered import lower
from gossamer.runtime.lowering import Lowering

KERNELS = Path(__file__).parents[2] / "src/gossamer/kernels"
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


class Recorder:
    """A ``Program`` that also writes down what it is made of."""

    def __init__(self, threads: int, chunk: int) -> None:
        self.program = _kernels.Program(threads, chunk)
        self.head = self.number(threads, chunk)
        self.slots: list[bytes] = []
        self.steps: list[bytes] = []

    @staticmethod
    def number(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}q", *values)

    def numbers(self, values: Any) -> bytes:
        return self.number(len(values), *values)

    def raw(self, array: networks.Array) -> bytes:
        return self.number(array.nbytes) + array.tobytes()

    def slot(self, floats: int, position: int) -> int:
        self.slots.append(self.number(floats, position))
        return self.program.slot(floats, position)

    def add(self, kernel, inputs, outputs, shape, data, scratch, items) -> None:  # type: ignore[no-untyped-def]
        arrays = self.number(len(data)) + b"".join(map(self.raw, data))
        lists = b"".join(map(self.numbers, (inputs, outputs, shape)))
        self.steps.append(self.number(kernel) + lists + arrays + self.number(scratch, items))
        self.program.add(kernel, inputs, outputs, shape, data, scratch, items)

    def finish(self, inputs, outputs, *shapes) -> None:  # type: ignore[no-untyped-def]
        self.ends = self.numbers(inputs) + self.numbers(outputs)
        self.program.finish(inputs, outputs, *shapes)

    def recorded(self, inputs: list[networks.Array], examples: int) -> bytes:
        found = self.program.run(inputs, False)
        outputs = found if isinstance(found, list) else [found]
        lists = [self.number(len(part)) + b"".join(part) for part in (self.slots, self.steps)]
        values = b"".join(map(self.raw, [*inputs, *outputs]))
        return self.head + b"".join(lists) + self.ends + self.number(examples) + values


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [tool for tool in (COMPILER, EMULATOR) if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: aarch64 is not tried")
    program = tmp_path_factory.mktemp("replay") / "replay"
    sources = [KERNELS / f"{name}.cpp" for name in ("program", "threads", "isa")]
    options = ("-std=c++20", "-O2", "-ffp-contract=fast", "-static", "-Wall", "-Wextra", "-Werror")
    options += ("-Wno-psabi", "-pthread", "-DGOSSAMER_TABLE=portable_table")
    subprocess.run(
        [COMPILER, *options, "-I", str(KERNELS), "-o", str(program)]
        + [str(source) for source in [Path(__file__).with_name("replay.cpp"), *sources]],
        check=True,
    )
    return program


def in_int8(graph: Graph) -> Graph:
    """Rounds the weights to int8, with a step for each output."""
    for node in graph.nodes:
        if node.op in ("conv", "linear"):
            weight = node.constants["weight"]
            step = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
            wide = step.reshape(-1, *[1] * (weight.ndim - 1))
            node.store["weight"] = Quantized(np.rint(weight / wide).astype(np.int8), wide)
    return graph


def programs(graph: Graph, many: bool) -> Iterator[dict[str, str]]:
    """Choices with every candidate of every node."""
    lowering = Lowering(graph, "portable", batched=many, every=True)
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        yield from ({node.output: candidate.name} for candidate in candidates[1:])
        candidates[0].emit()
    yield {}


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_every_candidate_computes_the_same_on_aarch64(
    replay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool
) -> None:
    monkeypatch.setattr(program, "Program", Recorder)
    graph = read(networks.speech_cnn(0.1, winners=True, width=16, hidden=50))
    graph = in_int8(graph) if int8 else graph
    operations, files = set(), []
    for many in (False, True):
        examples = 5 if many else 1
        x = [values.astype(np.float32) for values in synthetic(graph, examples)]
        for choices in programs(graph, many):
            lowered = lower(graph, "portable", choices, batched=many, every=True)
            shapes = ([graph.shapes[v] for v in names] for names in (graph.inputs, graph.outputs))
            recorder: Any = program.assemble(*lowered, *shapes, chunk=4 if many else 1)
            operations |= {step.kernel.operation for step in lowered[0]}
            files.append(tmp_path / f"{len(files)}-{'-'.join(choices.values()).replace(' ', '-')}")
            files[-1].write_bytes(recorder.recorded(x, examples))
    command = [EMULATOR, str(replay), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == len(files)
    kind = " int8" if int8 else ""
    layouts = ("gemm", "sparse gemm", "planes", "examples", "columns", "lanes", "active")
    wanted = {f"{name}{kind}" for name in layouts}
    assert wanted <= operations
