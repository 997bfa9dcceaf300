"""Accuracy lost by pruning a trained network at once, and regained by further training.

    GOSSAMER_DATA=... python benchmarks/prune.py --out docs/results/prune

Dense networks of ``methods.py`` are trained, pruned in each way of ``WAYS`` at each density, and
trained further with the same zeros. Accuracy is of the test and validation examples together,
none of which was used for training, calibration or a decision.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from methods import SMALL, Network
from results import write
from torch import Tensor, nn

import gossamer as gs
from gossamer.data import Task, load
from gossamer.runtime import machine
from gossamer.training import TrainingConfig, evaluate, fit

NETWORKS = ("mnist_cnn", "speech_cnn")
DENSITIES = (0.2, 0.1, 0.05)
CALIBRATION, BATCH = 512, 64  # examples
# Training on takes a third of the dense training's epochs, from a third of its rate.
TUNED = 3
GLOBAL = gs.sparsity.Global()

Way = Callable[[nn.Module, float, list[Tensor]], gs.Sparsifier]


def rearranged(model: nn.Module, density: float, batches: list[Tensor]) -> gs.Sparsifier:
    gs.sparsity.rearrange(model, density, gs.Block(8))
    return gs.prune(model, density, pattern=gs.Block(8), allocation=GLOBAL, calibration=batches)


WAYS: dict[str, Way] = {
    "magnitude": lambda model, density, _: gs.prune(
        model, density, pattern=gs.sparsity.Unstructured(), allocation=GLOBAL
    ),
    "calibrated": lambda model, density, batches: gs.prune(
        model, density, pattern=gs.sparsity.Unstructured(), allocation=GLOBAL, calibration=batches
    ),
    "blocks of 8, calibrated": lambda model, density, batches: gs.prune(
        model, density, pattern=gs.Block(8), allocation=GLOBAL, calibration=batches
    ),
    "blocks of 8, rearranged, calibrated": rearranged,
}


def accuracy(model: nn.Module, task: Task) -> float:
    found = [
        evaluate(model, task, split, noise=False, timing=False) for split in ("test", "validation")
    ]
    return sum(e.correct for e in found) / sum(e.examples for e in found)


def rows(network: Network, task: Task, seed: int) -> Iterator[dict[str, Any]]:
    """The dense network, then every way at every density, at once and after training on."""
    settings = TrainingConfig(**network.settings, augment=False, seed=seed, device="cpu")
    torch.manual_seed(seed)
    dense = network.build(1.0, task.input_shape)
    fit(dense, task, settings)
    yield {"way": "dense", "accuracy": accuracy(dense, task)}
    examples = torch.from_numpy(task.features(task.train.x[:CALIBRATION]))
    tuning = dataclasses.replace(
        settings,
        epochs=max(settings.epochs // TUNED, 1),
        learning_rate=settings.learning_rate / TUNED,
    )
    for density in DENSITIES:
        for way, prune in WAYS.items():
            model = copy.deepcopy(dense)
            sparsifier = prune(model, density, list(examples.split(BATCH)))
            at_once = accuracy(model, task)
            fit(model, task, tuning, sparsifier=sparsifier)
            tuned = accuracy(model, task)
            yield {"way": way, "density": density, "accuracy": at_once, "tuned": tuned}


def page(results: list[dict[str, Any]], command: str) -> str:
    seeds = list(dict.fromkeys(line["seed"] for line in results))
    of_seeds = (
        f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of seeds {', '.join(map(str, seeds))}"
    )
    text = [
        "# Pruning a trained network",
        "",
        "Accuracy in % (*measured*) on the test and validation examples together, "
        f"{of_seeds}: right after pruning / after further training with the same "
        f"zeros, for a third of the dense training's epochs from a third of its learning rate. "
        "*magnitude*: the largest weights of the whole network; *calibrated*: the same, each "
        "weight times the size of its input, and batch-norm statistics measured again, on "
        f"{CALIBRATION} training examples; *rearranged*: "
        "similar outputs are made neighbors before blocks are chosen. The dense networks are "
        "those of [methods](methods.md), with ReLU and a short budget, so that the "
        "pruned ones were trained a third longer.",
        "",
    ]
    for name in dict.fromkeys(line["network"] for line in results):
        mine = [line for line in results if line["network"] == name]
        dense = statistics.fmean(100 * li["accuracy"] for li in mine if li["way"] == "dense")
        densities = [d for d in DENSITIES if any(line.get("density") == d for line in mine)]
        text += [
            f"## {name}",
            "",
            f"{SMALL[name].what}; dense {dense:.2f}.",
            "",
            f"| {' | '.join(['pruned', *(f'{1 - d:.0%} sparse' for d in densities)])} |",
            "|---|" + "---|" * len(densities),
        ]
        for way in WAYS:
            cells = []
            for density in densities:
                found = [li for li in mine if (li["way"], li.get("density")) == (way, density)]
                once, tuned = (
                    statistics.fmean(100 * line[key] for line in found)
                    for key in ("accuracy", "tuned")
                )
                cells.append(f"{once:.2f} / {tuned:.2f}")
            text.append(f"| {way} | {' | '.join(cells)} |")
        text.append("")
    text += [
        f"Command: `{command}`  ",
        *(f"Data: {source}  " for source in dict.fromkeys(line["source"] for line in results)),
        f"Machine: {results[0]['machine']}, one thread",
        "",
    ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for name in NETWORKS:
            task = load(SMALL[name].task)
            about = {"network": name, "seed": seed, "machine": machine(), "source": task.source}
            for row in rows(SMALL[name], task, seed):
                results.append({**about, **row})
                print(results[-1], file=sys.stderr, flush=True)
        # Seed by seed, so that a benchmark that is stopped leaves what it has.
        text = page(results, "python " + shlex.join(sys.argv))
        write(arguments.out, results, text)
    print(text)


if __name__ == "__main__":
    main()
