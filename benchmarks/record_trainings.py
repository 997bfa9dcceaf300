"""Record short real trainings at points spread over an experiment, as a table to search on.

    python benchmarks/record_trainings.py mnist|speech --trainings 300

Writes ``benchmarks/data/NAME_table.json`` after every training and continues when run again. The
points are of a scrambled Sobol sequence, so that any number of them fills the space. Each
training sees a part of the training split, so that it takes seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import qmc

from gossamer.data import load
from gossamer.data.task import Split
from gossamer.files import write_text
from gossamer.search.definition import from_mapping
from gossamer.search.networks import recipe_of
from gossamer.search.space.space import Space
from gossamer.training import train

_LOG = {"type": "float", "log": True}
_NETWORK: dict[str, dict[str, Any]] = {
    "epochs": {"type": "int", "low": 1, "high": 6},
    "batch_size": {"type": "int", "low": 16, "high": 128, "log": True},
    "learning_rate": {**_LOG, "low": 0.003, "high": 0.5},
    "warmup": {"type": "float", "low": 0.05, "high": 0.6},
    "weight_decay": {**_LOG, "low": 1e-6, "high": 1e-2},
    "boost_strength": {"type": "float", "low": 0.0, "high": 2.0},
    "optimizer": {"type": "choice", "options": ["sgd", "adamw"]},
}
# Name -> task, model, fixed settings, training and validation examples, parameters, thresholds.
TABLES: dict[str, dict[str, Any]] = {
    "mnist": {
        "settings": {
            "task": "mnist",
            "model": "image_cnn_sparse",
            "augment": False,
            "norm": True,
            "inference_factor": 1.0,
        },
        "examples": (2000, 2000),
        "thresholds": {"accuracy": 0.94, "density": 0.1, "activation_density": 0.12},
        "maximize": ["accuracy"],
        "parameters": {
            **_NETWORK,
            "weight_density.linear1": {**_LOG, "low": 0.005, "high": 0.5},
            "activation_density.conv1": {**_LOG, "low": 0.02, "high": 0.5},
            "activation_density.linear1": {**_LOG, "low": 0.02, "high": 0.5},
        },
    },
    "speech": {
        "settings": {
            "task": "speech_commands",
            "model": "speech_cnn_sparse",
            "augment": False,
            "channels": [16, 32],
            "hidden": 200,
        },
        "examples": (4000, 1000),
        "thresholds": {"accuracy": 0.60, "density": 0.06},
        "maximize": ["accuracy"],
        "parameters": {
            **_NETWORK,
            "weight_density.linear1": {**_LOG, "low": 0.005, "high": 0.5},
            "activation_density.conv2": {**_LOG, "low": 0.02, "high": 0.5},
            "activation_density.linear1": {**_LOG, "low": 0.02, "high": 0.5},
        },
    },
}


def record(name: str, trainings: int, path: Path) -> None:
    """Train the missing points of the table."""
    table = TABLES[name]
    data = {**table, "trials": []}
    if path.exists():
        data = json.loads(path.read_text())
    space = Space(
        from_mapping(
            {
                "name": name,
                "metrics": {"any": {"goal": "minimize"}},
                "parameters": table["parameters"],
            }
        )["parameters"]
    )
    points = [
        space.decode(unit)
        for unit in qmc.Sobol(len(space), scramble=True, seed=0).random(trainings)
    ]
    torch.set_num_threads(1)
    task = load(table["settings"]["task"])
    few, fewer = table["examples"]
    task = dataclasses.replace(
        task,
        train=Split(task.train.x[:few], task.train.y[:few]),
        validation=Split(task.validation.x[:fewer], task.validation.y[:fewer]),
    )
    for number in range(len(data["trials"]), trainings):
        before = time.process_time()
        trained = train(recipe_of(table["settings"], points[number]), task)
        result = trained.evaluate("validation", noise=False, timing=False)
        metrics = {
            "accuracy": result.accuracy,
            "loss": result.loss,
            "density": result.counts.density,
            "activation_density": result.counts.active_share,
            "macs": result.counts.macs()["both"],
        }
        seconds = time.process_time() - before
        data["trials"].append(
            {"parameters": points[number], "metrics": metrics, "cpu_seconds": round(seconds, 2)}
        )
        write_text(path, json.dumps(data, indent=0) + "\n")
        print(number, f"{seconds:.1f} s", metrics, file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(TABLES))
    parser.add_argument("--trainings", type=int, default=300)
    parser.add_argument("--out", type=Path, help="default: benchmarks/data/NAME_table.json")
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / "data" / f"{arguments.name}_table.json"
    record(arguments.name, arguments.trainings, out)


if __name__ == "__main__":
    main()
