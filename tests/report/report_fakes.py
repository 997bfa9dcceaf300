"""Runs and experiments as training and search leave them, with figures that add up."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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


@dataclass
class Goal:
    name: str
    goal: str = "maximize"
    threshold: float | None = None


@dataclass
class Axis:
    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    options: Sequence[Any] | None = None


@dataclass
class Sum:
    coefficients: Mapping[str, float]
    at_most: float


@dataclass
class Record:
    number: int
    state: str = "complete"
    parameters: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    seconds: float | None = 41.0
    fidelity: str | None = None


@dataclass
class Front:
    trials: list[Record]
    feasible: bool


ACCURACY = Goal("accuracy", "maximize", 0.965)
DENSITY = Goal("density", "minimize", 0.15)
LATENCY = Goal("latency", "minimize", 0.004)


@dataclass
class Fake:
    """An experiment that holds its trials; the frontier is worked out the slow, plain way."""

    records: list[Record]
    metrics: Sequence[Goal] = (ACCURACY, DENSITY)
    parameters: Sequence[Axis] = ()
    constraints: Sequence[Sum] = ()
    budget: int | None = 1000
    name: str = "speech"
    settings: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def trials(self) -> list[Record]:
        return self.records

    def _misses(self, record: Record) -> float:
        missed = 0.0
        for metric in self.metrics:
            if metric.threshold is not None:
                gap = record.values[metric.name] - metric.threshold
                missed += max(0.0, -gap if metric.goal == "maximize" else gap)
        return missed

    def _beats(self, one: Record, other: Record) -> bool:
        signs = {m.name: 1 if m.goal == "maximize" else -1 for m in self.metrics}
        gaps = [sign * (one.values[n] - other.values[n]) for n, sign in signs.items()]
        return min(gaps) >= 0 and max(gaps) > 0

    def frontier(self) -> Front:
        complete = [r for r in self.records if r.state == "complete"]
        complete = [r for r in complete if all(m.name in r.values for m in self.metrics)]
        inside = [record for record in complete if self._misses(record) == 0]
        if not inside:
            return Front(sorted(complete, key=self._misses)[:3], False)
        best = [r for r in inside if not any(self._beats(other, r) for other in inside)]
        return Front(sorted(best, key=self._sorted), True)

    def _sorted(self, record: Record) -> list[float]:
        signs = [(m.name, -1 if m.goal == "maximize" else 1) for m in self.metrics]
        return [sign * record.values[name] for name, sign in signs]

    def importances(self) -> Mapping[str, Mapping[str, float]]:
        return self.shares


def experiment(
    count: int = 120, metrics: Sequence[Goal] = (ACCURACY, DENSITY), **changes: Any
) -> Fake:
    """A speech search of ``count`` trials that closes in on the thresholds; some fail."""
    rng = np.random.default_rng(3)
    parameters = (
        Axis("learning_rate", 1e-4, 0.3, log=True),
        Axis("weight_decay", 1e-6, 1e-2, log=True),
        Axis("weight_density.conv2", 0.02, 0.5),
        Axis("weight_density.linear1", 0.01, 0.5),
        Axis("log2_batch", 5, 8),
        Axis("rule", options=("static", "set", "rigl")),
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
        record = Record(number, "complete", chosen, values, None, float(rng.uniform(20, 60)))
        if number % 23 == 7:
            record = Record(number, "failed", chosen, {}, "the loss became NaN in epoch 2")
        records.append(record)
    made: dict[str, Any] = {
        "metrics": metrics,
        "parameters": parameters,
        "constraints": (Sum({"warmup.start": 1.0, "warmup.end": -1.0}, 0.0),),
        "settings": {"task": "speech_commands", "model": "speech_cnn", "epochs": 6},
        "shares": {
            "accuracy": {
                "learning_rate": 0.61,
                "rule": 0.2,
                "weight_decay": 0.12,
                "log2_batch": 0.07,
            },
            "density": {"weight_density.linear1": 0.7, "weight_density.conv2": 0.3},
        },
    }
    return Fake(records, **(made | changes))
