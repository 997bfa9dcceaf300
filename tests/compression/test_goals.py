"""Goals: what they mean, and every wrong spelling."""

import pytest

from gossamer.compression import Goals
from gossamer.errors import UserError
from gossamer.search import AtLeast, AtMost, Maximize, Minimize

DENSE = {"accuracy": 0.97, "loss": 0.1, "density": 1.0, "speedup": 1.0, "file_bytes": 7e6}


def metrics(own=(), dense=DENSE, **goals):
    return [
        (type(m), m.name, None if m.threshold is None else pytest.approx(m.threshold))
        for m in Goals(own=own, **goals).metrics(dense)
    ]


def test_without_goals_half_a_point_may_be_lost_and_speed_is_wanted():
    assert metrics() == [(Maximize, "speedup", None), (AtLeast, "accuracy", 0.965)]


@pytest.mark.parametrize(
    ("goals", "expected"),
    [
        (
            {"at_least": {"accuracy": 0.9}},
            [(Maximize, "speedup", None), (AtLeast, "accuracy", 0.9)],
        ),
        (
            {"lose_at_most": {"accuracy": 0.25}, "at_most": {"density": 0.15}},
            [(Maximize, "speedup", None), (AtMost, "density", 0.15), (AtLeast, "accuracy", 0.72)],
        ),
        (
            {"lose_at_most": {"loss": 0.5}, "minimize": ["file_bytes"]},
            [(Minimize, "file_bytes", None), (AtMost, "loss", 0.6)],
        ),
        (
            {"maximize": "accuracy", "at_least": {"accuracy": 0.9}, "at_most": {"file_bytes": 1e5}},
            [(Maximize, "accuracy", 0.9), (AtMost, "file_bytes", 1e5)],
        ),
        (
            {"minimize": ["latency"]},
            [(Minimize, "latency", None), (AtLeast, "accuracy", 0.965)],
        ),
    ],
)
def test_goals_become_metrics_of_a_search(goals, expected):
    assert metrics(**goals) == expected


def test_a_metric_of_ones_own_may_lose_a_two_hundredth():
    found = metrics(own=["score"], dense={"score": 40.0})
    assert found == [(Maximize, "speedup", None), (AtLeast, "score", 39.8)]
    found = metrics(own=["error"], dense={"error": 2.0}, at_most={"error": 3.0})
    assert found == [(Maximize, "speedup", None), (AtMost, "error", 3.0)]


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        ({"at_least": {"acuracy": 0.9}}, "at_least: no metric 'acuracy'; did you mean 'accuracy'"),
        ({"maximize": ["speed"]}, "maximize: no metric 'speed'"),
        ({"maximize": ["density"]}, "maximize density: less is better; use minimize"),
        ({"minimize": ["speedup"]}, "minimize speedup: more is better; use maximize"),
        ({"at_least": {"latency": 1.0}}, "at_least latency: less is better; use at_most"),
        ({"at_most": {"accuracy": 1.0}}, "at_most accuracy: more is better; use at_least"),
        ({"at_least": {"accuracy": "high"}}, "accuracy: must be a number"),
        ({"at_least": {"accuracy": float("nan")}}, "accuracy: must be a number"),
        ({"lose_at_most": {"accuracy": -0.1}}, "must not be negative"),
        (
            {"at_least": {"accuracy": 96.5}},
            "at_least: accuracy is a share, from 0 to 1, not 96.5; write 0.965 for 96.5 %",
        ),
        ({"at_most": {"density": 15}}, "at_most: density is a share, .* write 0.15 for 15 %"),
        ({"at_most": {"density": -0.1}}, "at_most: density is a share, from 0 to 1, not -0.1$"),
        ({"at_most": {"file_bytes": -5}}, "at_most: file_bytes is never negative, so not -5$"),
        ({"lose_at_most": {"accuracy": 5}}, "lose_at_most: accuracy is a share, .* write 0.05"),
        (
            {"lose_at_most": {"accuracy": 0.1}, "at_least": {"accuracy": 0.9}},
            "accuracy has two thresholds",
        ),
    ],
)
def test_goals_that_make_no_sense(goals, message):
    with pytest.raises(UserError, match=message):
        Goals(**goals)


def test_the_direction_of_a_metric_of_ones_own():
    """More of an error would pass as better, and a search end with the worst network."""
    own = {"own": ["error"], "dense": {"error": 2.0}}
    for goals in ({}, {"lose_at_most": {"error": 0.1}}, {"maximize": ["speedup"]}):
        with pytest.raises(UserError, match=r"more of 'error' better, or less.* network has 2"):
            metrics(**own, **goals)
    found = metrics(**own, lose_at_most={"error": 0.5}, minimize=["error"])
    assert found == [(Minimize, "error", 2.5)]
    assert metrics(own=["score"], dense={"score": 2.0}) == [
        (Maximize, "speedup", None),
        (AtLeast, "score", 1.99),
    ]


@pytest.mark.parametrize(("name", "loss"), [("accuracy", 0.98), ("density", 0.1)])
def test_a_loss_that_no_network_has(name, loss):
    dense = {"accuracy": 0.97, "density": 1.0}
    with pytest.raises(UserError, match=f"lose_at_most {name}: no network loses {loss} against"):
        metrics(dense=dense, lose_at_most={name: loss})
    assert metrics(dense={"accuracy": 0.0})[1] == (AtLeast, "accuracy", 0.0)


def test_an_accuracy_of_ones_own_may_be_in_percent():
    found = metrics(own=["accuracy"], dense={"accuracy": 97.0}, lose_at_most={"accuracy": 2})
    assert found == [(Maximize, "speedup", None), (AtLeast, "accuracy", 95.0)]
