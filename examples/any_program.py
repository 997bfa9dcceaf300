"""Searches over a program in any language that prints JSON, and stops hopeless trials early."""

from pathlib import Path

import gossamer as gs

if __name__ == "__main__":
    program = Path(__file__).with_name("any_program.sh")
    experiment = gs.Experiment(
        "program",
        parameters=[gs.Float("x", 0, 1), gs.Float("y", 0.01, 1, log=True)],
        metrics=[gs.Maximize("accuracy", threshold=0.8), gs.Minimize("density", threshold=0.3)],
        budget=30,
        stopping=[gs.search.Violated(["density"]), gs.search.OutOfReach(confidence=0.9)],
        command=gs.search.Command(f"sh '{program}' {{x}} {{y}}", timeout=60),
    )
    experiment.run()
    for trial in experiment.trials():
        if trial.state == "stopped":
            print(f"trial {trial.number} stopped after {len(trial.reports)} epochs: {trial.reason}")
    frontier = experiment.frontier()
    print("inside the thresholds:" if frontier.feasible else "nearest to the thresholds:")
    for trial in frontier.trials:
        print(trial.parameters, trial.values)
