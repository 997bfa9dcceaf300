"""Two metrics with thresholds over any function: a beam that is light and stiff enough."""

import gossamer as gs


def beam(trial: gs.search.Trial) -> dict[str, float]:
    width, height = trial.parameters["width"], trial.parameters["height"]
    return {
        "weight": 7.85 * width * height,  # grams per centimeter
        "sag": 1000 / (width * height**3),  # millimeters
    }


if __name__ == "__main__":
    experiment = gs.Experiment(
        "beam",
        parameters=[gs.Float("width", 0.5, 10), gs.Float("height", 0.5, 10)],
        metrics=[gs.Minimize("weight", threshold=120), gs.Minimize("sag", threshold=1.5)],
        constraints=[gs.search.LinearConstraint({"height": 1, "width": -4}, at_most=0)],
        budget=30,
    )
    experiment.run(beam)
    frontier = experiment.frontier()
    print("inside the thresholds:" if frontier.feasible else "nearest to the thresholds:")
    for trial in frontier.trials:
        print(trial.parameters, trial.values)
