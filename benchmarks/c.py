"""Generated C of sparse networks and of the dense one: bytes and time.

Flash is code and constants, RAM is zeroed and initialized data, of the object file as gcc's
``size`` counts them on this machine's processor; time is the median over turns of the mean
time of a call, all programs interleaved in one process, on one thread.

    python benchmarks/c.py [--turns N] [--model FILE.onnx] [--out docs/results/c]

The speech network has random weights of the stated densities; its k-winners leave 9.5 / 12.5 /
10 % of the activations non-zero. ``--model`` adds a network of your own. Prints the page of
results; ``--out`` writes it, ``OUT.md``, and all digits, ``OUT.json``.
"""

from __future__ import annotations

import argparse
import ctypes
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
import networks
from results import write

from gossamer.runtime import machine
from gossamer.runtime.c.source import to_c
from gossamer.runtime.importer import read

NETWORKS = {
    "dense, ReLU": {},
    "5 % of weights, ReLU": {"density": 0.05},
    "5 % of weights, k-winners": {"density": 0.05, "winners": True},
    "10 % of weights, k-winners": {"density": 0.10, "winners": True},
    "dense, ReLU, 8 bits": {"int8": True},
    "5 % of weights, ReLU, 8 bits": {"density": 0.05, "int8": True},
    "5 % of weights, k-winners, 8 bits": {"density": 0.05, "winners": True, "int8": True},
}
LEVELS = ("-O2", "-Os")

ABOUT = """\
The speech network (2 convolutions of 64 channels, 1500 hidden units, 12 classes), random weights
of the stated densities; k-winners leave 9.5 / 12.5 / 10 % of the activations non-zero. Flash is
code and constants, RAM zeroed and initialized data, *counted* by `size` in the x86-64 object file;
times are *measured*; the ratios are to the dense network at the same level of optimization.
"""
NOTE = """\
k-winners need more RAM: the convolution after them accumulates all its outputs at once, any other
convolution one plane at a time.
"""


class Program:
    """A network's C, compiled; counted and called."""

    def __init__(self, name: str, model: bytes, level: str, folder: Path) -> None:
        self.name, self.level = name, level
        graph = read(model)
        source = folder / f"net{level}.c"
        source.write_text(to_c(graph, "net"), encoding="ascii")
        common = ["gcc", "-std=c99", level, str(source)]
        subprocess.run([*common, "-c", "-o", str(folder / "net.o")], check=True)
        sizes = subprocess.run(
            ["size", str(folder / "net.o")], check=True, capture_output=True, text=True
        ).stdout.split("\n")[1]
        text, data, bss = (int(field) for field in sizes.split()[:3])
        self.flash, self.ram = text + data, data + bss
        library = folder / "net.so"
        subprocess.run([*common, "-shared", "-fPIC", "-o", str(library), "-lm"], check=True)
        self.run = ctypes.CDLL(str(library)).net_run
        shapes = [graph.shapes[graph.inputs[0]], graph.shapes[graph.outputs[0]]]
        rng = np.random.default_rng(0)
        self.inputs = [rng.standard_normal(shapes[0]).astype(np.float32) for _ in range(8)]
        self.output = np.zeros(shapes[1], np.float32)
        self.times: list[float] = []

    def turn(self) -> None:
        out = ctypes.c_void_p(self.output.ctypes.data)
        started = time.process_time()
        for x in self.inputs:
            self.run(ctypes.c_void_p(x.ctypes.data), out)
        self.times.append((time.process_time() - started) / len(self.inputs))


def row(program: Program, programs: list[Program]) -> dict[str, Any]:
    """A program's bytes and time, and both over those of the dense one."""
    seconds = statistics.median(program.times)
    dense = next(p for p in programs if p.level == program.level)
    return {
        "network": program.name,
        "level": program.level,
        "flash_bytes": program.flash,
        "ram_bytes": program.ram,
        "milliseconds": 1e3 * seconds,
        "flash_ratio": program.flash / dense.flash,
        "ram_ratio": program.ram / dense.ram,
        "time_ratio": seconds / statistics.median(dense.times),
    }


def page(result: dict[str, Any]) -> str:
    lines = [
        "# Generated C of sparse and dense networks",
        "",
        f"    {result['command']}",
        "",
        f"{result['machine']}; {result['gcc']}; one thread, processor time, median of "
        f"{result['turns']} turns.",
        "",
        ABOUT,
        "| network | gcc | flash | RAM | time | of dense: flash | RAM | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['network']} | {row['level']} | {row['flash_bytes']:,} "
            f"| {row['ram_bytes']:,} | {row['milliseconds']:.2f} ms "
            f"| {row['flash_ratio']:.3f} | {row['ram_ratio']:.2f} | {row['time_ratio']:.3f} |"
        )
    return "\n".join([*lines, "", NOTE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    models = {name: networks.speech_cnn(**settings) for name, settings in NETWORKS.items()}
    if arguments.model:
        models[arguments.model.name] = arguments.model.read_bytes()
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        for level in LEVELS:
            for i, (name, model) in enumerate(models.items()):
                place = Path(folder) / f"{i}{level}"
                place.mkdir()
                programs.append(Program(name, model, level, place))
        for _ in range(arguments.turns):
            for program in programs:
                program.turn()
    gcc = subprocess.run(["gcc", "--version"], check=True, capture_output=True, text=True).stdout
    result = {
        "command": "python " + shlex.join(sys.argv),
        "machine": machine(),
        "gcc": gcc.splitlines()[0],
        "turns": arguments.turns,
        "rows": [row(program, programs) for program in programs],
    }
    text = page(result)
    print(text)
    if arguments.out:
        write(arguments.out, result, text)


if __name__ == "__main__":
    main()
