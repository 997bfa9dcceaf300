"""Checks of the contract of `gossamer.search.Sampler`, for tests of samplers of your own.

    @pytest.mark.parametrize("check", gossamer.search.testing.SAMPLER_CHECKS)
    def test_my_sampler(check):
        check(MySampler())

Each check takes a sampler and raises `AssertionError` (or what the sampler itself raises) where it
breaks the contract. Gossamer's own samplers are tested with the same checks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gossamer.search.experiment import Experiment
from gossamer.search.metrics import AtMost, Maximize, Metric, Minimize
from gossamer.search.samplers.history import History
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.samplers.suggester import Suggester
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.parameters import Choice, Float, Grid, Int, Parameter, Prior
from gossamer.search.space.space import Point, Space

# Every kind of parameter, conditions on one and on two others, and constraints.
PARAMETERS: tuple[Parameter, ...] = (
    Float("rate", 1e-4, 0.3, log=True, prior=Prior(1e-2, 3.0)),
    Float("start", 0.0, 1.0),
    Float("end", 0.0, 1.0),
    Float("stepped", 0.0, 1.0, step=0.25),
    Int("layers", 1, 6),
    Choice("optimizer", ["adam", "sgd"]),
    Float("momentum", 0.0, 0.99, when={"optimizer": ["sgd"]}),
    Choice("nesterov", [True, False], when={"optimizer": ["sgd"], "layers": [2, 3]}),
    Grid("width", [16, 64, 256]),
    Float("fixed", 2.0, 2.0),
    Choice("only", ["this"]),
)
CONSTRAINTS = (
    LinearConstraint({"start": 1.0, "end": -1.0}, at_most=-0.1),
    LinearConstraint({"layers": 1.0, "end": 2.0}, at_most=5.0),
)
METRICS: tuple[Metric, ...] = (
    Maximize("accuracy", 0.8),
    Minimize("density", 0.3),
    AtMost("latency", 3.0),
)


def evaluate(point: Point) -> dict[str, float]:
    """The values of `METRICS` at a point of the space of `PARAMETERS`."""
    known: dict[str, Any] = dict(point)
    accuracy = 1.0 - abs(known["start"] - 0.2) - 0.1 * (known["optimizer"] == "sgd")
    density = known["end"] + 0.05 * known["layers"]
    return {
        "accuracy": accuracy,
        "density": density,
        "latency": float(np.log2(known["width"]) - 4.0),
    }


def check_points_are_in_the_space(sampler: Sampler) -> None:
    """Every point has the parameters that apply, in bounds, on grids, within constraints."""
    for count in (0, 1, 12):
        point: dict[str, Any] = dict(_suggest(sampler, _history(count), seed=count))
        sgd = point["optimizer"] == "sgd"
        absent = set() if sgd else {"momentum"}
        if not sgd or point["layers"] not in (2, 3):
            absent.add("nesterov")
        names = [p.name for p in PARAMETERS if p.name not in absent]
        _require(list(point) == names, f"{point} does not have the parameters {names}")
        for name, holds in (
            ("rate", 1e-4 <= point["rate"] <= 0.3),
            ("start", 0.0 <= point["start"] <= 1.0),
            ("end", 0.0 <= point["end"] <= 1.0),
            ("stepped", point["stepped"] in (0.0, 0.25, 0.5, 0.75, 1.0)),
            ("layers", type(point["layers"]) is int and 1 <= point["layers"] <= 6),
            ("optimizer", point["optimizer"] in ("adam", "sgd")),
            ("momentum", not sgd or 0.0 <= point["momentum"] <= 0.99),
            ("width", point["width"] in (16, 64, 256)),
            ("fixed", point["fixed"] == 2.0),
            ("only", point["only"] == "this"),
            ("a constraint", point["start"] - point["end"] <= -0.1 + 1e-9),
            ("a constraint", point["layers"] + 2.0 * point["end"] <= 5.0 + 1e-9),
        ):
            _require(holds, f"{name} of {point} is outside its bounds")


def check_the_same_history_gives_the_same_point(sampler: Sampler) -> None:
    """A suggestion depends on seed and history alone, and leaves the history as it is."""
    history = _history(12)
    before = copy.deepcopy(history)
    fresh = copy.deepcopy(sampler)
    first = _suggest(sampler, history)
    same = list(history.points) == list(before.points) and list(history.pending) == list(
        before.pending
    )
    _require(
        same and np.array_equal(history.values, before.values), "the sampler changed the history"
    )
    _suggest(sampler, _history(10), seed=1)
    _require(_suggest(sampler, before) == first, "asked again, it suggests another point")
    _require(_suggest(fresh, before) == first, "another instance suggests another point")


def check_trials_that_failed_stopped_or_run(sampler: Sampler) -> None:
    """Trials of every state are borne, also when there is no other."""
    experiment = _experiment(sampler)
    for _ in range(max(sampler.startup, 1)):
        experiment.tell(experiment.ask(), error="out of memory")
    stopped = experiment.ask()
    stopped.report(1, evaluate(dict(stopped.parameters)), of=10)
    experiment.tell(stopped, stopped="not promising")
    for _ in range(sampler.startup):
        trial = experiment.ask()
        experiment.tell(trial, evaluate(dict(trial.parameters)))
    experiment.ask()
    experiment.tell(experiment.ask(), error="out of memory")
    states = {record.state for record in experiment.trials()}
    _require({"failed", "stopped", "running"} <= states, f"there are only {states} trials")


def check_parallel_suggestions_differ(sampler: Sampler) -> None:
    """Points that are asked for one after the other, with no result between, are different."""
    history = _history(12)
    for _ in range(3):
        point = _suggest(sampler, history)
        _require(point not in history.pending, f"{point} is under way already")
        history = History(history.points, history.values, [], [*history.pending, point])


def check_metrics_and_thresholds(sampler: Sampler) -> None:
    """One to three metrics, each with or without a threshold, all trials inside, some or none."""
    for metrics in (
        [Minimize("density")],
        [Maximize("accuracy"), Minimize("density")],
        [Maximize("accuracy", 0.99), Minimize("density", 0.01)],
        [Maximize("accuracy", 0.5), Minimize("density", 0.3, log=True)],
        [Maximize("accuracy", -9.0), Minimize("density", 9.0), AtMost("latency", 9.0)],
    ):
        _suggest(sampler, _history(12, metrics), metrics)


def check_values_of_any_size(sampler: Sampler) -> None:
    """Metrics that never change, and values near the largest and the smallest that there are."""
    limited: list[Metric] = [Maximize("accuracy", 0.8), Minimize("density", 0.3)]
    free: list[Metric] = [Maximize("accuracy"), Minimize("density")]
    history = _history(12, free)
    for scale, metrics in ((0.0, limited), (1e299, free), (1e-299, limited)):
        values = history.values * scale
        _suggest(sampler, History(history.points, values, [], history.pending), metrics)


def check_a_small_space_is_tried_whole(sampler: Sampler) -> None:
    """No point comes twice before every point was tried; then one comes twice."""
    space, metrics = Space([Int("n", 0, 11)]), [Minimize("loss")]
    points: list[Point] = []
    for _ in range(13):
        values = np.array([[(int(p["n"]) - 5.0) ** 2] for p in points])  # type: ignore[arg-type]
        history = History(points, values.reshape(-1, 1), [], [])
        points = [*points, Suggester(sampler, space, metrics, 0).suggest(history)]
    first = sorted(int(p["n"]) for p in points[:12])  # type: ignore[arg-type]
    _require(first == list(range(12)), f"12 trials tried only {sorted(set(first))} of 0 to 11")


def check_nothing_to_vary(sampler: Sampler) -> None:
    """A space of one point."""
    space, metrics = Space([Float("x", 1.0, 1.0)]), [Minimize("loss")]
    for count in (0, 12):
        history = History([{"x": 1.0}] * count, np.arange(float(count))[:, None], [], [])
        point = Suggester(sampler, space, metrics, 0).suggest(history)
        _require(point == {"x": 1.0}, f"{point} is not the only point")


SAMPLER_CHECKS: tuple[Callable[[Sampler], None], ...] = (
    check_points_are_in_the_space,
    check_the_same_history_gives_the_same_point,
    check_trials_that_failed_stopped_or_run,
    check_parallel_suggestions_differ,
    check_metrics_and_thresholds,
    check_values_of_any_size,
    check_a_small_space_is_tried_whole,
    check_nothing_to_vary,
)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _experiment(sampler: Sampler) -> Experiment:
    return Experiment(
        "check", PARAMETERS, METRICS, constraints=CONSTRAINTS, budget=100, sampler=sampler
    )


def _suggest(
    sampler: Sampler, history: History, metrics: Sequence[Metric] = METRICS, seed: int = 0
) -> Point:
    return Suggester(sampler, Space(PARAMETERS, CONSTRAINTS), metrics, seed).suggest(history)


def _history(count: int, metrics: Sequence[Metric] = METRICS) -> History:
    """History of so many complete random trials, one that failed and one that runs; or of none."""
    space, rng = Space(PARAMETERS, CONSTRAINTS), np.random.default_rng(0)
    points = [space.draw(rng) for _ in range(count)]
    values = [[evaluate(point)[metric.name] for metric in metrics] for point in points]
    others = [space.draw(rng) for _ in range(2)] if count else []
    return History(points, np.array(values).reshape(-1, len(metrics)), others[:1], others[1:])
