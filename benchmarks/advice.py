"""Where to begin: accuracy and engine time of the sparsities that the pages could advise.

    python benchmarks/advice.py --seeds 0 1 2 --out docs/results/advice

Trains a small residual network and a wide perceptron on a part of MNIST: dense, with a tenth of the
weights free or in blocks of 8, with ReLU or a tenth of the activations. Then all variants of a
network take turns in the engine, and onnxruntime on the dense one with them, so that what else the
machine does hits all alike. Finished trainings are kept in ``--runs`` and not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from results import write

import gossamer as gs
from gossamer.data import load
from gossamer.data.task import Split
from gossamer.deploy.bench import take_turns
from gossamer.runtime import machine
from gossamer.training import Recipe, train

EXAMPLES = 8_000
TURNS = 40
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "perceptron": (
        "perceptron, two hidden layers of 1,024 units",
        "mlp",
        {"hidden": 1024, "epochs": 3, "learning_rate": 0.1},
    ),
    "residual": (
        "residual network, 7 convolutions of 16 to 64 channels",
        "resnet18",
        {"width": 16, "blocks": [1, 1, 1], "epochs": 3, "learning_rate": 0.1},
    ),
}
_SPARSE = {"weight_density": 0.1, "weight_density.output": 1.0}
_BLOCKS = {**_SPARSE, "pattern": "block8"}
_WINNERS = {"activation_density": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "dense, ReLU": {},
    "single weights, ReLU": _SPARSE,
    "blocks of 8, ReLU": _BLOCKS,
    "single weights, winners": {**_SPARSE, **_WINNERS},
    "blocks of 8, winners": {**_BLOCKS, **_WINNERS},
}


def trained(network: str, variant: str, seed: int, task: Any, folder: Path) -> dict[str, Any]:
    """The metrics of one training, which is read back where it is finished."""
    done = folder / "metrics.json"
    if not done.exists():
        _, model, settings = NETWORKS[network]
        values = {**settings, **VARIANTS[variant], "batch_size": 64, "seed": seed}
        train(Recipe("mnist", model, values), task).save(folder)
        print(folder.name, file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def times(files: dict[str, Path], sample: Any) -> dict[str, float]:
    """Seconds of one example on one thread, all in turns: the engine, and a dense peer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(files["dense, ReLU"]), options)
    calls: dict[str, Any] = {
        variant: gs.Engine(file, threads=1, sample=sample) for variant, file in files.items()
    }
    calls["dense, ReLU, onnxruntime"] = lambda x: session.run(None, {"input": x})
    found = take_turns(calls, [sample[i : i + 1] for i in range(8)], turns=TURNS, threads=1)
    return {variant: turns.seconds for variant, turns in found.items()}


def page(results: dict[str, Any], seeds: list[int], command: str, on: str) -> str:
    lines = [
        "# Where to begin: free weights or blocks, ReLU or winners",
        "",
        f"A tenth of the weights (GraNet, ERK, output layer dense), a tenth of the activations, "
        f"{EXAMPLES:,} examples of MNIST, short trainings, {len(seeds)} seed(s); accuracy "
        "(*measured*) on the whole test split. Time (*measured*): one example, one thread, "
        f"processor time, median over {TURNS} turns that all variants and onnxruntime took one "
        "after the other in one process, on a machine that did other work too: compare the ratios.",
    ]
    for name, result in results.items():
        dense = result["seconds"]["dense, ReLU, onnxruntime"]
        lines += ["", f"## {NETWORKS[name][0]}", ""]
        lines += [
            "| variant | test accuracy % | non-zero weights | time | against dense onnxruntime |"
        ]
        lines += ["|---|---|---|---|---|"]
        for variant, seconds in result["seconds"].items():
            runs = result["runs"].get(variant, [])
            accuracy = [100 * run["accuracy"] for run in runs]
            spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
            shown = f"{statistics.fmean(accuracy):.2f}{spread}" if accuracy else ""
            weights = f"{runs[0]['nonzero']:,}" if runs else ""
            lines.append(
                f"| {variant} | {shown} | {weights} | {seconds * 1e6:.0f} us "
                f"| {dense / seconds:.2f} times as fast |"
            )
    lines += ["", f"Command: `{command}`  ", f"Machine: {on}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/advice"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/advice"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    whole = load("mnist")
    task = dataclasses.replace(
        whole, train=Split(whole.train.x[:EXAMPLES], whole.train.y[:EXAMPLES])
    )
    sample = task.features(task.test.x[:64])
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {n: {} for n in NETWORKS}
    files: dict[str, dict[str, Path]] = {n: {} for n in NETWORKS}
    # Seeds outermost: the first whole comparison is there as early as possible.
    for seed, network, variant in itertools.product(arguments.seeds, NETWORKS, VARIANTS):
        called = f"{network}-{variant}-{seed}".replace(", ", "-").replace(" ", "_")
        folder = arguments.runs / called
        found = trained(network, variant, seed, task, folder)
        kept = {"accuracy": found["accuracy"], "nonzero": found["weights"]["nonzero"]}
        runs[network].setdefault(variant, []).append(kept)
        files[network].setdefault(variant, folder / "model.onnx")
    results = {n: {"runs": runs[n], "seconds": times(files[n], sample)} for n in NETWORKS}
    command = "python " + shlex.join(sys.argv)
    text = page(results, arguments.seeds, command, machine())
    write(arguments.out, {"command": command, "machine": machine(), "networks": results}, text)
    print(text)


if __name__ == "__main__":
    main()
