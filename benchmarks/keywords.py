"""Keyword spotting on the whole Speech Commands: trained networks beside published ones.

    python benchmarks/keyword_pictures.py speech.npz
    gossamer train keywords.npz --model tc_resnet ... --out runs/tc_resnet
    python benchmarks/keywords.py runs/tc_resnet ... --against onnxruntime openvino

Writes ``OUT.md`` and ``OUT.json`` from the run directories: their accuracies and counts, their
accuracies where background recordings are mixed in, and the time of each network in the engine
beside its dense network in the peers, interleaved in one process. Rows that ``OUT.json`` has
already stay, and so do its sentences if no ``--missing`` is given. ``--table-only`` writes
``OUT.md`` again from ``OUT.json``. ``--float16`` takes run directories whose networks are exported
once more, with weights of 16 bits; their accuracy is that of this file in the engine.
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
from numpy.typing import NDArray
from published import TABLE
from results import BATCHES, write

from gossamer.data import load
from gossamer.deploy.bench import bench
from gossamer.runtime import Engine, machine

KEYWORDS = ("Speech Commands v0.01, 12 classes", "Speech Commands v0.02, 12 classes")
SMALL = 100_000  # weights of the published networks that are shown
TRAINED = (
    "| network | seeds | epochs | validation % | test % | non-zero weights | "
    "multiply-adds: dense / weights / both | activation density |"
)
TIMED = (
    "| network | examples a call | engine, us an example | its dense network, us | times faster "
    "| measured on |"
)
BOTH = (
    "| weights of the sparse layers | winners | test % | points lost | 1/(dW*dA) | "
    "multiply-adds fewer: sparse layers / whole | times faster: 1 / 64 examples |"
)
TOGETHER = "runs with few weights and few winners, taught by one of the runs"
SEED = "_seed_"  # in the name of a run: one more seed of the run whose name stands before it
SUMMED = ("weights", "nonzero", "macs_dense", "macs_both")
TURNS = 30
NOISY = "keywords.npz"  # pictures in which noise is mixed; smaller ones are made of them
LEVELS = (20, 15, 10, 5, 0, -5)  # signal to noise, dB
# A pixel is SCALE * ln(power + 0.01) + OFFSET, at most 255: how the pictures were made.
SCALE, OFFSET = 9.844, -58.84
PUBLISHED = "| published network | data | test % | weights | multiply-adds | source |"
ABOUT = """\
The trained networks saw log-mel pictures (98 frames x 40 bands, 8 bits) of every official
training clip of the ten keywords, 10,704 clips of other words and 600 windows of background:
42,073 examples. Validation has all 3,703 official clips of the keywords, a tenth as many other
words and 150 windows. Test has 2,716 of the keywords' clips: those of 78 speakers are missing.
The papers train on waveforms with noise mixed in, on all test speakers, and show fewer other
words (about a tenth of an epoch, here a quarter): their accuracies and ours are near each other,
not equal tasks. An accuracy of 96 % on 3,237 clips has a standard error of 0.35 points. Accuracy
and activation density are *measured*, weights and multiply-adds *counted*; multiply-adds are
those of all weights, of the non-zero ones, and of the non-zero ones that meet a non-zero input."""
NOISE = """\
Percent correct of the words of the test split (without silence) where the power of a background
picture is added, at a ratio of the clip's mean power to the background's; *measured*. The
backgrounds are windows of the same six recordings as the silence that the networks were trained
with; no network was trained with mixtures. All networks meet the same mixtures."""


BOTH_ABOUT = """\
CNN-2 with few weights and few winners at once, one seed a row: 4 epochs from the weights of
`{start}`, taught by the dense network, which has {dense:.2f} % on test. dW is the share
of non-zero weights of the layers that were pruned, dA that of the winners. The first layer reads
pictures, without zeros: where it was pruned too it takes most of the multiply-adds that are left.
Times faster are against the fastest dense peer of the dense network."""


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


def command(run: dict[str, Any]) -> str:
    settings = " ".join(
        f"--set {name}={json.dumps(value)}" for name, value in run["settings"].items()
    )
    return f"gossamer train {run['task']} --model {run['model']} --threads 1 {settings}"


def merged(stored: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stored rows, those of the same names replaced, and the others after them."""
    rows = {row["name"]: row for row in [*stored, *new]}
    return list(rows.values())


def share(values: list[float]) -> str:
    """Percent: the one value, or the mean and standard deviation of several seeds."""
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.2f}"


def both(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[str]:
    """The section on runs with few weights and few winners; their dense network is the teacher."""
    start, teacher = (Path(runs[0]["settings"][name]).name for name in ("init", "teacher"))
    dense = next(run["test"] for run in others if run["name"] == teacher)
    about = BOTH_ABOUT.format(start=start.replace("_", " "), dense=100 * dense)
    lines = ["", "## Few weights and few winners", "", about, "", BOTH, "|" + "---|" * 7]
    for run in sorted(runs, key=lambda run: run["macs"]["both"], reverse=True):
        sparse = [layer for layer in run["layers"] if layer["density"] < 1]
        total = {key: sum(layer[key] for layer in sparse) for key in sparse[0] if key in SUMMED}
        weights, active = total["nonzero"] / total["weights"], run["activation_density"]
        faster = " / ".join(
            f"{min(of['dense'].values()) / of['engine']:.2f}" for of in run["seconds"].values()
        )
        lines.append(
            f"| {100 * weights:.1f} % | {100 * active:.1f} % | {100 * run['test']:.2f} "
            f"| {100 * (dense - run['test']):.2f} | {1 / (weights * active):,.0f} "
            f"| {total['macs_dense'] / total['macs_both']:,.0f} / "
            f"{run['macs']['dense'] / run['macs']['both']:.1f} | {faster} |"
        )
    return lines


def page(result: dict[str, Any]) -> str:
    runs = [run for run in result["runs"] if SEED not in run["name"]]
    lines = ["# Keyword spotting on the whole Speech Commands", "", ABOUT, ""]
    lines += ["## Trained here", "", TRAINED, "|" + "---|" * 8]
    for run in runs:
        macs = " / ".join(f"{run['macs'][kind]:,.0f}" for kind in ("dense", "weights", "both"))
        same = [r for r in result["runs"] if r["name"].split(SEED)[0] == run["name"]]
        lines.append(
            f"| {run['name'].replace('_', ' ')} | {len(same)} | {run['settings']['epochs']} "
            f"| {share([r['validation'] for r in same])} | {share([r['test'] for r in same])} "
            f"| {run['nonzero']:,} of {run['total']:,} | {macs} | {run['activation_density']:.3f} |"
        )
    if any("seconds" in run for run in runs):
        lines += ["", "## Time, one thread", "", TIMED, "|" + "---|" * 6]
    for run in runs:
        for batch, of in run.get("seconds", {}).items():
            # The fastest peer: the comparison that flatters least.
            peer, dense = min(of["dense"].items(), key=lambda item: item[1])
            lines.append(
                f"| {run['name'].replace('_', ' ')} | {batch} | {1e6 * of['engine']:.1f} "
                f"| {1e6 * dense:.1f} ({peer}) | {dense / of['engine']:.2f} | {run['timed']} |"
            )
    if any("noise" in run for run in runs):
        lines += ["", "## Background noise", "", NOISE, ""]
        lines += [f"| network | clean | {' | '.join(f'{n} dB' for n in LEVELS)} |"]
        lines += ["|---" * (len(LEVELS) + 2) + "|"]
    for run in runs:
        if "noise" in run:
            shares = " | ".join(f"{100 * share:.1f}" for share in run["noise"].values())
            lines.append(f"| {run['name'].replace('_', ' ')} | {shares} |")
    if result["both"]:
        lines += both(result["both"], runs)
    lines += ["", "## Published", "", PUBLISHED, "|" + "---|" * 6]
    for entry in TABLE:
        if entry.task in KEYWORDS and entry.nonzero and entry.accuracy and entry.nonzero < SMALL:
            macs = f"{entry.macs / 1e6:.2g} M" if entry.macs else "–"
            note = f"; {entry.note}" if entry.note else ""
            accuracy = f"{entry.accuracy:.2f}".removesuffix("0") + (
                f" ± {entry.deviation:g}" if entry.deviation else ""
            )
            lines.append(
                f"| {entry.network} | {entry.task.split(',')[0]} | {accuracy} "
                f"| {entry.nonzero:,} | {macs} | {entry.source}{note} |"
            )
    lines += ["", result["missing"], ""]
    lines += ["    python benchmarks/keyword_pictures.py speech.npz"]
    lines += [f"    {command(run)}" for run in result["runs"] + result["both"]]
    lines += ["", f"Command of the last measurement: `{result['command']}`  "]
    lines += ["Data: Google Speech Commands v0.02, Pete Warden, arXiv 1804.03209, CC BY 4.0  "]
    lines += ["One thread a training, beside other programs"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--both", nargs="*", type=Path, default=[], help=TOGETHER)
    parser.add_argument("--float16", nargs="*", type=Path, default=[], help="runs in 16 bits too")
    parser.add_argument("--against", nargs="+", default=["onnxruntime"], help="peers to time")
    parser.add_argument("--shared", action="store_true", help="other programs ran beside it")
    parser.add_argument("--missing", default="", help="what was not attempted, in sentences")
    parser.add_argument("--out", type=Path, default=Path("docs/results/keywords"))
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.table_only:
        result = json.loads(arguments.out.with_suffix(".json").read_text())
    else:
        words = [word for word in sys.argv if word not in ("--missing", arguments.missing)]
        file = arguments.out.with_suffix(".json")
        stored = json.loads(file.read_text()) if file.exists() else {}
        timed = machine() + (", beside other programs" if arguments.shared else "")

        def row(run: Path) -> dict[str, Any]:
            return summary(run) | {"seconds": times(run, arguments.against), "timed": timed}

        with TemporaryDirectory() as folder:
            short = [in_16_bits(run, Path(folder)) for run in arguments.float16]
            runs = [row(run) | {"noise": noisy(run)} for run in (*arguments.runs, *short)]
        result = {
            "command": "python " + shlex.join(["benchmarks/keywords.py", *words[1:]]),
            "runs": merged(stored.get("runs", []), runs),
            "both": merged(stored.get("both", []), [row(run) for run in arguments.both]),
            "missing": arguments.missing or stored.get("missing", ""),
        }
    text = page(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
