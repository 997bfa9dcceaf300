"""Limits of this machine, measured with the engine's own kernels.

The roofline of Williams, Waterman & Patterson 2009: a layer takes at least its multiply-adds
over the peak of multiply-adds, and at least the bytes it touches over the bandwidth of the
cache (or memory) that the network fits in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gossamer.runtime.engine import Engine, LayerProfile
from gossamer.runtime.examples import synthetic
from gossamer.runtime.graph import Array, Graph, Node, Shape
from gossamer.runtime.lowered import lower
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.machine import machine
from gossamer.runtime.operators.linear import Linear
from gossamer.runtime.program import assemble

MEASURE_SECONDS = 0.05  # for each kernel that may set a limit
CALL_SECONDS = 0.3  # spent on calls of the whole network
SMALLEST, LARGEST = 1 << 14, 1 << 28  # bytes whose reading is timed


@dataclass(frozen=True)
class Limits:
    """``macs``: multiply-adds a second; ``bandwidth``: bytes a second over ``bytes`` bytes."""

    macs: float
    bandwidth: float
    bytes: int

    def share(self, row: LayerProfile) -> float:
        """Return the share of the limit that a kernel call reaches (0 if its time is 0)."""
        least = max(row.macs / self.macs, row.moved / self.bandwidth)
        return least / row.seconds if row.seconds else 0.0


@dataclass(frozen=True)
class NetworkProfile:
    """The kernel calls of a network, their limits, and the network called as a whole.

    ``seconds`` is the median time of a call of the whole batch, Python included. The rows' figures
    are those of an example: ``items_per_example`` rows of the first input, more than one where the
    file fixes the batch.
    """

    machine: str
    threads: int
    batch: int
    items_per_example: int
    rows: tuple[LayerProfile, ...]
    limits: Limits
    seconds: float

    @property
    def share(self) -> float:
        """The share of the limit that all calls together reach."""
        spent = sum(row.seconds for row in self.rows)
        least = sum(row.seconds * self.limits.share(row) for row in self.rows)
        return least / spent if spent else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        layers = [{**asdict(row), "limit_share": self.limits.share(row)} for row in self.rows]
        total = {
            key: sum(layer[key] for layer in layers)
            for key in ("seconds", "macs", "dense_macs", "bytes", "moved")
        }
        return {
            "machine": self.machine,
            "threads": self.threads,
            "batch": self.batch,
            "items_per_example": self.items_per_example,
            "limits": asdict(self.limits),
            "layers": layers,
            "total": {**total, "limit_share": self.share},
            "call_seconds": self.seconds,
        }


def network_profile(engine: Engine, inputs: Sequence[Array]) -> NetworkProfile:
    """Profile an engine on inputs (a batch each) and measure the machine's limits for it.

    Raises:
        UserError: the inputs do not fit the network.
    """
    engine(*inputs)
    times: list[float] = []
    while len(times) < 5 or (sum(times) < CALL_SECONDS and len(times) < 1000):
        started = time.perf_counter()
        engine(*inputs)
        times.append(time.perf_counter() - started)
    repeats = max(3, min(50, int(CALL_SECONDS / max(times))))
    rows = engine.profile(*inputs, repeats=repeats)
    return NetworkProfile(
        machine(),
        engine.threads,
        len(inputs[0]),
        engine.graph.input_items[0],
        tuple(rows),
        measure_limits(engine, rows),
        float(np.median(times)),
    )


def measure_limits(engine: Engine, rows: Sequence[LayerProfile]) -> Limits:
    """Measure the limits for an engine's instruction set, threads and bytes of its network."""
    touched = int(sum(row.bytes for row in rows) + max(row.moved for row in rows))
    size = min(LARGEST, max(SMALLEST, touched))
    # Rows long enough for the kernel's loop, enough outputs for every thread.
    depth = 256
    outputs = max(64 * engine.threads, size // (4 * depth))
    reading = _seconds(engine, outputs, depth, 1)
    computing = _seconds(engine, 256 * engine.threads, depth, 48)
    return Limits(
        macs=256 * engine.threads * depth * 48 / computing,
        bandwidth=4 * outputs * depth / reading,
        bytes=4 * outputs * depth,
    )


def _seconds(engine: Engine, outputs: int, depth: int, rows: int) -> float:
    """Return the shortest time of a dense layer on ``rows`` rows that share its weights."""
    constants = {
        "weight": np.full((outputs, depth), 0.5, np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    node = Node(Linear(), "limit", ("x",), "y", constants)
    shapes: dict[str, Shape] = {"x": (1, rows, depth), "y": (1, rows, outputs)}
    graph = Graph(["x"], ["y"], [node], shapes, dynamic=True)
    best = math.inf
    for candidate in Lowering(graph, engine.isa, sparse=False).candidates(node):
        steps, inputs, out = lower(
            graph, engine.isa, {"y": candidate.name}, sparse=False, threads=engine.threads
        )
        program = assemble(steps, inputs, out, [shapes["x"]], [shapes["y"]], threads=engine.threads)
        x = synthetic(graph, 1)
        started, repeats = time.perf_counter(), 1
        while time.perf_counter() - started < MEASURE_SECONDS:
            best = min(best, *(float(row[0]) for row in program.profile(x, repeats, False)))
            repeats = min(64, 2 * repeats)
    return best * 1e-9
