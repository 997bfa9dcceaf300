"""Runs and experiments as training and search leave them, with figures that add up."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gossamer.search import (
    Choice,
    Float,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    Snapshot,
    TrialRecord,
)
from gossamer.search.metrics import Metric
from gossamer.search.trials.trial import State

LAYERS = (  # name, kind, weights, multiply-adds, weight density, input density
    ("conv1", "Conv2d", 1_600, 1_254_400, 0.5, 1.0),
    ("conv2", "Conv2d", 102_400, 10_240_000, 0.2, 0.095),
    ("linear1", "Linear", 1_600_000, 1_600_000, 0.1, 0.125),
    ("output", "Linear", 12_000, 12_000, 1.0, 0.1),
)
LEVELS = [round(0.05 * step, 2) for step in range(11)]


def run(sparse: bool = True, **changes: Any) -> dict[str, Any]:
    """The metrics.json of a speech network of 1,716,000 weights, tested on 4,000 examples."""
    layers = []
    for name, kind, weights, macs, weight_density, input_density in LAYERS:
        density = weight_density if sparse else 1.0
        active = input_density if sparse else min(1.0, 5 * input_density)
        layers.append(
            {
                "name": name,
                "kind": kind,
                "weights": weights,
                "nonzero": round(weights * density),
                "density": density,
                "input_density": active,
                "macs_dense": macs,
                "macs_weights": macs * density,
                "macs_both": macs * density * active,
            }
        )
    total = sum(layer["weights"] for layer in layers)
    nonzero = sum(layer["nonzero"] for layer in layers)
    fall = 1.3 if sparse else 1.8
    start = 3876 if sparse else 3892
    correct = [round(max(start * (1 - fall * level), 300)) for level in LEVELS]
    made = {
        "task": "speech_commands",
        "synthetic": False,
        "source": "Google Speech Commands v1, CC BY 4.0",
        "model": "speech_cnn",
        "settings": {
            "epochs": 2,
            "learning_rate": 0.1,
            "density": {"conv2": 0.2, "linear1": 0.1} if sparse else 1.0,
        },
        "machine": "Xeon Example 2.1 GHz, 2 cores, avx512, Linux",
        "seed": 0,
        "epochs": 2,
        "split": "test",
        "accuracy": correct[0] / 4000,
        "correct": correct[0],
        "examples": 4000,
        "loss": 0.1312 if sparse else 0.1105,
        "noise": {"levels": LEVELS, "correct": correct, "score": sum(correct), "of": 44_000},
        "weights": {
            "total": total,
            "nonzero": nonzero,
            "density": nonzero / total,
            "parameters": total + 1_076,
            "parameters_nonzero": nonzero + 1_076,
            "bytes": 4 * (nonzero + 1_076) + (math.ceil(total / 8) if sparse else 0),
        },
        "activations": {
            "density": 0.107 if sparse else 0.52,
            "layers": {"kwinners1": 0.095, "kwinners2": 0.125, "kwinners3": 0.1},
        },
        "macs": {
            "dense": sum(layer["macs_dense"] for layer in layers),
            "weights": sum(layer["macs_weights"] for layer in layers),
            "both": sum(layer["macs_both"] for layer in layers),
        },
        "layers": layers,
        "seconds": {"batch1": 0.0021 if sparse else 0.0014},
        "file_bytes": 979_000 if sparse else 6_870_000,
        "engine": {
            "threads": 1,
            "isa": "avx2",
            "seconds": {"batch1": 6e-5, "batch64": 5e-5}
            if sparse
            else {"batch1": 6e-4, "batch64": 4e-4},
        },
        "history": [
            {"epoch": 1, "loss": 0.9, "accuracy": 0.8, "learning_rate": 0.1, "seconds": 60.0},
            {"epoch": 2, "loss": 0.3, "accuracy": 0.95, "learning_rate": 0.01, "seconds": 30.5},
        ],
    }
    return copy.deepcopy(made) | changes


def pair() -> dict[str, dict[str, Any]]:
    return {"dense": run(sparse=False), "sparse": run()}


def goal(name: str, goal: str = "maximize", threshold: float | None = None) -> Metric:
    return (Maximize if goal == "maximize" else Minimize)(name, threshold)


def record(
    number: int,
    state: State = "complete",
    parameters: Mapping[str, Any] | None = None,
    values: Mapping[str, float] | None = None,
    reason: str | None = None,
    seconds: float | None = 41.0,
    fidelity: str | None = None,
    **more: Any,
) -> TrialRecord:
    told = dict(values or {})
    return TrialRecord(
        number, state, dict(parameters or {}), told, reason, seconds, fidelity, **more
    )


ACCURACY = goal("accuracy", "maximize", 0.965)
DENSITY = goal("density", "minimize", 0.15)
LATENCY = goal("latency", "minimize", 0.004)


def snapshot(records: Sequence[TrialRecord], **changes: Any) -> Snapshot:
    """An experiment called speech with these trials."""
    made: dict[str, Any] = {"metrics": (ACCURACY, DENSITY), "budget": 1000} | changes
    return Snapshot("speech", trials=tuple(records), **made)


def experiment(
    count: int = 120, metrics: Sequence[Metric] = (ACCURACY, DENSITY), **changes: Any
) -> Snapshot:
    """A speech search of ``count`` trials that closes in on the thresholds; some fail."""
    rng = np.random.default_rng(3)
    parameters = (
        Float("learning_rate", 1e-4, 0.3, log=True),
        Float("weight_decay", 1e-6, 1e-2, log=True),
        Float("weight_density.conv2", 0.02, 0.5),
        Float("weight_density.linear1", 0.01, 0.5),
        Int("log2_batch", 5, 8),
        Choice("rule", ["static", "set", "rigl"]),
    )
    records = []
    for number in range(count):
        closeness = number / max(count - 1, 1)
        density = float(np.exp(rng.normal(-1.0 - 1.8 * closeness, 0.6)).clip(0.006, 1.0))
        rate = float(10 ** rng.uniform(-4, -0.53))
        fit = 0.977 - 0.006 * abs(math.log10(rate) + 1.3) ** 1.6 - 0.00035 / density
        accuracy = float(np.clip(fit - abs(rng.normal(0, 0.004)), 0.08, 0.98))
        chosen = {
            "learning_rate": rate,
            "weight_decay": float(10 ** rng.uniform(-6, -2)),
            "weight_density.conv2": min(0.5, 1.4 * density),
            "weight_density.linear1": min(0.5, 0.9 * density),
            "log2_batch": int(rng.integers(5, 9)),
            "rule": str(rng.choice(["static", "set", "rigl"])),
        }
        values = {"accuracy": accuracy, "density": density, "latency": 0.001 + 0.02 * density}
        seconds = float(rng.uniform(20, 60))
        if number % 23 == 7:
            records.append(record(number, "failed", chosen, {}, "the loss became NaN in epoch 2"))
        else:
            records.append(record(number, "complete", chosen, values, None, seconds))
    made: dict[str, Any] = {
        "metrics": metrics,
        "parameters": parameters,
        "constraints": (LinearConstraint({"warmup.start": 1.0, "warmup.end": -1.0}, 0.0),),
        "settings": {"task": "speech_commands", "model": "speech_cnn", "epochs": 6},
        "importances": {
            "accuracy": {
                "learning_rate": 0.61,
                "rule": 0.2,
                "weight_decay": 0.12,
                "log2_batch": 0.07,
            },
            "density": {"weight_density.linear1": 0.7, "weight_density.conv2": 0.3},
        },
    }
    return snapshot(records, **(made | changes))
