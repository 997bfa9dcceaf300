"""The runtime beside onnxruntime, openvino and torch: every figure from one process.

All contestants of a case take turns of some ten milliseconds. On one thread the time is
the processor time of the process, which other programs on the machine hardly disturb; on
several it is the clock on the wall, and a turn before or after which a probe (a fixed piece
of work) was slow is thrown away. Printed is the median over the turns of the mean time of a
call, with the ratio to the fastest dense peer. Inputs change from call to call, so that no
branch predictor learns an example by heart.

    python benchmarks/runtime.py [--cases NAME ...] [--turns N] [--threads N] [--json FILE]

Weights are random with the densities named; k-winners keep 9.5 / 12.5 / 10 % in the speech
network, 10 % elsewhere. torch runs its own modules (channels-last convolutions would not
change the ranking); openvino and torch are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
import networks  # the same networks as in the tests
from networks import Builder, sparse

from gossamer.runtime import Engine, machine

Array = np.ndarray[Any, Any]
Call = Callable[[Array], Any]


@dataclass
class Case:
    """Ours against dense peers, on one input shape."""

    name: str
    ours: bytes
    dense: bytes  # the network that the dense peers run
    shape: tuple[int, ...]
    goal: str = ""
    torch: Callable[[], Any] | None = None
    positive: float = 1.0  # share of the inputs that are not zero
    others: dict[str, bytes] = field(default_factory=dict)


def linear(outputs: int, inputs: int, density: float, winners: int = 0, block: int = 1) -> bytes:
    """One linear layer, behind k-winners over its inputs if asked."""
    b = Builder(inputs)
    if winners:
        b.winners(winners, (inputs,))
    weight = sparse(np.random.default_rng(0), outputs, inputs, density=density, block=block)
    b.add("Gemm", b.last, weight, np.zeros(outputs, np.float32), transB=1)
    return b.model()


def feed_forward(density: float, winners: int, block: int = 1) -> bytes:
    """768 -> 3072 -> 768 with ReLU or k-winners between."""
    rng = np.random.default_rng(0)
    b = Builder(768)
    b.add("Gemm", "x", sparse(rng, 3072, 768, density=density, block=block),
          np.zeros(3072, np.float32), transB=1)  # fmt: skip
    b.winners(winners, (3072,)) if winners else b.add("Relu", b.last)
    b.add("Gemm", b.last, sparse(rng, 768, 3072, density=density, block=block),
          np.zeros(768, np.float32), transB=1)  # fmt: skip
    return b.model()


def convolution(density: float, winners: int, block: int = 1) -> bytes:
    """64 -> 64 channels, 5 x 5, on 14 x 14."""
    b = Builder(64, 14, 14)
    if winners:
        b.winners(winners, (64, 14, 14))
    weight = sparse(np.random.default_rng(0), 64, 64, 5, 5, density=density, block=block)
    b.add("Conv", b.last, weight, np.zeros(64, np.float32))
    return b.model()


def trivial() -> bytes:
    b = Builder(4)
    b.add("Relu", "x")
    return b.model()


def cases() -> dict[str, Case]:
    dense = networks.speech_cnn()
    found: dict[str, Case] = {}
    for batch, goal, relu_goal in ((1, "8x / 15x", "5.4x / 11x"), (64, "6x / 12x", "5.4x / 8x")):
        shape = (batch, 1, 32, 32)
        for block in (1, 16):
            pattern = "unstructured" if block == 1 else "blocks of 16"
            ours = networks.speech_cnn(0.05, winners=True, block=block)
            name = f"speech 95 % weights, 10 % winners, {pattern}, batch {batch}"
            others = {"onnxruntime, k-winners": networks.speech_cnn(winners=True)}
            found[name] = Case(name, ours, dense, shape, goal, _speech, others=others)
        name = f"speech 95 % weights, ReLU, unstructured, batch {batch}"
        found[name] = Case(name, networks.speech_cnn(0.05), dense, shape, relu_goal, _speech)
        name = f"speech dense, ReLU, batch {batch}"
        found[name] = Case(name, dense, dense, shape, "0.8x / 1x", _speech)
    for block in (1, 16):
        pattern = "unstructured" if block == 1 else "blocks of 16"
        name = f"linear 1600 -> 1500, 95 %, 160 active, {pattern}, batch 1"
        found[name] = Case(name, linear(1500, 1600, 0.05, 160, block), linear(1500, 1600, 1.0),
                           (1, 1600), "30x / 80x")  # fmt: skip
        name = f"feed-forward 768 -> 3072 -> 768, 90 %, 307 winners, {pattern}, batch 1"
        found[name] = Case(name, feed_forward(0.1, 307, block), feed_forward(1.0, 0), (1, 768),
                           "12x / 25x")  # fmt: skip
        name = f"convolution 64 -> 64 5x5, 90 %, 1254 active, {pattern}, batch 1"
        found[name] = Case(name, convolution(0.1, 1254, block), convolution(1.0, 0),
                           (1, 64, 14, 14), "12x / 25x")  # fmt: skip
    found["call floor"] = Case("call floor", trivial(), trivial(), (1, 4), "3 us / 1 us")
    return found


def _speech() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 64, 5), nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(64, 64, 5), nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(1600, 1500), nn.BatchNorm1d(1500), nn.ReLU(), nn.Linear(1500, 12),
    ).eval()  # fmt: skip


def _onnxruntime(model: bytes, threads: int) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, networks.session_options(threads))
    return lambda x: session.run(None, {"x": x})


def _openvino(model: bytes, threads: int) -> Call | None:
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32"}  # fmt: skip
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda x: request.infer({0: x}, share_inputs=True)


def _torch(make: Callable[[], Any], threads: int) -> Call | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    module = make()

    def call(x: Array) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(x))

    return call


def contestants(case: Case, threads: int) -> dict[str, Call]:
    found: dict[str, Call | None] = {
        "gossamer": Engine(case.ours, threads=threads),
        "onnxruntime": _onnxruntime(case.dense, threads),
        "openvino": _openvino(case.dense, threads),
    }
    if case.torch is not None:
        found["torch"] = _torch(case.torch, threads)
    for name, model in case.others.items():
        found[name] = _onnxruntime(model, threads)
    return {name: call for name, call in found.items() if call is not None}


class Probe:
    """A fixed piece of work; slow when something else has the machine."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(0).standard_normal(1 << 14).astype(np.float32)
        self.best = min(self._seconds() for _ in range(200))

    def _seconds(self) -> float:
        start = time.perf_counter()
        np.sin(self.numbers)
        return time.perf_counter() - start

    def quiet(self) -> bool:
        seconds = self._seconds()
        self.best = min(self.best, seconds)
        return seconds < 1.3 * self.best


def measure(
    calls: dict[str, Call], shape: tuple[int, ...], turns: int, threads: int
) -> dict[str, Any]:
    """Median seconds per call of each contestant over its turns, and how many were kept."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for _ in range(16)]
    clock = time.process_time if threads == 1 else time.perf_counter
    probe = Probe()
    kept: dict[str, list[float]] = {name: [] for name in calls}
    repeats = dict.fromkeys(calls, 1)
    for turn in range(turns + 1):  # the first only finds how many calls make a turn
        for name, call in calls.items():
            quiet = probe.quiet() or threads == 1
            start = clock()
            for i in range(repeats[name]):
                call(inputs[(turn + i) % 16])
            seconds = (clock() - start) / repeats[name]
            if turn == 0:
                start = clock()
                call(inputs[0])
                repeats[name] = max(1, min(5000, int(0.01 / max(clock() - start, 1e-7))))
            elif quiet and (threads == 1 or probe.quiet()):
                kept[name].append(seconds)
    return {
        name: {
            "seconds": float(np.median(kept[name])) if kept[name] else float("nan"),
            "turns": turns,
            "kept": len(kept[name]),
            "clock": "processor" if threads == 1 else "wall",
        }
        for name in calls
    }


def peak_macs() -> float:
    """Multiply-adds per second of one core, by the largest matrix product that fits L2."""
    from gossamer.runtime.table import KERNELS

    width = max(kernel.width for kernel in KERNELS)
    engine = Engine(linear(16 * width, 256, 1.0), threads=1)
    x = np.random.default_rng(0).standard_normal((96, 256)).astype(np.float32)
    row = min(
        (min(engine.profile(x, repeats=20), key=lambda r: r.seconds) for _ in range(5)),
        key=lambda r: r.seconds,
    )
    return row.dense_macs / row.seconds


def import_seconds() -> float:
    """The shortest import of the runtime in a fresh interpreter, less the interpreter."""

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    return min(run("import gossamer.runtime") for _ in range(5)) - min(
        run("pass") for _ in range(5)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", help="substrings of the names of cases")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    peak = peak_macs()
    print(f"{machine()}; {arguments.threads} thread(s); peak {peak / 1e9:.1f} G multiply-adds/s\n")
    print("| case | gossamer | fastest dense peer | ratio | goal | share of peak | turns kept |")
    print("|---|---|---|---|---|---|---|")
    results = []
    for name, case in cases().items():
        if arguments.cases and not any(part in name for part in arguments.cases):
            continue
        calls = contestants(case, arguments.threads)
        found = measure(calls, case.shape, arguments.turns, arguments.threads)
        dense = {p: found[p]["seconds"] for p in ("onnxruntime", "openvino", "torch") if p in found}
        best = min(dense, key=lambda p: dense[p])
        ours = found["gossamer"]["seconds"]
        x = np.random.default_rng(0).standard_normal(case.shape, np.float32)
        engine = calls["gossamer"]
        assert isinstance(engine, Engine)
        rows = engine.profile(x, repeats=20)
        macs = sum(row.macs for row in rows) * case.shape[0]
        share = macs / ours / peak
        quiet = min(f["kept"] for f in found.values())
        print(
            f"| {name} | {ours * 1e6:,.1f} us | {best} {dense[best] * 1e6:,.1f} us | "
            f"{dense[best] / ours:.1f}x | {case.goal} | {share:.0%} | {quiet}/{arguments.turns} |",
            flush=True,
        )
        results.append(
            {
                "case": name,
                "goal": case.goal,
                "batch": case.shape[0],
                "contestants": found,
                "ratio": dense[best] / ours,
                "peer": best,
                "share_of_peak": share,
                "layers": [row.__dict__ for row in rows],
            }
        )
    imported = import_seconds()
    print(f"\nimport of the runtime: {imported:.3f} s (goal 0.25 s / 0.15 s)")
    if arguments.json:
        summary = {
            "machine": machine(),
            "threads": arguments.threads,
            "peak_macs": peak,
            "import_seconds": imported,
            "cases": results,
        }
        temporary = arguments.json.with_suffix(".part")
        temporary.write_text(json.dumps(summary, indent=1))
        temporary.replace(arguments.json)


if __name__ == "__main__":
    main()
