"""A function under two linear constraints, x + y >= 1 and x - y >= 1.

The constrained Adjiman function, after SigOpt's public examples. Its maximum, 2.0218 at x = 2 and
y = 0.106, is allowed.
"""

from math import cos, sin

import gossamer as gs


def adjiman(trial: gs.search.Trial) -> dict[str, float]:
    x, y = trial.parameters["x"], trial.parameters["y"]
    return {"value": x / (y**2 + 1) - cos(x) * sin(y)}


if __name__ == "__main__":
    experiment = gs.Experiment(
        "adjiman",
        parameters=[gs.Float("x", -1, 2), gs.Float("y", -1, 1)],
        metrics=[gs.Maximize("value")],
        constraints=[
            gs.search.LinearConstraint({"x": -1, "y": -1}, at_most=-1),
            gs.search.LinearConstraint({"x": -1, "y": 1}, at_most=-1),
        ],
        budget=30,
    )
    experiment.run(adjiman)
    (best,) = experiment.frontier().trials
    print(
        f"{best.values['value']:.4f} at x = {best.parameters['x']:.3f}, "
        f"y = {best.parameters['y']:.3f}"
    )
    assert best.parameters["x"] + best.parameters["y"] >= 1 - 1e-9
    assert best.parameters["x"] - best.parameters["y"] >= 1 - 1e-9
