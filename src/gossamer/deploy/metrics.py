"""Definitions of a trained network's metrics, which runs, searches and reports share.

Each definition reads its metric from a run's ``metrics.json``, or the same contents of a trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from gossamer.energy import MEMORIES
from gossamer.errors import UserError, nearest
from gossamer.numbers import Goal, whole

Run = Mapping[str, Any]


@dataclass(frozen=True)
class NetworkMetric:
    """A number about one trained network.

    Attributes:
        name: its name in experiments, settings and trials.
        goal: whether more or less is better.
        provenance: ``counted``, ``measured`` or ``modeled``.
        unit: of the number; empty for a share or a ratio.
        meaning: in one line.
        read: returns the number from the contents of ``metrics.json``; None if it is missing.
        deployed: whether it needs a measurement of the exported network on the engine.
        share: whether it is from 0 to 1.
    """

    name: str
    goal: Goal
    provenance: Literal["counted", "measured", "modeled"]
    unit: str
    meaning: str
    read: Callable[[Run], float | None]
    deployed: bool = False
    share: bool = False

    def check_threshold(self, number: float, where: str) -> None:
        """Raise UserError naming ``where`` for a threshold that no share can be, such as 96.5."""
        if self.share and not 0 <= number <= 1:
            hint = f"; write {number / 100:g} for {number:g} %" if 1 < number <= 100 else ""
            raise UserError(f"{where}: {self.name} is a share, from 0 to 1, not {number:g}{hint}")


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


def log_share(share: float) -> float:
    """Return the natural logarithm of a share, of at least 1 in 100,000."""
    return math.log(max(share, 1e-5))


def _log_error(run: Run) -> float | None:
    accuracy = value(run, "accuracy")
    return None if accuracy is None else log_share(1.0 - accuracy)


def _log_density(run: Run) -> float | None:
    density = value(run, "weights", "density")
    return None if density is None else log_share(density)


def _log_count(*keys: str) -> Callable[[Run], float | None]:
    """Return a function that reads the logarithm of the count under nested keys."""

    def log_count(run: Run) -> float | None:
        count = value(run, *keys)
        return None if count is None else math.log(max(count, 1))

    return log_count


#: Every metric by its name.
METRICS: dict[str, NetworkMetric] = {
    metric.name: metric
    for metric in (
        NetworkMetric(
            "accuracy",
            Goal.MAXIMIZE,
            "measured",
            "",
            "share of correct answers",
            read("accuracy"),
            share=True,
        ),
        NetworkMetric("loss", Goal.MINIMIZE, "measured", "", "mean cross-entropy", read("loss")),
        NetworkMetric(
            "density",
            Goal.MINIMIZE,
            "counted",
            "",
            "share of non-zeros among the weights that can be sparse",
            read("weights", "density"),
            share=True,
        ),
        NetworkMetric(
            "nonzero", Goal.MINIMIZE, "counted", "", "non-zero weights", read("weights", "nonzero")
        ),
        NetworkMetric(
            "activation_density",
            Goal.MINIMIZE,
            "measured",
            "",
            "share of non-zero outputs of activation functions",
            read("activations", "density"),
            share=True,
        ),
        NetworkMetric(
            "macs",
            Goal.MINIMIZE,
            "counted",
            "",
            "multiply-adds of an inference whose weight and input are both non-zero",
            read("macs", "both"),
        ),
        NetworkMetric(
            "log_error",
            Goal.MINIMIZE,
            "measured",
            "",
            "natural logarithm of the share of wrong answers",
            _log_error,
        ),
        NetworkMetric(
            "log_density",
            Goal.MINIMIZE,
            "counted",
            "",
            "natural logarithm of density",
            _log_density,
        ),
        NetworkMetric(
            "log_nonzero",
            Goal.MINIMIZE,
            "counted",
            "",
            "natural logarithm of the non-zero weights",
            _log_count("weights", "nonzero"),
        ),
        NetworkMetric(
            "log_macs",
            Goal.MINIMIZE,
            "counted",
            "",
            "natural logarithm of macs",
            _log_count("macs", "both"),
        ),
        NetworkMetric(
            "file_bytes",
            Goal.MINIMIZE,
            "counted",
            "bytes",
            "size of model.onnx, sparse weights stored sparse",
            read("file_bytes"),
            deployed=True,
        ),
        NetworkMetric(
            "speedup",
            Goal.MAXIMIZE,
            "measured",
            "",
            "time of the dense network over its own, engine, batch 1, measured in turns",
            read("deployed", "speedup"),
            deployed=True,
        ),
        NetworkMetric(
            "latency",
            Goal.MINIMIZE,
            "measured",
            "s",
            "seconds of an inference, engine, batch 1, on engine_threads threads",
            read("deployed", "latency"),
            deployed=True,
        ),
        NetworkMetric(
            "throughput",
            Goal.MAXIMIZE,
            "measured",
            "1/s",
            "examples a second, engine, batches of engine_batch, on engine_threads threads",
            read("deployed", "throughput"),
            deployed=True,
        ),
        NetworkMetric(
            "energy",
            Goal.MINIMIZE,
            "modeled",
            "",
            "share of the dense network's energy with weights in energy_memory, the geometric "
            "middle of the modeled range",
            read("deployed", "energy"),
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


@dataclass(frozen=True)
class MeasureSettings:
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
        named = self.measure
        if isinstance(named, str):
            named = tuple(part.strip() for part in named.split(",") if part.strip())
        if not isinstance(named, list | tuple) or not all(isinstance(n, str) for n in named):
            raise UserError(f"measure must be a list of metrics, not {named!r}")
        for name in named:
            metric_named(name)
        object.__setattr__(self, "measure", tuple(named))
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

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))
