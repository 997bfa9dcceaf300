"""Measurement on a chosen node of a Ray cluster instead of the node that trained."""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.deploy.metrics import MeasureSettings
from gossamer.errors import UserError
from gossamer.extras import needed
from gossamer.files import read_bytes, read_text, write_text

_RETRIES = 3  # of a measurement whose worker is lost


def measure_on_node(
    model: Path, inputs: NDArray[Any], settings: MeasureSettings, plan: Path | None
) -> dict[str, Any]:
    """Run `gossamer.training.measure.measure` on ``settings.measure_on``; return its result.

    The files are sent with the call, so the node needs gossamer but no shared folder. The task
    reserves none of the CPUs that Ray gives to trials.

    Raises:
        UserError: Ray is not installed, no cluster runs here, it has no such node, the node was
            lost, or it cannot measure.
    """
    with needed("measure_on"):
        ray: Any = importlib.import_module("ray")
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
        except ConnectionError:
            raise UserError(
                f"measure_on = '{settings.measure_on}' is a node of a Ray cluster, and none runs "
                "here; join one with 'ray start', or leave measure_on out"
            ) from None
    node = _node(ray, settings.measure_on)
    there = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    call = ray.remote(num_cpus=0, max_retries=_RETRIES, scheduling_strategy=there)(_measure)
    reference = _reference(settings.dense_reference)
    try:
        measured, chosen = ray.get(call.remote(read_bytes(model), inputs, settings, reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"node '{settings.measure_on}' was lost while it measured ({type(error).__name__}); "
            "start it again and rerun"
        ) from None
    if plan is not None and chosen is not None:
        write_text(plan, chosen)
    result: dict[str, Any] = measured
    return result


def _node(ray: Any, name: str) -> str:
    """Return the identifier of a living node by its name or address."""
    nodes = {
        known: node["NodeID"]
        for node in ray.nodes()
        if node["Alive"]
        for known in (node["NodeManagerAddress"], node["NodeName"])
    }
    if name not in nodes:
        raise UserError(f"measure_on: the Ray cluster has no node '{name}', but {', '.join(nodes)}")
    identifier: str = nodes[name]
    return identifier


def _reference(named: str) -> dict[str, bytes]:
    """Return the files of the dense network to compare with, by name; none without one."""
    if not named:
        return {}
    if not Path(named).is_dir():
        return {"model.onnx": read_bytes(named)}
    files = {name: Path(named) / name for name in ("model.onnx", "plan.json")}
    return {name: read_bytes(file) for name, file in files.items() if file.exists()}


def _measure(
    model: bytes, inputs: NDArray[Any], settings: MeasureSettings, reference: dict[str, bytes]
) -> tuple[dict[str, Any], str | None]:
    """Measure on the node; return the results and the engine's plan, if there is one."""
    from gossamer.training.measure import measure  # measure.py imports this module

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own, plan, dense = folder / "own.onnx", folder / "plan.json", folder / "dense"
        own.write_bytes(model)
        dense.mkdir()
        for file, content in reference.items():
            (dense / file).write_bytes(content)
        compared = str(dense) if settings.dense_reference else ""
        there = dataclasses.replace(settings, measure_on="", dense_reference=compared)
        # Ray hands out arrays that cannot be written to.
        measured = measure(own, np.array(inputs), there, plan)
        if compared and "deployed" in measured:
            measured["deployed"]["reference"] = settings.dense_reference
        return measured, read_text(plan) if plan.exists() else None
