"""Which sparsity to begin with: accuracy and engine time of what the pages could advise.

    python benchmarks/advice.py train --seeds 0 1 2 --out docs/results/advice
    python benchmarks/advice.py time --out docs/results/advice

``train`` trains a small residual network and a wide perceptron on a part of MNIST: dense, and with
a tenth of the weights as single weights or in blocks of 8, each with ReLU or with a tenth of the
activations. ``time`` runs the networks of the first seed in the engine, and the dense one in
onnxruntime, interleaved in one process, so that other load hits all of them alike. Both write
``OUT.md`` and ``OUT.json``. Finished trainings stay in ``--runs`` and are not repeated.
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

from gossamer.data import load
from gossamer.data.task import Split
from gossamer.deploy.bench import take_turns
from gossamer.runtime import Engine, machine
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
DENSE, PEER = "dense, ReLU", "dense, ReLU, onnxruntime"
VARIANTS: dict[str, dict[str, Any]] = {
    DENSE: {},
    "single weights, ReLU": _SPARSE,
    "blocks of 8, ReLU": _BLOCKS,
    "single weights, winners": {**_SPARSE, **_WINNERS},
    "blocks of 8, winners": {**_BLOCKS, **_WINNERS},
}


def folder_of(runs: Path, network: str, variant: str, seed: int) -> Path:
    name = f"{network}-{variant}-{seed}"
    return runs / name.replace(", ", "-").replace(" ", "_")


def trained(network: str, variant: str, seed: int, task: Any, folder: Path) -> dict[str, Any]:
    """The metrics of one training; read from its folder if it is finished."""
    done = folder / "metrics.json"
    if not done.exists():
        _, model, settings = NETWORKS[network]
        values = {**settings, **VARIANTS[variant], "batch_size": 64, "noise_score": False}
        train(Recipe("mnist", model, values | {"seed": seed}), task).save(folder)
        print(folder.name, file=sys.stderr, flush=True)
    metrics: dict[str, Any] = json.loads(done.read_text())
    return {"accuracy": metrics["accuracy"], "nonzero": metrics["weights"]["nonzero"]}


def times(files: dict[str, Path], sample: Any) -> dict[str, float]:
    """Seconds of one example on one thread, interleaved: the engine, and a dense peer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(files[DENSE]), options)
    calls: dict[str, Any] = {
        variant: Engine(file, threads=1, sample=sample) for variant, file in files.items()
    }
    calls[PEER] = lambda x: session.run(None, {"input": x})
    turns = take_turns(calls, [sample[i : i + 1] for i in range(8)], turns=TURNS, threads=1)
    return {variant: of.seconds for variant, of in turns.items()}


def page(result: dict[str, Any]) -> str:
    seeds = len(result["seeds"])
    lines = [
        "# Where to begin: single weights or blocks, ReLU or k-winners",
        "",
        f"A tenth of the weights (GraNet, ERK, output layer dense), a tenth of the activations, "
        f"{EXAMPLES:,} examples of MNIST, three epochs, {seeds} seed{'s' * (seeds > 1)}. Accuracy "
        "(*measured*) is on the whole test split, as mean ± standard deviation. Time is the "
        "processor time of one example on one thread relative to the dense network in onnxruntime "
        f"(*measured*): medians of {TURNS} turns, all variants interleaved in one process; other "
        "programs may have shared the machine, so only the ratios count.",
    ]
    for name, of in result["networks"].items():
        lines += ["", f"## {NETWORKS[name][0]}", ""]
        lines += ["| variant | test accuracy % | non-zero weights | times faster |"]
        lines += ["|---|---|---|---|"]
        seconds = of.get("seconds", {})
        for variant in [*VARIANTS, *({PEER} & set(seconds))]:
            runs = of["runs"].get(variant, [])
            accuracy = [100 * run["accuracy"] for run in runs]
            spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
            shown = f"{statistics.fmean(accuracy):.2f}{spread}" if accuracy else ""
            weights = f"{runs[0]['nonzero']:,}" if runs else ""
            faster = f"{seconds[PEER] / seconds[variant]:.2f}" if seconds else "not measured"
            lines.append(f"| {variant} | {shown} | {weights} | {faster} |")
    for what, command in result["commands"].items():
        lines += [
            "",
            f"Command ({what}): `{command['command']}`  ",
            f"Machine: {command['machine']}",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "time"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/advice"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/advice"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    whole = load("mnist")
    task = dataclasses.replace(
        whole, train=Split(whole.train.x[:EXAMPLES], whole.train.y[:EXAMPLES])
    )
    stored = arguments.out.with_suffix(".json")
    result = json.loads(stored.read_text()) if stored.exists() else {"commands": {}}
    command = {"command": "python " + shlex.join(sys.argv), "machine": machine()}
    result["commands"][arguments.what] = command
    if arguments.what == "train":
        networks: dict[str, Any] = {name: {"runs": {}} for name in NETWORKS}
        # Seeds outermost: the first whole comparison is there as early as possible.
        for seed, network, variant in itertools.product(arguments.seeds, NETWORKS, VARIANTS):
            folder = folder_of(arguments.runs, network, variant, seed)
            run = trained(network, variant, seed, task, folder)
            networks[network]["runs"].setdefault(variant, []).append(run)
        result |= {"seeds": arguments.seeds, "networks": networks}
        result["commands"].pop("time", None)
    else:
        sample = task.features(task.test.x[:64])
        for network, of in result["networks"].items():
            seed = result["seeds"][0]
            files = {
                v: folder_of(arguments.runs, network, v, seed) / "model.onnx" for v in VARIANTS
            }
            of["seconds"] = times(files, sample)
    text = page(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
