"""Optimizers that need an environment of their own, called through lines of JSON.

    PYTHON benchmarks/search_peers.py ax|sigoptlite

`search.py` starts this with the Python of that environment. The first line in describes the
problem; each further line holds a trial's values. Each line out is a point and the CPU seconds
that it took.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

warnings.simplefilter("ignore")
Ask = Callable[[], dict[str, Any]]
Tell = Callable[[list[float]], None]


def ax(problem: dict[str, Any]) -> tuple[Ask, Tell]:
    """Ax's fast strategy; thresholds as constraints on the objectives, which it understands."""
    import logging

    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    logging.disable(logging.CRITICAL)
    client = Client(random_seed=problem["seed"])
    configs: list[Any] = []
    for name, p in problem["parameters"].items():
        if p["type"] == "choice":
            configs.append(
                ChoiceParameterConfig(
                    name=name, values=p["options"], parameter_type="str", is_ordered=False
                )
            )
        else:
            scaling = "log" if p["log"] else "linear"
            configs.append(
                RangeParameterConfig(
                    name=name,
                    bounds=(p["low"], p["high"]),
                    parameter_type=p["type"],
                    scaling=scaling,
                )
            )
    client.configure_experiment(parameters=configs)
    names = list(problem["thresholds"])
    client.configure_optimization(
        objective=", ".join(f"-{name}" for name in names),
        outcome_constraints=[f"{n} <= {limit}" for n, limit in problem["thresholds"].items()],
    )
    client.configure_generation_strategy(initialization_random_seed=problem["seed"])
    under_way: list[int] = []

    def ask() -> dict[str, Any]:
        ((index, point),) = client.get_next_trials(max_trials=1).items()
        under_way.append(index)
        return dict(point)

    def tell(values: list[float]) -> None:
        client.complete_trial(under_way.pop(0), dict(zip(names, values, strict=True)))

    return ask, tell


def sigoptlite(problem: dict[str, Any]) -> tuple[Ask, Tell]:
    """The open engine of the platform that introduced metric thresholds.

    It optimizes at most two metrics: a third one is a constraint.
    """
    import random

    import numpy as np
    from sigoptlite.driver import LocalAPI

    np.random.seed(problem["seed"])  # noqa: NPY002 - it draws from the global generator
    random.seed(problem["seed"])
    kinds = {"float": "double", "int": "int"}
    parameters: list[dict[str, Any]] = []
    for name, p in problem["parameters"].items():
        if p["type"] == "choice":
            parameters.append(
                {"name": name, "type": "categorical", "categorical_values": p["options"]}
            )
            continue
        parameter = {
            "name": name,
            "type": kinds[p["type"]],
            "bounds": {"min": p["low"], "max": p["high"]},
        }
        if p["log"] and p["type"] == "float":
            parameter["transformation"] = "log"
        parameters.append(parameter)
    api = LocalAPI("default")
    api.experiments_post(
        {
            "name": "benchmark",
            "parameters": parameters,
            "metrics": [
                {
                    "name": n,
                    "objective": "minimize",
                    "strategy": "optimize" if i < 2 else "constraint",
                    "threshold": limit,
                }
                for i, (n, limit) in enumerate(problem["thresholds"].items())
            ],
            "observation_budget": problem["budget"],
            "parallel_bandwidth": 1,
        }
    )
    under_way: list[str] = []

    def ask() -> dict[str, Any]:
        suggestion = api.suggestions_post(None)
        under_way.append(suggestion["id"])
        return dict(suggestion["assignments"])

    def tell(values: list[float]) -> None:
        names = problem["thresholds"]
        api.observations_post(
            {
                "suggestion": under_way.pop(0),
                "values": [{"name": n, "value": v} for n, v in zip(names, values, strict=True)],
            }
        )

    return ask, tell


def main() -> None:
    """Asks and tells until the lines in end."""
    out = sys.stdout
    sys.stdout = sys.stderr  # what the libraries print is not part of the conversation
    ask, tell = {"ax": ax, "sigoptlite": sigoptlite}[sys.argv[1]](json.loads(input()))
    spent = 0.0
    while True:
        before = time.process_time()
        point = ask()
        spent += time.process_time() - before
        print(json.dumps({"point": point, "cpu": spent}), file=out, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        before = time.process_time()
        tell(json.loads(line))
        spent = time.process_time() - before


if __name__ == "__main__":
    main()
