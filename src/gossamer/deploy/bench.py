"""One network under several runtimes in one process, taking turns.

All contestants take turns of about ten milliseconds. On one thread the time is the processor time
of the process, which other programs hardly disturb. On several threads it is wall time, and a
turn is discarded if a fixed piece of work was slow before or after it, because another program
used the machine. The result is the median over the turns of the mean time of a call. Inputs
change from call to call, so that the branch predictor cannot learn an example.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from gossamer.deploy.dense import dense_file, write_model
from gossamer.deploy.peers import Arrays, Call, prepared, refused
from gossamer.errors import UserError
from gossamer.runtime import Engine, Plan, machine
from gossamer.runtime.arrays import batches, read_arrays
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import fix_values, read

WAKING_SECONDS = 0.05  # before a turn of several threads: they wake and find cores of their own
TURN_SECONDS = 0.01
INPUTS = 8
MOST_CALLS = 5000
Name = TypeVar("Name")


@dataclass(frozen=True)
class Contestant:
    """The figures of one runtime on one network.

    ``network`` is ``file``, or ``dense`` for the dense network of the same layers
    (:func:`gossamer.deploy.dense.dense_network`). ``seconds`` is measured, per call with the whole
    batch. ``difference`` is the largest absolute difference of its outputs from the engine's, as
    a share of the largest output; None if it ran another network.
    """

    name: str
    network: str
    seconds: float
    turns: int
    quiet: int
    difference: float | None


@dataclass(frozen=True)
class Result:
    """All contestants: the engine, and each peer with the dense network and with the file.

    If the file is dense itself, each peer runs it once, as ``dense``.
    """

    model: str
    machine: str
    threads: int
    batch: int
    clock: str
    contestants: tuple[Contestant, ...]
    stale: str | None = None  # why the engine's stored plan could not be used

    def ratios(self) -> dict[str, dict[str, float]]:
        """Return the engine's speedup by network and peer, those over ``dense`` first."""
        engine, *peers = self.contestants
        ratios: dict[str, dict[str, float]] = {"dense": {}}
        for peer in peers:
            ratios.setdefault(peer.network, {})[peer.name] = peer.seconds / engine.seconds
        return ratios


class Probe:
    """A fixed piece of work, slow while another program uses the machine."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(0).standard_normal(1 << 14).astype(np.float32)
        self.best = min(self._seconds() for _ in range(200))

    def _seconds(self) -> float:
        start = time.perf_counter()
        np.sin(self.numbers)
        return time.perf_counter() - start

    def quiet(self) -> bool:
        seconds = min(self._seconds() for _ in range(3))  # first it fills the cache
        self.best = min(self.best, seconds)
        return seconds < 1.3 * self.best


def _rest() -> None:
    """Wait until all threads of this process are idle, half a second at most.

    After a call, a peer's threads spin for a while, on cores that the next contestant needs.
    """
    for _ in range(250):
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0002:
            return


@dataclass(frozen=True)
class Turns:
    """A contestant's median seconds of a call over its ``quiet`` turns, without other load."""

    seconds: float
    turns: int
    quiet: int


def take_turns(
    calls: Mapping[Name, Callable[[Any], Any]],
    inputs: Sequence[Any],
    *,
    turns: int,
    threads: int,
    on_turn: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Name, Turns]:
    """Time callables in interleaved turns, on changing inputs.

    If no turn was quiet, the median is over all turns and ``quiet`` is 0.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    probe = Probe()
    every: dict[Name, list[float]] = {name: [] for name in calls}
    quiet: dict[Name, list[float]] = {name: [] for name in calls}
    repeats: dict[Name, int] = {}
    for name, call in calls.items():  # the first call sets up, the second says how many fit
        call(inputs[0])
        start = clock()
        call(inputs[1 % len(inputs)])
        repeats[name] = max(1, min(MOST_CALLS, int(TURN_SECONDS / max(clock() - start, 1e-7))))
    for turn in range(turns):
        for name, call in calls.items():
            if threads > 1:
                _rest()
                start = clock()
                while clock() - start < WAKING_SECONDS:
                    call(inputs[turn % len(inputs)])
            before = threads == 1 or probe.quiet()
            start = clock()
            for i in range(repeats[name]):
                call(inputs[(turn + i) % len(inputs)])
            seconds = (clock() - start) / repeats[name]
            every[name].append(seconds)
            if before and (threads == 1 or probe.quiet()):
                quiet[name].append(seconds)
        on_turn(turn + 1, turns)
    return {
        name: Turns(float(np.median(quiet[name] or every[name])), turns, len(quiet[name]))
        for name in calls
    }


def _difference(outputs: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Return the largest difference; infinity where a NaN or an infinity stands in one alone."""
    worst = 0.0
    for y, e in zip(outputs, expected, strict=True):
        y, e = np.asarray(y, np.float64), np.asarray(e, np.float64)  # bools and integers, too
        scale = float(np.abs(e[np.isfinite(e)]).max(initial=1e-30))
        same = (y == e) | (np.isnan(y) & np.isnan(e))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(y - e))
        largest = np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0)
        worst = max(worst, float(largest) / scale)
    return worst


def examples_of(inputs: Arrays | Path | None, graph: Graph) -> Arrays | None:
    """Return the examples to measure on, read from a file if ``inputs`` is a path.

    Raises:
        UserError: the file cannot be read, or there is no example.
    """
    arrays = read_arrays(inputs, graph.inputs) if isinstance(inputs, Path) else inputs
    if arrays is not None and not all(len(x) for x in arrays):
        raise UserError("the batch is empty; pass at least one example")
    return arrays


def inputs_of_calls(engine: Engine, examples: Arrays | None, batch: int | None) -> Sequence[Arrays]:
    """Return the inputs that calls take in turn: batches of the examples, or else noise."""
    if examples is None:
        return [engine.noise(batch, seed=i) for i in range(INPUTS)]
    return batches(engine.graph, examples, batch or len(examples[0]), INPUTS)


def bench(
    model: str | os.PathLike[str],
    against: Sequence[str] = ("onnxruntime",),
    *,
    batch: int | None = None,
    threads: int | None = None,
    turns: int = 30,
    inputs: Arrays | Path | None = None,
    plan: str | os.PathLike[str] | Plan | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_turn: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Time an ONNX file in the engine, and the file and its dense network in peers.

    The fair comparison is with the dense network: a runtime that gains nothing from zeros, and
    loses time with k-winners, would be used with that.

    Args:
        model: the file.
        against: names of :data:`PEERS`.
        batch: examples in a call; by default all ``inputs``, or one example of random noise.
        threads: threads of each contestant; by default all usable cores.
        turns: turns of each contestant.
        inputs: examples for each input, cut into batches, or the ``.npy`` or ``.npz`` file that
            holds them; by default normal noise.
        plan, shapes, values, on_progress: see :class:`gossamer.runtime.Engine`.
        on_turn: called after each round of turns with the number of rounds done and of all.

    Raises:
        UserError: the file cannot be run, or a peer is unknown, missing or refuses it.
    """
    path = Path(model)
    graph = read(path, shapes, values)
    examples = examples_of(inputs, graph)
    names = list(dict.fromkeys(against))
    engine = Engine(
        graph,
        threads=threads,
        plan=plan,
        sample=examples,
        on_progress=on_progress,
    )
    calls_on = inputs_of_calls(engine, examples, batch)
    proto = onnx.load(path)
    with tempfile.TemporaryDirectory() as folder:
        same = path  # the network that the peers run
        if values:
            fix_values(str(path), proto.graph, values)
            same = write_model(proto, Path(folder) / "file.onnx")
        networks = {"dense": same}
        if (dense := dense_file(proto, Path(folder))) is not None:
            networks = {"dense": dense, "file": same}
        peers = {
            (name, network): prepared(name, file, engine.threads)
            for network, file in networks.items()
            for name in names
        }
        expected = _listed(engine(*calls_on[0]))
        differences = {}
        for (name, network), call in peers.items():
            try:
                outputs = call(calls_on[0])
            except Exception as error:  # each peer raises its own kinds
                raise refused(name, networks[network], error) from None
            if networks[network] == same:
                differences[name, network] = _difference(outputs, expected)
        calls: dict[tuple[str, str], Call] = {
            ("gossamer", "file"): lambda x: _listed(engine(*x)),
            **peers,
        }
        times = take_turns(calls, calls_on, turns=turns, threads=engine.threads, on_turn=on_turn)
    return Result(
        str(path),
        machine(),
        engine.threads,
        len(np.atleast_1d(calls_on[0][0])),
        "processor" if engine.threads == 1 else "wall",
        tuple(
            Contestant(name, network, t.seconds, t.turns, t.quiet, differences.get((name, network)))
            for (name, network), t in times.items()
        ),
        engine.stale,
    )


def _listed(outputs: Any) -> list[NDArray[Any]]:
    return outputs if isinstance(outputs, list) else [outputs]
