"""Keyword spotting on the whole Speech Commands: trained networks beside published ones.

    python benchmarks/keyword_pictures.py speech.npz
    gossamer train keywords.npz --model tc_resnet ... --out runs/tc_resnet
    python benchmarks/keywords.py runs/tc_resnet ... --against onnxruntime openvino

Writes ``OUT.json`` from the run directories: their accuracies and counts, their accuracies where
background recordings are mixed in, and the time of each network in the engine beside its dense
network in the peers, interleaved in one process; rows that it has already stay. From it, and from
the trials of the search, ``OUT.md`` (goals and frontier; its last section is written by hand and
stays), ``OUT.svg`` and ``OUT_runs.md`` (all networks); ``--table-only`` does this alone.
``--float16`` takes run directories whose networks are exported once more, with weights of 16
bits; their accuracy is that of this file in the engine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from keyword_pictures import squares
from keywords_page import LEVELS, SEED, write_pages
from numpy.typing import NDArray
from results import BATCHES

from gossamer.data import load
from gossamer.deploy.bench import bench
from gossamer.runtime import Engine, machine

TOGETHER = "runs with few weights and few winners, taught by one of the runs"
TURNS = 30
NOISY = "keywords.npz"  # pictures in which noise is mixed; smaller ones are made of them
# A pixel is SCALE * ln(power + 0.01) + OFFSET, at most 255: how the pictures were made.
SCALE, OFFSET = 9.844, -58.84


def summary(run: Path) -> dict[str, Any]:
    """The figures of a run directory."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "name": run.name,
        "task": metrics["task"],
        "model": metrics["model"],
        "settings": metrics["settings"],
        "validation": metrics["history"][-1]["accuracy"],
        "test": metrics["accuracy"],
        "examples": metrics["examples"],
        "nonzero": metrics["weights"]["nonzero"],
        "total": metrics["weights"]["total"],
        "macs": metrics["macs"],
        "activation_density": metrics["activations"]["density"],
        "layers": metrics["layers"],
        "machine": metrics["machine"],
    }


def times(run: Path, against: list[str]) -> dict[str, Any]:
    """Seconds an example on one thread, by batch: the engine's, and each peer's on the dense form.

    The dense network has the same layers and ReLU in place of k-winners.
    """
    inputs = [np.load(run / "examples.npy")]
    seconds: dict[str, Any] = {}
    for batch in BATCHES:
        result = bench(
            run / "model.onnx", against, batch=batch, threads=1, turns=TURNS, inputs=inputs
        )
        engine, *peers = result.contestants
        seconds[str(batch)] = {
            "engine": engine.seconds / batch,
            "dense": {p.name: p.seconds / batch for p in peers if p.network == "dense"},
        }
    return seconds


def correct(engine: Engine, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The share of examples whose largest output is that of their class."""
    parts = np.split(inputs, range(64, len(inputs), 64))
    outputs = np.concatenate([engine(part) for part in parts])
    return float(np.mean(outputs.argmax(1) == labels))


def in_16_bits(run: Path, folder: Path) -> Path:
    """A copy of a run directory whose network has weights of 16 bits, with its own accuracy."""
    name, seed, number = run.name.partition(SEED)
    copy = folder / f"{name}_in_16_bits{seed}{number}"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("plan.json"))
    out = str(copy / "model.onnx")
    words = [sys.executable, "-m", "gossamer", "export", str(run), "--float16", "--out", out]
    subprocess.run(words, check=True)
    metrics = json.loads((copy / "metrics.json").read_text())
    task, engine = load(metrics["task"]), Engine(out, threads=1)
    for name, split in (("validation", task.validation), ("test", task.test)):
        accuracy = correct(engine, task.features(split.x), split.y)
        if name == "test":
            metrics["accuracy"] = accuracy
        else:
            metrics["history"][-1]["accuracy"] = accuracy
    (copy / "metrics.json").write_text(json.dumps(metrics))
    return copy


def mixed(
    x: NDArray[np.uint8], noise: NDArray[np.uint8], level: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Pictures ``[N, bands, frames]`` with the power of a background picture added to each.

    The background is drawn for each picture, turned in time by any number of frames, and scaled
    so that its mean power is ``level`` dB below that of the picture.
    """
    chosen = noise[rng.integers(len(noise), size=len(x))]
    frames = (np.arange(x.shape[-1]) + rng.integers(x.shape[-1], size=(len(x), 1))) % x.shape[-1]
    chosen = np.take_along_axis(chosen, frames[:, None], axis=2)
    signal, background = (np.exp((p.astype(np.float64) - OFFSET) / SCALE) for p in (x, chosen))
    mean = signal.mean((1, 2), keepdims=True) / background.mean((1, 2), keepdims=True)
    pixels = SCALE * np.log(signal + background * mean * 10 ** (-level / 10)) + OFFSET
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def noisy(run: Path) -> dict[str, float]:
    """Accuracy on the words of the test split at each level of noise, and without.

    Words alone: silence is the noise. All networks meet the same mixtures.
    """
    task = load(json.loads((run / "metrics.json").read_text())["task"])
    engine = Engine(run / "model.onnx", threads=1)
    with np.load(NOISY) as stored:
        x, y, classes = stored["x_test"], stored["y_test"], stored["classes"].tolist()
    silence = y == classes.index("silence")
    words, labels = x[~silence], y[~silence]
    found = {}
    for level in (None, *LEVELS):
        rng = np.random.default_rng(0)
        pictures = words if level is None else mixed(words, x[silence], level, rng)
        if task.input_shape[-2:] == (32, 32):
            pictures = squares(pictures)
        inputs = task.features(pictures.reshape(len(pictures), *task.test.x.shape[1:]))
        found["clean" if level is None else str(level)] = correct(engine, inputs, labels)
    return found


def merged(stored: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stored rows, those of the same names replaced, and the others after them."""
    rows = {row["name"]: row for row in [*stored, *new]}
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--both", nargs="*", type=Path, default=[], help=TOGETHER)
    parser.add_argument("--float16", nargs="*", type=Path, default=[], help="runs in 16 bits too")
    parser.add_argument("--against", nargs="+", default=["onnxruntime"], help="peers to time")
    parser.add_argument("--shared", action="store_true", help="other programs ran beside it")
    parser.add_argument("--out", type=Path, default=Path("docs/results/keywords"))
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.table_only:
        result = json.loads(arguments.out.with_suffix(".json").read_text())
    else:
        file = arguments.out.with_suffix(".json")
        stored = json.loads(file.read_text()) if file.exists() else {}
        timed = machine() + (", beside other programs" if arguments.shared else "")

        def row(run: Path) -> dict[str, Any]:
            return summary(run) | {"seconds": times(run, arguments.against), "timed": timed}

        with TemporaryDirectory() as folder:
            short = [in_16_bits(run, Path(folder)) for run in arguments.float16]
            runs = [row(run) | {"noise": noisy(run)} for run in (*arguments.runs, *short)]
        result = {
            "command": "python " + shlex.join(["benchmarks/keywords.py", *sys.argv[1:]]),
            "runs": merged(stored.get("runs", []), runs),
            "both": merged(stored.get("both", []), [row(run) for run in arguments.both]),
        }
    print(write_pages(arguments.out, result))


if __name__ == "__main__":
    main()
