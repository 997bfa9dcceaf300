"""What stopping early saves: recorded learning curves of real trainings, replayed under each rule.

    GOSSAMER_DATA=... python benchmarks/stopping.py record --trials 80
    python benchmarks/stopping.py replay

``record`` trains networks at random settings to their end, one after the other, and adds each to
``docs/results/stopping_curves.json``; called again, it goes on. ``replay`` runs the search again
in many random orders from the recorded curves, and writes ``docs/results/stopping.md`` and
``.json``: the epochs saved, the frontier's hypervolume beside that of the full curves, and how
many trials were stopped that would have ended inside the thresholds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gossamer as gs

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CURVES = RESULTS / "stopping_curves.json"

SETTINGS = {
    "task": "speech_commands",
    "model": "speech_cnn",
    "channels": [16, 32],
    "hidden": 200,
    "epochs": 12,
    "batch_size": 32,
    "weight_density.conv1": 0.5,
    "activation_density.conv1": 0.15,
}
PARAMETERS = [
    gs.Float("learning_rate", 0.003, 0.3, log=True),
    gs.Float("weight_decay", 1e-5, 3e-3, log=True),
    gs.Float("weight_density.conv2", 0.03, 1.0, log=True),
    gs.Float("weight_density.linear1", 0.01, 0.5, log=True),
    gs.Float("activation_density.conv2", 0.05, 0.3, log=True),
    gs.Float("activation_density.linear1", 0.05, 0.3, log=True),
    gs.Float("boost_strength", 0.0, 2.0),
]


def record(trials: int, file: Path) -> None:
    """Trains until `file` has so many curves."""
    from gossamer.data import load
    from gossamer.files import replacing
    from gossamer.runtime import machine
    from gossamer.search import recipe_of
    from gossamer.training import train

    experiment = gs.Experiment(
        "curves", PARAMETERS, [gs.Maximize("accuracy")], budget=trials, sampler="random", seed=1
    )
    points = [experiment.ask().parameters for _ in range(trials)]
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"trainings": []}
    task = load(SETTINGS["task"])
    kept |= {"settings": SETTINGS, "source": task.source, "machine": machine()}
    for number, point in enumerate(points[len(kept["trainings"]) :], len(kept["trainings"])):
        started = time.perf_counter()
        epochs: list[dict[str, float]] = []

        def on_epoch(epoch: Any, epochs: list[dict[str, float]] = epochs) -> None:
            epochs.append(
                {"accuracy": round(epoch.accuracy, 5), "seconds": round(epoch.seconds, 3)}
            )

        trained = train(recipe_of(SETTINGS, point), task, on_epoch=on_epoch)
        found = trained.evaluate("validation", noise=False, timing=False)
        kept["trainings"].append(
            {"parameters": point, "density": found.counts.density, "epochs": epochs}
        )
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(kept, indent=1))
        print(
            f"{number + 1}/{trials}: accuracy {epochs[-1]['accuracy']:.3f}, "
            f"density {found.counts.density:.3f}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["record"])
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--curves", type=Path, default=CURVES)
    given = parser.parse_args()
    record(given.trials, given.curves)


if __name__ == "__main__":
    main()
