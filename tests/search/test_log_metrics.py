"""Metrics on a logarithmic scale, beside the same metrics with logarithms taken by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from gossamer.errors import UserError
from gossamer.report.choice import knee
from gossamer.report.plots.scatters import axis_of
from gossamer.search import AtMost, Experiment, Float, Maximize, Minimize, Space
from gossamer.search.importances import importances
from gossamer.search.ranking import order
from gossamer.search.samplers.gp import GPSampler
from gossamer.search.samplers.history import History
from gossamer.search.samplers.warm_start import Earlier
from gossamer.search.snapshot import Snapshot
from gossamer.search.stopping.learning_curves import Curve, Forecast

SPACE = Space([Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)])
PLAIN = [Minimize("density", 0.15, log=True), Maximize("ratio", log=True), AtMost("s", 2.0)]
BY_HAND = [Minimize("density", math.log(0.15)), Maximize("ratio"), AtMost("s", 2.0)]
ACCURACIES = [0.6, 0.78, 0.85, 0.9, 0.92]


def points(count, seed=0):
    drawn = np.random.default_rng(seed).random((count, 2))
    return [{"x": x, "y": y} for x, y in drawn.tolist()]


def values(tried):
    return np.array([[0.3 * p["x"] ** 3 + 1e-4, 1 + 50 * p["y"], 3 * p["x"]] for p in tried])


def logs(plain):
    return np.column_stack([np.log(plain[:, :2]), plain[:, 2]])


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_the_sampler_models_the_logarithm(noisy, warm):
    tried, before = points(12), points(8, seed=1)
    plain = values(tried)
    noise = 0.01 * np.ones_like(plain) if noisy else None
    by_hand = None if noise is None else np.column_stack([noise[:, :2] / plain[:, :2], noise[:, 2]])
    earlier = [
        Earlier(before, scaled, before[:1]) if warm else None
        for scaled in (values(before), logs(values(before)))
    ]
    suggested = [
        GPSampler().suggest(SPACE, metrics, history, np.random.default_rng(0))
        for metrics, history in (
            (PLAIN, History(tried, plain, [], [], earlier[0], noise)),
            (BY_HAND, History(tried, logs(plain), [], [], earlier[1], by_hand)),
        )
    ]
    assert suggested[0] == pytest.approx(suggested[1])
    linear = [Minimize("density", 0.15), Maximize("ratio"), AtMost("s", 2.0)]
    history = History(tried, plain, [], [], earlier[0], noise)
    assert GPSampler().suggest(SPACE, linear, history, np.random.default_rng(0)) != suggested[0]


def test_forecasts_follow_the_logarithm():
    starts = np.geomspace(1e-3, 0.5, 12)
    curves = {
        log: [
            Curve(i, np.ones(1, np.int64), 2, {"m": np.array([f(v)])}, {"m": f(v / 3)})
            for i, v in enumerate(starts)
        ]
        for log, f in ((True, float), (False, math.log))
    }
    ours, by_hand = (Forecast(Minimize("m", log=log), curves[log]) for log in (True, False))
    for value in (0.002, 0.04):
        expected = by_hand.expected(0.5, math.log(value))
        assert ours.expected(0.5, value) == pytest.approx(math.exp(expected))
        best = by_hand.best(0.5, math.log(value), 0.9)
        assert ours.best(0.5, value, 0.9) == pytest.approx(math.exp(best))
    assert Forecast(Minimize("m", log=True), []).best(0.5, 0.1, 0.9) == 0.0  # nothing is better
    assert Forecast(Maximize("m", log=True), []).best(0.5, 0.1, 0.9) > 1e300


def test_the_nearest_trial_is_nearest_by_ratio():
    # Of four times and of three times the threshold each, and of twice and five times.
    rows = np.array([[0.6, 0.3], [0.3, 0.75], [0.45, 0.45]])
    metrics = [Minimize("a", 0.15, log=True), Minimize("b", 0.15, log=True)]
    by_hand = [Minimize("a", math.log(0.15)), Minimize("b", math.log(0.15))]
    assert list(order(metrics, rows)) == list(order(by_hand, np.log(rows)))
    assert metrics[0].violation(0.3) == pytest.approx(math.log(2))


@pytest.fixture
def experiment(tmp_path):
    """Five trials, from 10 to 100 % of the weights."""
    made = Experiment(
        "logarithmic",
        metrics=[Maximize("accuracy", 0.5), Minimize("density", 1.0, log=True)],
        parameters=[Float("x", 0.0, 1.0)],
        budget=20,
        storage=f"sqlite:///{tmp_path / 'x.db'}",
    )
    for i, accuracy in enumerate(ACCURACIES):
        made.add({"x": i / 4}, {"accuracy": accuracy, "density": 0.1 * 10 ** (0.25 * i)})
    return made


def test_pages_draw_a_logarithmic_axis(experiment):
    snapshot = Snapshot.of(experiment)
    axis = axis_of(snapshot, snapshot.metrics[1])
    assert axis.scale.log
    assert axis.scale.position(math.sqrt(0.1)) == pytest.approx(0.5)
    assert knee(snapshot).number == 1
    plain = dataclasses.replace(snapshot, metrics=[snapshot.metrics[0], Minimize("density", 1.0)])
    assert knee(plain).number == 2
    # Stairs of the gains in accuracy, as high as the logarithm of the threshold over the density.
    widths = np.diff([0.5, *ACCURACIES])
    heights = math.log(10) * (1.0 - 0.25 * np.arange(5))
    assert snapshot.hypervolume_so_far[-1] == (4, pytest.approx(widths @ heights))


def test_importances_are_those_of_the_logarithm(experiment):
    for i in range(8):
        experiment.add({"x": i / 9}, {"accuracy": 0.6, "density": math.exp(i) / 1e4})
    records = experiment.trials()
    space = Space(experiment.parameters)
    assert importances(experiment.metrics, space, records)["density"]["x"] == pytest.approx(1.0)


def test_it_is_stored_and_read_again(experiment, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(
        'name = "logarithmic"\nbudget = 20\n[metrics.accuracy]\ngoal = "maximize"\n'
        '[metrics.density]\ngoal = "minimize"\nthreshold = 0.15\nlog = true\n'
        '[parameters.x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n'
    )
    again = Experiment.from_toml(file, storage=experiment.storage)
    assert again.metrics[1] == Minimize("density", 0.15, log=True)
    again.set_threshold("density", 0.1)
    assert experiment.frontier().trials
    assert experiment.metrics[1] == Minimize("density", 0.1, log=True)


def test_a_value_without_a_logarithm_fails(experiment):
    trial = experiment.ask()
    experiment.tell(trial, {"accuracy": 0.9, "density": -0.1})
    record = experiment.trials()[-1]
    assert record.state == "failed"
    assert record.reason == "metric 'density' is -0.1, which has no logarithm"
    with pytest.raises(UserError, match=r"add: metric 'density' is -1, which has no logarithm"):
        experiment.add({"x": 0.3}, {"accuracy": 0.9, "density": -1})
    with pytest.raises(UserError, match="correct: metric 'density' is -2"):
        experiment.correct(0, {"density": -2.0})
    experiment.add({"x": 0.3}, {"accuracy": 0.9, "density": 0.0})  # counts as 1e-9
    assert experiment.frontier().trials[0].values["accuracy"] == pytest.approx(0.92)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0, "log": True}, "threshold must be above 0"),
        ({"threshold": -1.0, "log": True}, "threshold must be above 0"),
        ({"log": 1}, "log must be true or false, not 1"),
        ({"log": "yes"}, "log must be true or false, not 'yes'"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Minimize("density", **arguments)
