"""The runtime beside onnxruntime, openvino and torch: every figure from one process.

All contestants of a case take turns of about ten milliseconds. On one thread the time is the
processor time of the process, which other programs hardly disturb. On several threads it is wall
time, and a turn is discarded if a probe (a fixed piece of work) was slow before or after it. The
result is the median over the turns of the mean time of a call, with the ratio to the fastest
dense peer. Inputs change from call to call, so that the branch predictor cannot learn an example.

    python benchmarks/runtime.py [--cases NAME ...] [--turns N] [--threads N] [--json FILE]
        [--page FILE.md] [--trained FILE.onnx] [--deepsparse PYTHON]

With ``--cases`` only the cases whose names contain one of the words are measured; the rows of the
others, and DeepSparse's figures if it is not measured, stay in the file if that is of the same
machine, instruction set and number of threads. ``--page`` writes the table of
the file into a page, between a line ``<!-- NAME.json -->`` and the next ``<!-- end -->``.

Weights are random with the stated densities, or trained if an exported speech network is passed;
k-winners keep 9.5 / 12.5 / 10 % in the speech network, 10 % elsewhere. The dense peers run the
dense network with ReLU; their dense network with k-winners is timed too. torch runs its own
modules (channels-last convolutions would not change the ranking); openvino and torch are left out
where they are not installed, and so is deepsparse, which needs an environment of its own and is
timed in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
import networks  # the same networks as in the tests
from networks import Builder, sparse

from gossamer.deploy.bench import take_turns
from gossamer.files import write_text
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, machine
from gossamer.runtime.roofline import measure_limits

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
    others: dict[str, bytes] = field(default_factory=dict)
    torch_winners: Callable[[], Any] | None = None


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


def wide_convolution(density: float, block: int = 1) -> bytes:
    """256 -> 256 channels, 3 x 3, on 14 x 14."""
    b = Builder(256, 14, 14)
    weight = sparse(np.random.default_rng(0), 256, 256, 3, 3, density=density, block=block)
    b.add("Conv", "x", weight, np.zeros(256, np.float32), pads=[1] * 4)
    return b.model()


def trivial() -> bytes:
    b = Builder(4)
    b.add("Relu", "x")
    return b.model()


PATTERNS = {1: "unstructured", 16: "blocks of 16"}  # by the outputs of a block


def cases() -> dict[str, Case]:
    dense = networks.speech_cnn()
    table: dict[str, Case] = {}
    for batch, goal, relu_goal in ((1, "8x / 15x", "5.4x / 11x"), (64, "6x / 12x", "5.4x / 8x")):
        shape = (batch, 1, 32, 32)
        for block, pattern in PATTERNS.items():
            ours = networks.speech_cnn(0.05, winners=True, block=block)
            name = f"speech 95 % weights, 10 % winners, {pattern}, batch {batch}"
            others = {"onnxruntime, k-winners": networks.speech_cnn(winners=True)}
            table[name] = Case(name, ours, dense, shape, goal, _speech, others, _speech_winners)
        for block, pattern in PATTERNS.items():
            name = f"speech 95 % weights, ReLU, {pattern}, batch {batch}"
            ours = networks.speech_cnn(0.05, block=block)
            table[name] = Case(name, ours, dense, shape, relu_goal, _speech)
        name = f"speech dense, ReLU, batch {batch}"
        table[name] = Case(name, dense, dense, shape, "0.8x / 1x", _speech)
    for block, pattern in PATTERNS.items():
        name = f"linear 1600 -> 1500, 95 %, 160 active, {pattern}, batch 1"
        table[name] = Case(name, linear(1500, 1600, 0.05, 160, block), linear(1500, 1600, 1.0),
                           (1, 1600), "30x / 80x")  # fmt: skip
        name = f"feed-forward 768 -> 3072 -> 768, 90 %, 307 winners, {pattern}, batch 1"
        table[name] = Case(name, feed_forward(0.1, 307, block), feed_forward(1.0, 0), (1, 768),
                           "12x / 25x")  # fmt: skip
        name = f"convolution 64 -> 64 5x5, 90 %, 1254 active, {pattern}, batch 1"
        table[name] = Case(name, convolution(0.1, 1254, block), convolution(1.0, 0),
                           (1, 64, 14, 14), "12x / 25x")  # fmt: skip
    for block, pattern in (PATTERNS | {4: "blocks of 4", 8: "blocks of 8"}).items():
        name = f"convolution 256 -> 256 3x3, 90 %, dense inputs, {pattern}, batch 1"
        table[name] = Case(name, wide_convolution(0.1, block), wide_convolution(1.0),
                           (1, 256, 14, 14))  # fmt: skip
    table["call floor"] = Case("call floor", trivial(), trivial(), (1, 4), "3 us / 1 us")
    return table


def trained(file: Path, batch: int) -> Case:
    """An exported speech network, its weights and densities as training left them."""
    name = f"speech trained ({file.name}), batch {batch}"
    dense = networks.speech_cnn()
    return Case(name, file.read_bytes(), dense, (batch, 1, 32, 32), "", _speech,
                others={"onnxruntime, the same file": file.read_bytes()})  # fmt: skip


def _speech_winners() -> Any:
    """The dense network with k-winners, in torch's own operators."""
    import torch
    from torch import nn

    class Winners(nn.Module):
        def __init__(self, k: int) -> None:
            super().__init__()
            self.k = k

        def forward(self, x: Any) -> Any:
            flat = x.flatten(1)
            best, where = flat.topk(self.k, dim=1, sorted=False)
            return torch.zeros_like(flat).scatter_(1, where, best).view_as(x)

    layers = list(_speech())
    ks = iter((round(0.095 * 64 * 14 * 14), round(0.125 * 1600), round(0.10 * 1500)))
    return nn.Sequential(
        *(Winners(next(ks)) if isinstance(layer, nn.ReLU) else layer for layer in layers)
    ).eval()


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
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


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
    calls: dict[str, Call | None] = {
        "gossamer": Engine(case.ours, threads=threads),
        "onnxruntime": _onnxruntime(case.dense, threads),
        "openvino": _openvino(case.dense, threads),
    }
    if case.torch is not None:
        calls["torch"] = _torch(case.torch, threads)
    if case.torch_winners is not None:
        calls["torch, k-winners"] = _torch(case.torch_winners, threads)
    for name, model in case.others.items():
        calls[name] = _onnxruntime(model, threads)
    return {name: call for name, call in calls.items() if call is not None}


def measure(
    calls: dict[str, Call], shape: tuple[int, ...], turns: int, threads: int
) -> dict[str, Any]:
    """Median seconds per call of each contestant over its turns, and how many were quiet."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for _ in range(16)]
    clock = "processor" if threads == 1 else "wall"
    times = take_turns(calls, inputs, turns=turns, threads=threads)
    return {name: {**asdict(of), "clock": clock} for name, of in times.items()}


DEEPSPARSE = """
import json, sys, time
import numpy as np
from deepsparse import compile_model
seconds = {}
for name, file, shape in json.load(open(sys.argv[1])):
    engine = compile_model(file, batch_size=shape[0], num_cores=int(sys.argv[2]))
    xs = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(16)]
    times = []
    for i in range(300 if shape[0] == 1 else 40):
        start = time.perf_counter()
        engine([xs[i % 16]])
        times.append(time.perf_counter() - start)
    seconds[name] = float(np.median(times))
print(json.dumps(seconds))
"""


def deepsparse(python: str, chosen: dict[str, Case], threads: int) -> dict[str, float]:
    """Median seconds of DeepSparse on the sparse networks with ReLU (wall clock)."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for i, (name, case) in enumerate(chosen.items()):
            if "ReLU" in name and "speech" in name:
                file = Path(folder) / f"{i}.onnx"
                file.write_bytes(case.ours)
                jobs.append([name, str(file), case.shape])
        todo = Path(folder) / "jobs.json"
        todo.write_text(json.dumps(jobs))
        try:
            done = subprocess.run(
                [python, "-c", DEEPSPARSE, str(todo), str(threads)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            print(f"deepsparse is left out: {' '.join(last)}", file=sys.stderr)
            return {}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


HEAD = (
    "| case | gossamer | fastest dense peer | ratio | goal | others | share of the limit | "
    "quiet turns |\n|---|---|---|---|---|---|---|---|"
)


def line(result: dict[str, Any]) -> str:
    """A row of the table; *others* are dense peers with k-winners, and DeepSparse."""
    timed, peer = result["contestants"], result["peer"]
    seconds = {name: of["seconds"] for name, of in timed.items()}
    others = {name.partition(",")[0]: s for name, s in seconds.items() if "," in name}
    if result["deepsparse_seconds"]:
        others["deepsparse (ReLU)"] = result["deepsparse_seconds"]
    quiet = min(of["quiet"] for of in timed.values())
    return (
        f"| {result['case']} | {seconds['gossamer'] * 1e6:,.1f} us | "
        f"{peer} {seconds[peer] * 1e6:,.1f} us | {result['ratio']:.1f}x | {result['goal']} | "
        f"{'; '.join(f'{name} {s * 1e6:,.0f} us' for name, s in others.items())} | "
        f"{result['share_of_limit']:.0%} | {quiet}/{timed['gossamer']['turns']} |"
    )


def merge(path: Path, summary: dict[str, Any]) -> None:
    """Write the file; rows of cases that were not measured again do not change."""
    alike = ("machine", "threads", "isa")
    if path.exists():
        before = json.loads(path.read_text())
        if all(before[key] == summary[key] for key in alike):
            rows = {row["case"]: row for row in before["cases"]}
            for row in summary["cases"]:
                if row["deepsparse_seconds"] is None and row["case"] in rows:
                    row["deepsparse_seconds"] = rows[row["case"]]["deepsparse_seconds"]
                rows[row["case"]] = row
            summary["cases"] = list(rows.values())
    write_text(path, json.dumps(summary, indent=1) + "\n")


def write_table(page: Path, path: Path) -> None:
    """The table of a file of results in its place on a page."""
    stored = json.loads(path.read_text())
    mark, end = f"<!-- {path.name} -->\n", "<!-- end -->"
    before, there, rest = page.read_text().partition(mark)
    if not there or end not in rest:
        raise SystemExit(f"{page} has no line {mark.strip()} with {end} after it")
    table = "\n".join([HEAD, *map(line, stored["cases"])])
    about = f"{stored['machine']}; kernels for {stored['isa']}; {stored['threads']} thread(s)"
    write_text(page, f"{before}{mark}\n{about}\n\n{table}\n\n{end}{rest.partition(end)[2]}")


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
    parser.add_argument("--page", type=Path, help="where to write the table of --json")
    parser.add_argument("--trained", type=Path, help="an exported speech network")
    parser.add_argument("--deepsparse", help="the Python of an environment with deepsparse")
    arguments = parser.parse_args()
    if arguments.page and not arguments.json:
        parser.error("--page writes the table of a file: pass --json FILE too")
    threads = arguments.threads
    chosen = cases()
    if arguments.trained:
        both = [trained(arguments.trained, batch) for batch in (1, 64)]
        chosen |= {case.name: case for case in both}
    if arguments.cases:
        chosen = {n: c for n, c in chosen.items() if any(part in n for part in arguments.cases)}
    if arguments.deepsparse:
        beside = deepsparse(arguments.deepsparse, chosen, threads)
    else:
        print("deepsparse is left out: no --deepsparse PYTHON given", file=sys.stderr)
        beside = {}
    print(f"{machine()}; {threads} thread(s), kernels for {chosen_isa()}\n")
    print(HEAD)
    results = []
    for name, case in chosen.items():
        calls = contestants(case, threads)
        timed = measure(calls, case.shape, arguments.turns, threads)
        dense = {p: timed[p]["seconds"] for p in ("onnxruntime", "openvino", "torch") if p in timed}
        best = min(dense, key=lambda p: dense[p])
        ours = timed["gossamer"]["seconds"]
        x = np.random.default_rng(0).standard_normal(case.shape, np.float32)
        engine = calls["gossamer"]
        assert isinstance(engine, Engine)
        rows = engine.profile(x, repeats=20)
        limits = measure_limits(engine, rows)
        least = sum(row.seconds * limits.share(row) for row in rows) * case.shape[0]
        results.append(
            {
                "case": name,
                "goal": case.goal,
                "batch": case.shape[0],
                "contestants": timed,
                "deepsparse_seconds": beside.get(name),
                "ratio": dense[best] / ours,
                "peer": best,
                "share_of_limit": least / ours,
                "limits": asdict(limits),
                "layers": [row.__dict__ for row in rows],
            }
        )
        print(line(results[-1]), flush=True)
    imported = import_seconds()
    print(f"\nimport of the runtime: {imported:.3f} s (goal 0.25 s / 0.15 s)")
    if arguments.json:
        summary = {
            "machine": machine(),
            "threads": threads,
            "isa": chosen_isa(),
            "import_seconds": imported,
            "cases": results,
        }
        merge(arguments.json, summary)
        if arguments.page:
            write_table(arguments.page, arguments.json)


if __name__ == "__main__":
    main()
