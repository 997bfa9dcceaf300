"""Definitions of a trained network's metrics, which runs, searches and reports share.

Each definition reads its metric from a run's ``metrics.json``, or the same contents of a trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.energy import MEMORIES
from gossamer.errors import UserError, nearest
from gossamer.numbers import Goal, names_in, whole
from gossamer.settings import Settings

Run = Mapping[str, Any]


@dataclass(frozen=True)
class NetworkMetric:
    """A number about one trained network.

    Attributes:
        name: its name in experiments, settings and trials.
        meaning: in one line.
        read: returns the number from the contents of ``metrics.json``; None if it is missing.
        provenance: ``counted``, ``measured`` or ``modeled``.
        goal: whether more or less is better.
        unit: of the number; empty for a share or a ratio.
        deployed: whether it needs a measurement of the exported network on the engine.
        share: whether it is from 0 to 1.
        count: whether it is a number of things, or the mean of one over examples.
    """

    name: str
    meaning: str
    read: Callable[[Run], float | None]
    provenance: Literal["counted", "measured", "modeled"] = "measured"
    goal: Goal = Goal.MINIMIZE
    unit: str = ""
    deployed: bool = False
    share: bool = False
    count: bool = False

    def check_number(self, number: float, where: str) -> None:
        """Raise UserError naming ``where`` for a value or threshold that the metric cannot have."""
        if self.share and not 0 <= number <= 1:
            hint = f"; write {number / 100:g} for {number:g} %" if 1 < number <= 100 else ""
            raise UserError(f"{where}: {self.name} is a share, from 0 to 1, not {number:g}{hint}")
        if number < 0:
            raise UserError(f"{where}: {self.name} is never negative, so not {number:g}")


def value(run: Run, *keys: str) -> float | None:
    """Return the finite number under nested ``keys``; None if the run has none."""
    entry: Any = run
    for key in keys:
        if not isinstance(entry, Mapping) or key not in entry:
            return None
        entry = entry[key]
    is_number = isinstance(entry, int | float) and not isinstance(entry, bool)
    return float(entry) if is_number and math.isfinite(entry) else None


def read(*keys: str) -> Callable[[Run], float | None]:
    """Return a function that reads the number under nested ``keys`` of a run."""
    return lambda run: value(run, *keys)


def error_rate(accuracy: float) -> float:
    """Return the share of wrong answers, without the digits that a subtraction adds."""
    return round(1.0 - accuracy, 12)


def _error_rate(run: Run) -> float | None:
    accuracy = value(run, "accuracy")
    return None if accuracy is None else error_rate(accuracy)


#: Every metric by its name.
METRICS: dict[str, NetworkMetric] = {
    metric.name: metric
    for metric in (
        NetworkMetric(
            "accuracy",
            "share of correct answers",
            read("accuracy"),
            goal=Goal.MAXIMIZE,
            share=True,
        ),
        NetworkMetric("error_rate", "share of wrong answers", _error_rate, share=True),
        NetworkMetric("loss", "mean cross-entropy", read("loss")),
        NetworkMetric(
            "density",
            "share of non-zeros among the weights that can be sparse",
            read("weights", "density"),
            "counted",
            share=True,
        ),
        NetworkMetric(
            "nonzero", "non-zero weights", read("weights", "nonzero"), "counted", count=True
        ),
        NetworkMetric(
            "activation_density",
            "share of non-zero outputs of activation functions",
            read("activations", "density"),
            share=True,
        ),
        NetworkMetric(
            "macs",
            "multiply-adds of an inference whose weight and input are both non-zero",
            read("macs", "both"),
            "counted",
            count=True,
        ),
        NetworkMetric(
            "file_bytes",
            "size of model.onnx, sparse weights stored sparse",
            read("file_bytes"),
            "counted",
            unit="bytes",
            deployed=True,
        ),
        NetworkMetric(
            "speedup",
            "time of the dense network over its own, engine, batch 1, measured in turns",
            read("deployed", "speedup"),
            goal=Goal.MAXIMIZE,
            deployed=True,
        ),
        NetworkMetric(
            "latency",
            "seconds of an inference, engine, batch 1, on engine_threads threads",
            read("deployed", "latency"),
            unit="s",
            deployed=True,
        ),
        NetworkMetric(
            "throughput",
            "examples a second, engine, batches of engine_batch, on engine_threads threads",
            read("deployed", "throughput"),
            goal=Goal.MAXIMIZE,
            unit="1/s",
            deployed=True,
        ),
        NetworkMetric(
            "energy",
            "share of the dense network's energy with weights in energy_memory, the geometric "
            "middle of the modeled range",
            read("deployed", "energy"),
            "modeled",
            deployed=True,
        ),
    )
}


def metric_named(name: str) -> NetworkMetric:
    """Return the metric named ``name``.

    Raises:
        UserError: no such metric; the message lists all of them.
    """
    if name not in METRICS:
        raise UserError(f"no metric '{name}' of a network: {nearest(name, METRICS)}")
    return METRICS[name]


def known_metrics(run: Run) -> dict[str, float]:
    """Return all metrics that a run has."""
    return {n: value for n, m in METRICS.items() if (value := m.read(run)) is not None}


def read_metrics(run: Run, names: Iterable[str]) -> dict[str, float]:
    """Read metrics by name.

    Args:
        run: the contents of ``metrics.json``.
        names: names in the table.

    Raises:
        UserError: the run has no such number; the message includes the engine's reason if it
            refused the network.
    """
    values = {}
    for name in names:
        value = metric_named(name).read(run)
        if value is None:
            engine = run.get("engine")
            refused = engine.get("refused") if isinstance(engine, Mapping) else None
            raise UserError(f"metric '{name}' has no value: {refused or 'it was not measured'}")
        values[name] = value
    return values


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Raise UserError naming ``where`` for values that no network has, such as an accuracy of 96.5.

    Args:
        values: name -> number, or (number, standard deviation); other metrics' may be any.
        where: begins the message.
    """
    for name, number in values.items():
        if name in METRICS:
            METRICS[name].check_number(number[0] if isinstance(number, tuple) else number, where)


@dataclass(frozen=True)
class MeasureSettings(Settings):
    """Settings of a measurement, and the metrics stored with a trial.

    Attributes:
        measure: metrics that every trial of a search stores in addition to those of its experiment.
        engine_threads: threads of the engine.
        engine_batch: examples at a time for ``throughput``.
        energy_memory: where the weights live for ``energy``, one of
            :data:`gossamer.energy.MEMORIES`.
        dense_reference: run directory or ONNX file of the network that ``speedup`` and
            ``energy`` compare with; by default the dense network of the same layers.
        measure_on: name or address of the node of a Ray cluster to measure on; by default the
            machine that trained.

    Raises:
        UserError: a value out of its range, or an unknown name.
    """

    measure: tuple[str, ...] = ()
    engine_threads: int = 1
    engine_batch: int = 64
    energy_memory: str = "L2"
    dense_reference: str = ""
    measure_on: str = ""

    def __post_init__(self) -> None:
        named = names_in(self.measure, "measure must be a list of metrics")
        for name in named:
            metric_named(name)
        object.__setattr__(self, "measure", named)
        for name, most in (("engine_threads", 256), ("engine_batch", 1_000_000)):
            object.__setattr__(self, name, whole(getattr(self, name), 1, name, most))
        if self.energy_memory not in MEMORIES:
            known = nearest(str(self.energy_memory), MEMORIES)
            raise UserError(f"energy_memory: no '{self.energy_memory}'; {known}")
        if not isinstance(self.dense_reference, str):
            raise UserError(
                "dense_reference must be a run directory or an ONNX file, not "
                f"{self.dense_reference!r}"
            )
        if not isinstance(self.measure_on, str):
            raise UserError(f"measure_on must be a node of a Ray cluster, not {self.measure_on!r}")
