"""The table of a network's metrics, and how they are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.deploy import METRICS, MeasureSettings
from gossamer.deploy.metrics import metric_named, read_metrics
from gossamer.errors import UserError
from gossamer.search import Maximize, Minimize

RUN = {
    "accuracy": 0.9,
    "loss": 0.3,
    "weights": {"density": 0.1, "nonzero": 1000},
    "activations": {"density": 0.2},
    "macs": {"both": 50.0},
    "file_bytes": 4096,
    "deployed": {"speedup": 3.0, "latency": 2e-5, "throughput": 1e5, "energy": 0.25},
}


def test_the_table_reads_what_a_run_holds() -> None:
    assert read_metrics(RUN, METRICS) == {
        "accuracy": 0.9,
        "error_rate": 0.1,
        "loss": 0.3,
        "density": 0.1,
        "nonzero": 1000,
        "activation_density": 0.2,
        "macs": 50.0,
        "file_bytes": 4096,
        "speedup": 3.0,
        "latency": 2e-5,
        "throughput": 1e5,
        "energy": 0.25,
    }


def test_every_metric_says_which_way_is_better() -> None:
    goals = {"maximize": Maximize, "minimize": Minimize}
    assert {name for name, m in METRICS.items() if m.goal == "maximize"} == {
        "accuracy",
        "speedup",
        "throughput",
    }
    assert all(goals[m.goal](name).goal == m.goal for name, m in METRICS.items())


def test_the_page_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "experiments.md").read_text()
    for name, metric in METRICS.items():
        assert f"| `{name}` | {metric.goal} | {metric.provenance} |" in page


def test_an_unknown_name_lists_the_table() -> None:
    with pytest.raises(UserError, match=r"did you mean 'latency'.*accuracy, activation_density"):
        metric_named("latenccy")


def test_what_the_engine_refuses_has_its_reason() -> None:
    refused = {"accuracy": 0.9, "engine": {"refused": "no operator 'Loop'"}}
    with pytest.raises(UserError, match="'speedup' has no value: no operator 'Loop'"):
        read_metrics(refused, ["accuracy", "speedup"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": ["fastness"]}, "no metric 'fastness'"),
        ({"measure": 3}, "measure must be a list"),
        ({"engine_threads": 0}, "engine_threads must be a whole number of at least 1"),
        ({"engine_batch": 1.5}, "engine_batch must be"),
        ({"energy_memory": "L3"}, "energy_memory: no 'L3'"),
        ({"dense_reference": 1}, "dense_reference must be a run directory"),
        ({"measure_on": 1}, "measure_on must be a node of a Ray cluster"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MeasureSettings(**settings)  # type: ignore[arg-type]


def test_names_may_be_one_text() -> None:
    assert MeasureSettings(measure="speedup, latency").measure == ("speedup", "latency")  # type: ignore[arg-type]
