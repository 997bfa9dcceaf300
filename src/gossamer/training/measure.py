"""Measurements of an exported network on this machine, or on a node of a cluster."""

from __future__ import annotations

import math
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from gossamer.data.download import cache_folder
from gossamer.deploy.bench import INPUTS, take_turns
from gossamer.deploy.dense import dense_file
from gossamer.deploy.metrics import MeasureSettings
from gossamer.energy import EnergyModel, Work, count_work
from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, Plan
from gossamer.runtime.arrays import batches
from gossamer.runtime.importer import read
from gossamer.training.ray_node import measure_on_node

# Rounds of turns: so many at least, up to three times as many while they differ, and no more
# after so many seconds.
_ROUNDS = 5
_NOISY = 0.05  # half the distance between the quartiles of the rounds, as a share of their median
_LONG_SECONDS = 10.0
_TURNS = 3
# Of a normal distribution: half the distance between its quartiles in standard deviations, and
# the standard deviation of the median of n values in those of one over the root of n.
_HALF_QUARTILES, _OF_MEDIAN = 0.6745, 1.2533
_PATIENCE_SECONDS = 600.0  # then another's measurement is taken to hang


@contextmanager
def quiet_turn() -> Iterator[None]:
    """Hold a lock, so that only one process of this user measures on this machine at a time.

    Where the lock cannot be made, measure without it.
    """
    place = cache_folder() / f"measuring-{socket.gethostname()}.lock"
    lock = FileLock(place, timeout=_PATIENCE_SECONDS)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, Timeout):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def measure(
    model: Path,
    inputs: NDArray[Any],
    settings: MeasureSettings | None = None,
    plan: Path | None = None,
) -> dict[str, Any]:
    """Measure an ONNX file's size, its times on the engine and its energy.

    Args:
        model: the file.
        inputs: examples ``[N, ...]`` that the engine is planned and timed on.
        settings: threads, batch, memory, the network to compare with, and where to measure.
        plan: file for the engine's plan; what is there is replaced.

    Returns:
        The entries of ``metrics.json`` that :data:`gossamer.deploy.metrics.METRICS` reads:
        ``file_bytes``, ``engine`` (seconds per example; or the error, if the engine refuses the
        file), ``energy`` (counted work) and ``deployed``, whose ``spread`` is half the distance
        between the quartiles of the ``rounds``, as a share of their median.

    Raises:
        UserError: the network to compare with is missing or cannot be run, the node to measure
            on cannot be reached, or the plan cannot be written.
    """
    settings = settings or MeasureSettings()
    if settings.measure_on:
        return measure_on_node(model, inputs, settings, plan)
    measured: dict[str, Any] = {"file_bytes": model.stat().st_size}
    inputs = np.ascontiguousarray(inputs, np.float32)
    with quiet_turn(), tempfile.TemporaryDirectory() as folder:
        try:
            engine = Engine(model, threads=settings.engine_threads, sample=inputs)
            own, dense = count_work(engine)
        except UserError as error:  # a user's network may have any operator
            return {**measured, "engine": {"refused": str(error)}}
        if plan is not None:
            engine.plan.save(plan)
        reference = _reference(model, inputs, settings, Path(folder))
        if settings.dense_reference and reference is not None:
            dense = count_work(reference)[0]
        times = _times(engine, reference, inputs, settings)
    latency, batch = times["latency"], settings.engine_batch
    measured["engine"] = {
        "threads": engine.threads,
        "isa": engine.isa,
        "seconds": {"batch1": latency, f"batch{batch}": 1 / times["throughput"]},
    }
    works = {"own": own, "dense": dense}
    measured["energy"] = {side: [w.as_dict() for w in listed] for side, listed in works.items()}
    measured["deployed"] = {
        **times,
        **_energy(own, dense, settings.energy_memory),
        "threads": engine.threads,
        "batch": batch,
        "memory": settings.energy_memory,
        "reference": settings.dense_reference or "its own layers",
    }
    return measured


def _reference(
    model: Path, inputs: NDArray[Any], settings: MeasureSettings, folder: Path
) -> Engine | None:
    """Return the engine of the dense network; None if the network itself is dense."""
    named = Path(settings.dense_reference)
    if not settings.dense_reference:
        path = dense_file(onnx.load(model), folder)
        if path is None:
            return None
    else:
        path = named / "model.onnx" if named.is_dir() else named
        if not path.is_file():
            raise UserError(
                f"dense_reference: no file {path}; name a run directory or an ONNX file"
            )
    graph, plan = read(path), None
    if settings.dense_reference and named.is_dir():
        with suppress(UserError):  # to choose a run's kernels again would take seconds
            plan = Plan.load(named / "plan.json", graph, chosen_isa())[0]
    return Engine(graph, threads=settings.engine_threads, sample=inputs, plan=plan)


def _times(
    engine: Engine, reference: Engine | None, inputs: NDArray[Any], settings: MeasureSettings
) -> dict[str, Any]:
    """Measure ``speedup``, ``latency``, ``throughput`` and their ``spread``, in rounds of turns."""
    contestants = {"own": engine, **({} if reference is None else {"dense": reference})}
    singles = [x for (x,) in batches(engine.graph, [inputs], 1, INPUTS)]
    many = [x for (x,) in batches(engine.graph, [inputs], settings.engine_batch, INPUTS)]
    rounds: dict[str, list[float]] = {"speedup": [], "latency": [], "throughput": []}
    started = time.perf_counter()
    while True:
        turns = take_turns(contestants, singles, turns=_TURNS, threads=engine.threads)
        own = turns["own"].seconds
        rounds["speedup"].append(turns["dense"].seconds / own if reference is not None else 1.0)
        rounds["latency"].append(own)
        batch = take_turns({"own": engine}, many, turns=_TURNS, threads=engine.threads)
        rounds["throughput"].append(settings.engine_batch / batch["own"].seconds)
        spread = {name: _spread(values) for name, values in rounds.items()}
        count = len(rounds["latency"])
        if count >= _ROUNDS and max(spread.values()) <= _NOISY:
            break
        if count >= 3 * _ROUNDS or time.perf_counter() - started > _LONG_SECONDS:
            break
    medians = {name: float(np.median(values)) for name, values in rounds.items()}
    return {**medians, "spread": spread, "rounds": count}


def _spread(values: list[float]) -> float:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / (2 * middle))


def _energy(own: list[Work], dense: list[Work], memory: str) -> dict[str, Any]:
    """Return the share of the dense network's energy: the middle of its range, and the range."""
    try:
        ratio = EnergyModel().ratio(dense, own, memory)
    except ZeroDivisionError:  # a network that does nothing
        return {}
    low, high = 1 / ratio.high, 1 / ratio.low
    return {"energy": math.sqrt(low * high), "energy_range": [low, high]}


def returned(values: Mapping[str, float], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's values; those measured repeatedly have their standard deviation.

    The deviation is that of a median of normally distributed rounds. ``speedup_spread`` and the
    like are added.

    Args:
        values: metrics by name.
        run: the return value of `measure`.
    """
    deployed = run.get("deployed", {})
    spread: Mapping[str, float] = deployed.get("spread", {})
    # A run directory of an earlier release does not have its rounds.
    factor = _OF_MEDIAN / _HALF_QUARTILES / math.sqrt(deployed.get("rounds", _ROUNDS))
    noisy = {
        name: (values[name], abs(values[name]) * share * factor)
        for name, share in spread.items()
        if name in values
    }
    return {**values, **noisy, **{f"{name}_spread": share for name, share in spread.items()}}
