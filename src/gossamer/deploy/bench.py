"""One network under several runtimes in one process, taking turns.

Every contestant gets turns of some ten milliseconds, one after the other; a turn before or
after which a fixed piece of work was slow is thrown away, since something else had the
machine. On one thread the time is the processor time of the process, which others hardly
disturb; on several it is the clock on the wall. Reported is the median over the turns of the
mean time of a call. Inputs change from call to call, so that no branch predictor learns an
example by heart.
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

from gossamer.deploy.dense import dense_network
from gossamer.deploy.peers import Arrays, Call, prepared, refused
from gossamer.errors import UserError
from gossamer.runtime import Engine, Plan, machine
from gossamer.runtime.arrays import batches

WAKING_SECONDS = 0.05  # before a turn of several threads: they wake and find cores of their own
TURN_SECONDS = 0.01
INPUTS = 8
MOST_CALLS = 5000
Name = TypeVar("Name")


@dataclass(frozen=True)
class Contestant:
    """One runtime's figures on one network.

    ``network`` is ``file``, or ``dense`` for the dense network of the same layers
    (:func:`gossamer.deploy.dense.dense_network`). ``seconds`` is measured, per call of the whole
    batch; ``difference`` is the largest absolute difference of its outputs from the engine's, as
    a share of the largest output: None where it ran another network.
    """

    name: str
    network: str
    seconds: float
    turns: int
    kept: int
    difference: float | None


@dataclass(frozen=True)
class Result:
    """All contestants: the engine, the peers' dense networks, the file under the peers.

    Where the file is dense itself, it is run once by each peer, as ``dense``.
    """

    model: str
    machine: str
    threads: int
    batch: int
    clock: str
    contestants: tuple[Contestant, ...]
    stale: str | None = None  # why the engine's kept plan was made again

    def ratios(self) -> dict[str, dict[str, float]]:
        """How many times the engine is faster, by network and peer: ``dense`` first."""
        engine, *peers = self.contestants
        ratios: dict[str, dict[str, float]] = {"dense": {}}
        for peer in peers:
            ratios.setdefault(peer.network, {})[peer.name] = peer.seconds / engine.seconds
        return ratios


class Probe:
    """A fixed piece of work; slow when something else has the machine."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(0).standard_normal(1 << 14).astype(np.float32)
        self.best = min(self._seconds() for _ in range(200))

    def _seconds(self) -> float:
        start = time.perf_counter()
        np.sin(self.numbers)
        return time.perf_counter() - start

    def quiet(self) -> bool:
        seconds = min(self._seconds() for _ in range(3))  # the first finds its numbers cold
        self.best = min(self.best, seconds)
        return seconds < 1.3 * self.best


def _rest() -> None:
    """Waits, half a second at most, until no thread of this process works.

    Peers' threads spin for a while after a call, on the cores that the next one needs.
    """
    for _ in range(250):
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0002:
            return


@dataclass(frozen=True)
class Turns:
    """What one contestant's turns gave: the median of those kept."""

    seconds: float
    turns: int
    kept: int


def take_turns(
    calls: Mapping[Name, Callable[[Any], Any]],
    inputs: Sequence[Any],
    *,
    turns: int,
    threads: int,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[Name, Turns]:
    """Times callables in turns on changing inputs.

    Where no turn was quiet, the median is that of all turns and ``kept`` is 0.
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
        on_turn()
    return {
        name: Turns(float(np.median(quiet[name] or every[name])), turns, len(quiet[name]))
        for name in calls
    }


def _difference(found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
    worst = 0.0
    for f, w in zip(found, wanted, strict=True):
        scale = float(np.abs(w).max(initial=1e-30))
        worst = max(worst, float(np.abs(f - w).max(initial=0.0)) / scale)
    return worst


def bench(
    model: str | os.PathLike[str],
    against: Sequence[str] = ("onnxruntime",),
    *,
    batch: int | None = None,
    threads: int | None = None,
    turns: int = 30,
    inputs: Arrays | None = None,
    plan: str | os.PathLike[str] | Plan | None = None,
    on_turn: Callable[[], None] = lambda: None,
) -> Result:
    """Measures an ONNX file under the engine, and under peers the file and its dense network.

    The dense network is what counts: a runtime that gains nothing from zeros would not be given
    the sparse one, least of all with k-winners, which cost it time.

    Args:
        model: the file.
        against: names of :data:`PEERS`.
        batch: examples in a call; if not given, all ``inputs``, or one example of noise.
        threads: threads of each contestant; all usable cores if not given.
        turns: turns of each contestant.
        inputs: examples for each input, cut into batches; normal noise if not given.
        plan: see :class:`gossamer.runtime.Engine`.
        on_turn: called after each round of turns.

    Raises:
        UserError: the file cannot be run, or a peer is unknown, missing or refuses it.
    """
    if inputs is not None and not all(len(x) for x in inputs):
        raise UserError("a batch of no examples takes no time; pass one example or more")
    path = Path(model)
    names = list(dict.fromkeys(against))
    engine = Engine(path, threads=threads, plan=plan, sample=inputs)
    if inputs is None:
        calls_on = [engine.noise(batch or 1, seed=i) for i in range(INPUTS)]
    else:
        calls_on = batches(engine.graph, inputs, batch or len(inputs[0]), INPUTS)
    dense = dense_network(onnx.load(path))
    with tempfile.TemporaryDirectory() as folder:
        networks = {"dense": path}
        if dense is not None:
            networks = {"dense": Path(folder) / "dense.onnx", "file": path}
            onnx.save(dense, networks["dense"], save_as_external_data=dense.ByteSize() > 1 << 30)
        peers = {
            (name, network): prepared(name, file, engine.threads)
            for network, file in networks.items()
            for name in names
        }
        wanted = _listed(engine(*calls_on[0]))
        differences = {}
        for (name, network), call in peers.items():
            try:
                outputs = call(calls_on[0])
            except Exception as error:  # each peer raises its own kinds
                raise refused(name, networks[network], error) from None
            if networks[network] == path:
                differences[name, network] = _difference(outputs, wanted)
        calls: dict[tuple[str, str], Call] = {
            ("gossamer", "file"): lambda x: _listed(engine(*x)),
            **peers,
        }
        found = take_turns(calls, calls_on, turns=turns, threads=engine.threads, on_turn=on_turn)
    return Result(
        str(path),
        machine(),
        engine.threads,
        len(calls_on[0][0]),
        "processor" if engine.threads == 1 else "wall",
        tuple(
            Contestant(name, network, t.seconds, t.turns, t.kept, differences.get((name, network)))
            for (name, network), t in found.items()
        ),
        engine.stale,
    )


def _listed(found: Any) -> list[NDArray[Any]]:
    return found if isinstance(found, list) else [found]


BATCHES = (1, 64)


def engine_times(
    model: str | os.PathLike[str] | Engine, inputs: NDArray[np.float32]
) -> dict[str, Any]:
    """Times a network of one input under the engine, on one thread, as plain data.

    Args:
        model: the ONNX file, or the engine of one thread that opened it.
        inputs: example inputs ``[batch, ...]``; repeated where they are fewer than a batch.

    Returns:
        ``threads``, ``isa``, and ``seconds``: measured, per example, for each batch of
        ``BATCHES``.

    Raises:
        UserError: the engine cannot run the network.
    """
    engine = model if isinstance(model, Engine) else Engine(model, threads=1, sample=inputs)
    seconds = {}
    for batch in BATCHES:
        examples = [x for (x,) in batches(engine.graph, [inputs], batch, INPUTS)]
        times = take_turns({"gossamer": engine}, examples, turns=10, threads=1)
        seconds[f"batch{batch}"] = times["gossamer"].seconds / batch
    return {"threads": 1, "isa": engine.isa, "seconds": seconds}
