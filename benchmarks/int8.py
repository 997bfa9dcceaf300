"""Accuracy, bytes and time of networks in 8 bits, against 32.

    GOSSAMER_DATA=... python benchmarks/int8.py --budget-minutes 60
    python benchmarks/int8.py --engine
    python benchmarks/int8.py --table-only

The first measures accuracy, the second the engine; both write ``OUT.md`` from the results so
far. Each line of ``OUT.jsonl`` is one network and seed: trained in 32 bits, the same rounded to 8
bits after training (calibrated on 512 training examples), and one trained with 8 bits from the
start for as many epochs. Finished lines are not repeated. Networks, budgets and splits are those of
``benchmarks/methods.py``.

The engine's part times the speech network with random weights, both ways and in ONNX Runtime
(dense alone: its 32 bits, and its own ``quantize_static``), interleaved in one process on one
thread, and writes ``OUT.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
from methods import CHANGES, SMALL

SEEDS = (0, 1, 2)
CALIBRATED = 512
SPARSE = {"density": 0.05, "winners": 0.1, "rule": "granet"}
KINDS = {"dense": "all weights, ReLU", "sparse": "5 % of the weights, 10 % k-winners"}


def trained(network: str, kind: str, seed: int, task: Any, int8: bool) -> Any:
    """A network of ``methods.py``, trained."""
    import torch

    from gossamer.nn import quantize
    from gossamer.sparsity import SparsitySettings
    from gossamer.training import TrainingConfig, fit

    what = SMALL[network]
    settings = TrainingConfig(**what.settings, augment=False, seed=seed, device="cpu")
    torch.manual_seed(seed)
    sparse = kind == "sparse"
    model = what.build(SPARSE["winners"] if sparse else 1.0, task.input_shape)
    sparsifier = None
    if sparse:
        steps = len(task.train) // settings.batch_size * settings.epochs
        chosen = SparsitySettings(
            rule=SPARSE["rule"], allocation="erk", mask_interval=max(steps // CHANGES, 1)
        )
        sparsifier = chosen.sparsifier(model, SPARSE["density"], seed=seed)
    if int8:
        quantize(model)
    fit(model, task, settings, sparsifier=sparsifier)
    return model.eval()


def accuracy(model: Any, task: Any) -> float:
    """Accuracy on the test and validation examples together, neither used for a decision."""
    from gossamer.training import evaluate

    splits = ("test", "validation")
    results = [evaluate(model, task, split, noise=False, timing=False) for split in splits]
    return sum(e.correct for e in results) / sum(e.examples for e in results)


def file_bytes(model: Any, example: Any) -> int:
    from gossamer.nn import export

    with tempfile.TemporaryDirectory() as folder:
        return export(model, example, Path(folder) / "model.onnx").stat().st_size


def one(network: str, kind: str, seed: int, task: Any) -> dict[str, Any]:
    import torch

    from gossamer.nn import quantize

    started = time.perf_counter()
    model = trained(network, kind, seed, task, int8=False)
    examples = torch.from_numpy(task.features(task.train.x[:CALIBRATED]))
    after = quantize(copy.deepcopy(model), examples)
    during = trained(network, kind, seed, task, int8=True)
    return {
        "network": network,
        "kind": kind,
        "seed": seed,
        "float": accuracy(model, task),
        "calibrated": accuracy(after, task),
        "trained": accuracy(during, task),
        "examples": len(task.test.y) + len(task.validation.y),
        "float_file_bytes": file_bytes(model, examples[:2]),
        "int8_file_bytes": file_bytes(after, examples[:2]),
        "seconds": time.perf_counter() - started,
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Finished lines; one cut off by a stop is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            print(f"{path}: skipped a line that is cut off", file=sys.stderr)
    return lines


def run(path: Path, budget: float) -> None:
    """Train what is missing until the budget of minutes is spent."""
    import torch

    from gossamer.data import load
    from gossamer.runtime import machine

    torch.set_num_threads(1)
    started = time.monotonic()
    if path.exists() and not path.read_text().endswith("\n"):
        path.write_text(path.read_text() + "\n")
    done = {(line["network"], line["kind"], line["seed"]) for line in read(path)}
    wanted = [(n, k, s) for s in SEEDS for n in SMALL for k in reversed(KINDS)]
    tasks: dict[str, Any] = {}
    for network, kind, seed in wanted:
        if (network, kind, seed) in done:
            continue
        if time.monotonic() - started > budget * 60:
            break
        name = SMALL[network].task
        if name not in tasks:
            tasks[name] = load(name)
        line = {**one(network, kind, seed, tasks[name]), "machine": machine()}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), file=sys.stderr, flush=True)


ENGINE = {
    "dense, ReLU": {},
    "5 % of weights, ReLU": {"density": 0.05},
    "5 % of weights, k-winners": {"density": 0.05, "winners": True},
    "5 % of weights in blocks of 16, k-winners": {"density": 0.05, "winners": True, "block": 16},
}
BATCH = 16


def onnxruntimes(model: bytes, x: Any) -> dict[str, Any]:
    """ONNX Runtime on a network, and on what its quantizer makes of it."""
    import networks
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"x": x}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        plain, eight = Path(folder) / "plain.onnx", Path(folder) / "eight.onnx"
        # Batch norms folded first, as its quantizer asks for.
        folding = networks.session_options()
        folding.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        folding.optimized_model_filepath = str(plain)
        onnxruntime.InferenceSession(model, folding)
        quantize_static(plain, eight, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
        sessions = {
            "onnxruntime, 32 bits": onnxruntime.InferenceSession(plain, options),
            "onnxruntime, 8 bits": onnxruntime.InferenceSession(eight, options),
        }
    return {
        name: lambda x, session=session: session.run(None, {"x": x})
        for name, session in sessions.items()
    }


def engine(path: Path, turns: int) -> None:
    """Least processor time of a call over the turns, and bytes of packed weights."""
    import networks
    import numpy as np

    from gossamer.runtime import Engine, machine

    x = np.random.default_rng(0).standard_normal((BATCH, 1, 32, 32)).astype(np.float32)
    rows = []
    for name, settings in ENGINE.items():
        engines = {
            f"gossamer, {bits} bits": Engine(
                networks.speech_cnn(**settings, int8=bits == 8), threads=1
            )
            for bits in (32, 8)
        }
        calls: dict[str, Any] = dict(engines)
        if name.startswith("dense"):
            calls |= onnxruntimes(networks.speech_cnn(**settings), x)
        best = {(kind, batch): float("inf") for kind in calls for batch in (1, BATCH)}
        for _ in range(turns):
            for kind, batch in best:
                examples = x[:batch]
                started = time.process_time()
                calls[kind](examples)
                best[kind, batch] = min(best[kind, batch], time.process_time() - started)
        for kind in calls:
            runner = engines.get(kind)
            rows.append(
                {
                    "network": name,
                    "kind": kind,
                    "batch1_seconds": best[kind, 1],
                    f"batch{BATCH}_seconds": best[kind, BATCH],
                    "weight_bytes": runner and sum(row.bytes for row in runner.profile(x[:1])),
                }
            )
    result = {"machine": machine(), "turns": turns, "rows": rows}
    path.write_text(json.dumps(result, indent=1) + "\n")


def engine_table(path: Path) -> list[str]:
    """The engine's rows, of this machine and of the others that have a file."""
    files = [path, *sorted(path.parent.glob(f"{path.stem}-*.json"))]
    machines = [json.loads(file.read_text()) for file in files if file.exists()]
    if not machines:
        return []
    text = [
        "",
        "## The engine",
        "",
        "    python benchmarks/int8.py --engine",
        "",
        "One thread; least processor time of a call (*measured*). The speech network (2 "
        "convolutions of 64 channels, 1,500 hidden units) with random weights; k-winners leave "
        "9.5 / 12.5 / 10 % of the activations non-zero. Bytes are of the packed weights with "
        "their offsets and biases, as planned for batch 1 (*counted*). onnxruntime in 8 bits runs "
        "the output of its own `quantize_static`. Dense layers in 8 bits multiply whole numbers; "
        "sparse ones expand weights to floats, and gain only where reading the weights takes most "
        "of the time.",
    ]
    for measured in machines:
        text += [
            "",
            f"{measured['machine']}; {measured['turns']} turns:",
            "",
            f"| network | | batch 1 | batch {BATCH} | bytes |",
            "|---|---|---|---|---|",
        ]
        for row in measured["rows"]:
            size = f"{row['weight_bytes']:,}" if row["weight_bytes"] else ""
            text.append(
                f"| {row['network']} | {row['kind']} | {1e6 * row['batch1_seconds']:.0f} us | "
                f"{1e6 * row[f'batch{BATCH}_seconds']:,.0f} us | {size} |"
            )
    return text


def spread(values: list[float]) -> str:
    mean = f"{100 * statistics.fmean(values):.2f}"
    return mean + (f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else "")


def page(lines: list[dict[str, Any]], command: str, timed: list[str]) -> str:
    """The Markdown page from whatever has been trained."""
    whole = len(SEEDS) * len(SMALL) * len(KINDS)
    text = [
        "# 8 bits: accuracy, bytes and time",
        "",
        "## Accuracy",
        "",
        f"    {command}",
        "",
        f"{len(lines)} of {whole} networks and seeds have been trained. Accuracy in % "
        "(*measured*) on test and validation examples together, none of which was used for a "
        "decision: mean ± standard deviation over seeds. *after training*: the 32-bit network "
        f"with weights and activations rounded to 8 bits, calibrated on {CALIBRATED} training "
        "examples. *while training*: rounding from the first step, the same epochs. The trainings "
        "are short (`benchmarks/methods.py`): compare the columns. Bytes are of `model.onnx` "
        "(*counted*), sparse weights stored sparse.",
        "",
        "| network | seeds | 32 bits | 8 bits after training | 8 bits while training | "
        "file, 32 bits | file, 8 bits | smaller |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network in SMALL:
        for kind, about in KINDS.items():
            mine = [line for line in lines if (line["network"], line["kind"]) == (network, kind)]
            if not mine:
                continue
            columns = [[line[key] for line in mine] for key in ("float", "calibrated", "trained")]
            differences = [
                f" ({100 * (statistics.fmean(c) - statistics.fmean(columns[0])):+.2f})"
                for c in columns[1:]
            ]
            sizes = [
                statistics.fmean(line[key] for line in mine)
                for key in ("float_file_bytes", "int8_file_bytes")
            ]
            text.append(
                f"| {network}, {about} | {len(mine)} | {spread(columns[0])} | "
                f"{spread(columns[1])}{differences[0]} | {spread(columns[2])}{differences[1]} | "
                f"{sizes[0]:,.0f} | {sizes[1]:,.0f} | {sizes[0] / sizes[1]:.2f} |"
            )
    machines = sorted({line["machine"] for line in lines})
    return "\n".join([*text, "", f"Trained on: {'; '.join(machines)}.", *timed]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/int8"))
    parser.add_argument("--budget-minutes", type=float, default=60)
    parser.add_argument("--engine", action="store_true", help="measure the engine instead")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    path = arguments.out.with_suffix(".jsonl")
    if arguments.engine:
        engine(arguments.out.with_suffix(".json"), arguments.turns)
    elif not arguments.table_only:
        run(path, arguments.budget_minutes)
    command = f"python benchmarks/int8.py --budget-minutes {arguments.budget_minutes:g}"
    timed = engine_table(arguments.out.with_suffix(".json"))
    arguments.out.with_suffix(".md").write_text(page(read(path), command, timed))


if __name__ == "__main__":
    main()
