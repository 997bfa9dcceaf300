"""Epochs saved by stopping early: recorded learning curves, replayed under each rule.

    GOSSAMER_DATA=... python benchmarks/stopping.py record --trials 72
    python benchmarks/stopping.py replay

``record`` trains networks at random settings to their end, one after the other, and adds each to
``docs/results/stopping_curves.json``; called again, it continues. ``replay`` runs the search again
from the recorded curves, in many random orders and one trial at a time, and writes
``docs/results/stopping.md`` and ``.json``: the epochs saved, the frontier's hypervolume beside
that of the full curves, and how many trials were stopped wrongly: they would have ended on the
frontier, or inside the thresholds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import gossamer as gs
from gossamer.search import Dominated, Halving, OutOfReach, TrialRecord, Violated
from gossamer.search.frontier import frontier

RESULTS = Path(__file__).parents[1] / "docs" / "results"

EXAMPLES = {"train": 1500, "validation": 1000}
SETTINGS = {
    "task": "mnist",
    "model": "mlp",
    "hidden": 256,
    "epochs": 16,
    "batch_size": 64,
}
PARAMETERS = [
    gs.Float("learning_rate", 0.001, 1.0, log=True),
    gs.Float("weight_decay", 1e-5, 1e-2, log=True),
    gs.Float("weight_density.linear1", 0.005, 0.5, log=True),
    gs.Float("weight_density.linear2", 0.005, 0.5, log=True),
    gs.Float("activation_density", 0.02, 0.5, log=True),
    gs.Float("boost_strength", 0.0, 2.0),
]
THRESHOLDS = {"accuracy": 0.91, "density": 0.15}
ORDERS = 5

RULES: dict[str, list[Any]] = {
    "none": [],
    "violated": [Violated(["density"])],
    "out of reach, 0.95": [OutOfReach(0.95)],
    "dominated, 0.95": [Dominated(0.95)],
    "violated + out of reach, 0.95": [Violated(["density"]), OutOfReach(0.95)],
    "all three, 0.95": [Violated(["density"]), OutOfReach(0.95), Dominated(0.95)],
    "all three, 0.9": [Violated(["density"]), OutOfReach(0.9), Dominated(0.9)],
    "all three, 0.8": [Violated(["density"]), OutOfReach(0.8), Dominated(0.8)],
    "violated + halving": [Violated(["density"]), Halving(reduction=3)],
}


def record(trials: int, file: Path) -> None:
    """Train until `file` has so many curves."""
    from gossamer.data import Split, load
    from gossamer.files import write_text
    from gossamer.runtime import machine
    from gossamer.search import recipe_of
    from gossamer.training import train

    drawn = gs.Experiment("curves", PARAMETERS, [gs.Maximize("accuracy")], sampler="random", seed=1)
    points = [drawn.ask().parameters for _ in range(trials)]
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"trainings": []}
    whole = load(SETTINGS["task"])
    parts = {
        split: Split(getattr(whole, split).x[:count], getattr(whole, split).y[:count])
        for split, count in EXAMPLES.items()
    }
    task = dataclasses.replace(whole, **parts)
    stored |= {"settings": SETTINGS, "examples": EXAMPLES, "machine": machine()}
    for number, point in enumerate(points[len(stored["trainings"]) :], len(stored["trainings"])):
        started = time.perf_counter()
        epochs: list[dict[str, float]] = []

        def on_epoch(epoch: Any, epochs: list[dict[str, float]] = epochs) -> None:
            epochs.append(
                {"accuracy": round(epoch.accuracy, 5), "density": round(epoch.density or 0.0, 6)}
            )

        train(recipe_of(SETTINGS, point), task, on_epoch=on_epoch)
        stored["trainings"].append(
            {
                "parameters": point,
                "seconds": round(time.perf_counter() - started, 2),
                "epochs": epochs,
            }
        )
        write_text(file, json.dumps(stored, indent=1) + "\n")
        print(f"{number + 1}/{trials}: {epochs[-1]}, {stored['trainings'][-1]['seconds']} s")


def search(trainings: list[dict[str, Any]], rules: list[Any]) -> list[TrialRecord]:
    """The search that gets these trainings one after the other."""
    metrics = [
        gs.Maximize("accuracy", THRESHOLDS["accuracy"]),
        gs.Minimize("density", THRESHOLDS["density"]),
    ]
    experiment = gs.Experiment(
        "replay",
        [gs.Int("training", 0, len(trainings) - 1)],
        metrics,
        budget=len(trainings),
        sampler="random",
        stopping=rules,
    )

    def train(trial: gs.search.Trial) -> dict[str, float]:
        epochs = trainings[trial.number]["epochs"]
        for step, values in enumerate(epochs, 1):
            # Masks say from the first epoch on how dense the network will be.
            known = {"accuracy": values["accuracy"], "density": epochs[-1]["density"]}
            trial.report(step, known, of=len(epochs))
        return dict(epochs[-1])

    experiment.run(train, progress=False)
    return experiment.trials()


def hypervolume(records: list[TrialRecord]) -> float:
    """Of the complete trials inside the thresholds, up to the ideal point (1, 0)."""
    inside = sorted(
        (r.values["density"], r.values["accuracy"])
        for r in records
        if r.state == "complete"
        and r.values["accuracy"] >= THRESHOLDS["accuracy"]
        and r.values["density"] <= THRESHOLDS["density"]
    )
    volume, best = 0.0, THRESHOLDS["accuracy"]
    for density, accuracy in inside:
        if accuracy > best:
            volume += (THRESHOLDS["density"] - density) * (accuracy - best)
            best = accuracy
    return volume / (THRESHOLDS["density"] * (1 - THRESHOLDS["accuracy"]))


def measure(trainings: list[dict[str, Any]], rules: list[Any], order: np.ndarray) -> dict[str, Any]:
    """One order of the trainings under one set of rules."""
    ordered = [trainings[i] for i in order]
    records = search(ordered, rules)
    whole = [
        TrialRecord(i, "complete", {}, dict(t["epochs"][-1]), None, 1.0)
        for i, t in enumerate(ordered)
    ]
    metrics = [
        gs.Maximize("accuracy", THRESHOLDS["accuracy"]),
        gs.Minimize("density", THRESHOLDS["density"]),
    ]
    best = {r.number for r in frontier(metrics, whole).trials}
    stopped = [r for r in records if r.state == "stopped"]
    inside = [
        r.number
        for r in stopped
        if all(m.violation(whole[r.number].values[m.name]) <= 0 for m in metrics)
    ]
    spent = sum(len(r.reports) for r in records)
    total = sum(len(t["epochs"]) for t in ordered)
    return {
        "epochs_saved": 1 - spent / total,
        "stopped": len(stopped),
        "stopped_inside": len(inside),
        "stopped_on_frontier": sum(r.number in best for r in stopped),
        "hypervolume": hypervolume(records) / hypervolume(whole),
    }


def replay(file: Path, out: Path) -> None:
    """Every set of rules over the same random orders."""
    stored = json.loads(file.read_text())
    trainings = stored["trainings"]
    orders = [np.random.default_rng(seed).permutation(len(trainings)) for seed in range(ORDERS)]
    results = {
        name: [measure(trainings, rules, order) for order in orders]
        for name, rules in RULES.items()
    }
    accuracies = [t["epochs"][-1]["accuracy"] for t in trainings]
    inside = sum(
        t["epochs"][-1]["accuracy"] >= THRESHOLDS["accuracy"]
        and t["epochs"][-1]["density"] <= THRESHOLDS["density"]
        for t in trainings
    )
    rows = [
        f"| {name} | {mean(runs, 'epochs_saved'):.1%} | {mean(runs, 'hypervolume'):.4f} | "
        f"{min(r['hypervolume'] for r in runs):.4f} | {mean(runs, 'stopped'):.1f} | "
        f"{mean(runs, 'stopped_inside'):.2f} | {mean(runs, 'stopped_on_frontier'):.2f} |"
        for name, runs in results.items()
    ]
    text = f"""# Stopping early: what it saves, what it costs

{len(trainings)} recorded trainings of {len(trainings[0]["epochs"])} epochs each at random
settings (`{SETTINGS["model"]}` of {SETTINGS["hidden"]} units, {EXAMPLES["train"]:,} examples of
MNIST, one-cycle schedule; accuracy on {EXAMPLES["validation"]:,} validation examples
{min(accuracies):.3f} to {max(accuracies):.3f}, *measured*; densities *counted*). Thresholds:
accuracy at least {THRESHOLDS["accuracy"]}, density at most {THRESHOLDS["density"]}; {inside}
trainings end inside. Replayed through the search, one trial at a time, in {ORDERS} random orders;
means over the orders.

    python benchmarks/stopping.py record --trials {len(trainings)}
    python benchmarks/stopping.py replay

| rules | epochs saved | hypervolume | worst order | stopped | would end inside | on frontier |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Hypervolume is that between the thresholds and (accuracy 1, density 0), of complete trials inside
both, relative to that of all trainings. The last columns count stopped trials that would have
ended inside the thresholds, and on the frontier. `dominated` and `halving` may rightly stop a
trial that would have ended inside, because a better one is known. Trials in the last column were
stopped wrongly, and so were those in the column before it by `violated` and `out of reach`.

The settings are random, so most trials are bad: a search whose sampler avoids bad settings has
less to save.
"""
    (out / "stopping.md").write_text(text)
    data = {"thresholds": THRESHOLDS, "orders": ORDERS, "curves": file.name, "rules": results}
    (out / "stopping.json").write_text(json.dumps(data, indent=1) + "\n")
    print("\n".join(rows))


def mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(run[key] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["record", "replay"])
    parser.add_argument("--trials", type=int, default=72, help="curves to come to, for record")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of curves and results")
    arguments = parser.parse_args()
    curves = arguments.out / "stopping_curves.json"
    if arguments.what == "record":
        record(arguments.trials, curves)
    else:
        replay(curves, arguments.out)


if __name__ == "__main__":
    main()
