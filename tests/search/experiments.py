"""A small experiment that the tests share."""

from gossamer.search import Experiment, Float, Int, Maximize, Minimize

PARAMETERS = [Float("rate", 1e-4, 0.3, log=True), Int("width", 1, 64)]
METRICS = [Maximize("accuracy", 0.9), Minimize("density", 0.2)]


def make(name="x", **changes):
    arguments = {
        "parameters": PARAMETERS,
        "metrics": METRICS,
        "budget": 8,
        "sampler": "random",
        **changes,
    }
    return Experiment(name, **arguments)


def good(trial):
    return {"accuracy": 0.95, "density": trial.parameters["width"] / 640}


def states(experiment):
    return [record.state for record in experiment.trials()]
