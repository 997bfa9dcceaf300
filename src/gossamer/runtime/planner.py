"""Chooses a kernel for every node by measuring the candidates on this machine.

A plan holds, for single examples ("single") and for batches ("batched"), the chosen candidate of
each node, how many examples go through the network together, and from how many on a batch is
worth it. It is made on one thread,
whatever the number of threads that will run it, so that results do not depend on them. What may
depend on them is which steps one thread computes alone, because sharing a step of a few
microseconds takes longer than the step; its result is the same.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.files import is_stream, write_text
from gossamer.kernels._kernels import Program
from gossamer.runtime.graph import AnyNode, Array, Graph
from gossamer.runtime.lowering import Candidate, Lowering
from gossamer.runtime.machine import machine, usable_cores
from gossamer.runtime.packing import up_to
from gossamer.runtime.program import Buffer, Step, assemble

FORMS = ("dense", "last", "list", "list last")
CHUNKS = (2, 8, 16, 32)
LONG_NS = 200_000_000  # runs of the network that are enough
TOGETHER = 16  # examples, when a candidate for batches is measured: lanes may be examples
SAMPLES = 64
MEASURE_NS = 4_000_000  # per look at a candidate
CLOSE = 2  # times as slow as the fastest candidate: it is looked at again
AGAIN = 2  # times
HOPELESS = 4  # times as slow as the fastest candidate, so are others of its kind
SIMILAR = 0.1  # by how much the numbers of non-zeros of layers measured as one may differ
SHARING_NS = 20_000_000  # spent on what threads should share
VERSION = 6


@dataclass
class Plan:
    """The choices for one network on one machine."""

    machine: str
    isa: str
    network: str
    single: dict[str, str] = field(default_factory=dict)
    batched: dict[str, str] = field(default_factory=dict)
    chunk: int = 8
    smallest_batch: int = 2  # smaller batches go through "single", example by example
    # Threads -> steps of "single" that one of them computes alone, where they have one example.
    single_threaded: dict[str, list[int]] = field(default_factory=dict)
    densities: dict[str, float] = field(default_factory=dict)
    measured_ns: dict[str, dict[str, float]] = field(default_factory=dict)
    version: int = VERSION

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(
        path: str | os.PathLike[str], graph: Graph, isa: str
    ) -> tuple[Plan | None, str | None]:
        """The plan in a file, or None and, where there is a plan, why it is of no use.

        Raises:
            UserError: the file holds something else, which a new plan would overwrite.
        """
        if is_stream(path):  # takes the plan, gives none
            return None, None
        try:
            text = Path(path).read_text()
            held = json.loads(text) if text else None
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError:
            raise UserError(f"{path}: not a plan (not JSON); name another file") from None
        if held is None:
            return None, None
        if not isinstance(held, dict) or not {"version", "network"} <= set(held):
            raise UserError(f"{path}: not a plan, though JSON; name another file")
        try:
            found = Plan(**held)
        except TypeError:
            return None, "is of another version of gossamer"
        for name, theirs, ours in (
            ("another version of gossamer", found.version, VERSION),
            (f"another machine ({found.machine})", found.machine, machine()),
            (f"another instruction set ({found.isa})", found.isa, isa),
            ("another network", found.network, graph.fingerprint()),
        ):
            if theirs != ours:
                return None, f"was made for {name}"
        return found, None


Lowered = tuple[list[Step], list[Buffer], list[Buffer]]  # steps, inputs, outputs


def lower(graph: Graph, isa: str, choices: dict[str, str], **settings: Any) -> Lowered:
    """Steps, inputs and outputs for a plan's choices (the first candidate where none)."""
    lowering = Lowering(graph, isa, **settings)
    for node in graph.nodes:
        candidates, name = lowering.candidates(node), choices.get(node.output)
        if name is not None and name not in {candidate.name for candidate in candidates}:
            raise UserError(
                f"the plan names the kernel {name!r} for {node.name or node.output!r}, where "
                f"{nearest(name, [candidate.name for candidate in candidates])}; make it anew"
            )
        _pick(candidates, name).emit()
    return _finished(lowering)


def _finished(lowering: Lowering) -> Lowered:
    graph, values = lowering.graph, lowering.values
    outputs = [lowering.form(values[name], "dense") for name in graph.outputs]
    inputs = [Buffer(name, values[name].forms["dense"].floats) for name in graph.inputs]
    return lowering.steps, inputs, outputs


def _pick(candidates: list[Candidate], name: str | None) -> Candidate:
    return next((c for c in candidates if c.name == name), candidates[0])


def synthetic(graph: Graph, examples: int, seed: int = 0) -> list[Array]:
    """Normal noise in the shapes of the inputs, the same for the same seed.

    Integers are rows of the tables that they look up, or 0 and 1 like booleans.
    """
    rng = np.random.default_rng(seed)
    found = []
    for name in graph.inputs:
        lead, *item = graph.shapes[name]
        shape = (lead * examples, *item)
        if name in graph.dtypes:
            values = rng.integers(0, graph.rows(name) or 2, shape).astype(graph.dtypes[name])
        else:
            values = rng.standard_normal(shape, np.float32)
        found.append(values)
    return found


def make(graph: Graph, isa: str, sample: Sequence[Array] | None = None) -> Plan:
    """Measures the candidates of every node; ``sample`` are example inputs (a batch)."""
    plan = Plan(machine(), isa, graph.fingerprint())
    total = sum(graph.item(node.output) * graph.shapes[node.output][0] for node in graph.nodes)
    most = max(1, min(SAMPLES, (1 << 26) // max(1, total))) if graph.dynamic else 1
    if sample is not None:
        given = [np.ascontiguousarray(x, np.float32) for x in sample]
        lead = graph.shapes[graph.inputs[0]][0]
        most = min(most, max(1, len(given[0]) // lead))
    else:
        given = [np.ascontiguousarray(x, np.float32) for x in synthetic(graph, most)]
    leads = [graph.shapes[name][0] for name in graph.inputs]
    given = [x[: most * lead] for x, lead in zip(given, leads, strict=True)]
    values = dict(zip(graph.inputs, given, strict=True)) | _values(graph, isa, given)
    plan.densities = {
        name: round(float(np.count_nonzero(value) / max(1, value.size)), 4)
        for name, value in values.items()
    }
    plan.single, single = _choose(graph, isa, plan, values, batched=False)
    if graph.dynamic:
        plan.batched, batched = _choose(graph, isa, plan, values, batched=True)
        plan.chunk, plan.smallest_batch = _chunk(graph, single, batched, given)
    else:
        plan.chunk = 1
    return plan


def _values(graph: Graph, isa: str, inputs: list[Array]) -> dict[str, Array]:
    """Every value of the network for the sample inputs, by the dense kernels."""
    lowering = Lowering(graph, isa, sparse=False, batched=True)
    for node in graph.nodes:
        lowering.candidates(node)[0].emit()
    names = [node.output for node in graph.nodes]
    outputs = [lowering.form(lowering.values[name], "dense") for name in names]
    sources = [Buffer(i, lowering.values[i].forms["dense"].floats) for i in graph.inputs]
    shapes = [graph.shapes[name] for name in names]
    program = assemble(
        lowering.steps, sources, outputs, [graph.shapes[i] for i in graph.inputs], shapes
    )
    found = program.run(inputs, False)
    return dict(zip(names, [found] if len(names) == 1 else found, strict=True))


def _choose(
    graph: Graph, isa: str, plan: Plan, values: dict[str, Array], *, batched: bool
) -> tuple[dict[str, str], Lowered]:
    """The choices, and what they are lowered to."""
    lowering = Lowering(graph, isa, batched=batched, densities=plan.densities)
    choices: dict[str, str] = {}
    seen: dict[tuple[Any, ...], dict[int, str]] = {}  # then by numbers of non-zeros
    for node in graph.nodes:
        candidates = lowering.candidates(node)
        if len(candidates) > 1:
            alike = seen.setdefault(_key(lowering, node, candidates), {})
            nonzero = int(np.count_nonzero(node.constants["weight"]))
            near = [n for n in alike if abs(n - nonzero) <= SIMILAR * n]
            if not near:
                names = [candidate.name for candidate in candidates]
                times = _race(names, partial(_trial, graph, isa, lowering, node, values, batched))
                alike[nonzero] = _fastest(times)
                plan.measured_ns[f"{node.output} ({'batched' if batched else 'single'})"] = times
            choices[node.output] = alike[min(near, default=nonzero, key=lambda n: abs(n - nonzero))]
        _pick(candidates, choices.get(node.output)).emit()
    return choices, _finished(lowering)


def _race(names: Sequence[str], trial: Callable[[str], Callable[[], float]]) -> dict[str, float]:
    """Times of the candidates, without those of a kind that is hopeless.

    The kind is the operation, the first word of a name. Candidates of one kind do the same work
    in other orders: where one takes many times as long as the fastest so far, the others are
    not even packed. Those close to the fastest are looked at again, in turns, since other work
    on the machine may have slowed down one of them.
    """
    times: dict[str, float] = {}
    close: dict[str, Callable[[], float]] = {}
    hopeless = set()
    for name in names:
        kind = name.split()[0]
        if kind not in hopeless:
            close[name] = trial(name)
            times[name] = close[name]()
            fastest = min(times.values())
            if times[name] > HOPELESS * fastest:
                hopeless.add(kind)
            close = {n: look for n, look in close.items() if times[n] <= CLOSE * fastest}
    for _ in range(AGAIN if len(close) > 1 else 0):
        for name, look in close.items():
            times[name] = min(times[name], look())
    return times


def _fastest(times: dict[str, float]) -> str:
    """The fastest candidate; the first one, the dense kernel, unless beaten clearly.

    Measured alone, weights stay in the caches that the other layers will want as well.
    """
    first, *others = times
    best = min(others, key=lambda name: times[name], default=first)
    return best if times[best] < 0.9 * times[first] else first


def _key(lowering: Lowering, node: AnyNode, candidates: list[Candidate]) -> tuple[Any, ...]:
    """Sizes, forms and candidates, which are the same in nodes that are measured as one.

    Their numbers of non-zeros need only be similar: the time of kernels that skip zeros follows
    it, and no more may it differ than a candidate must be faster than the dense one.
    """
    value = lowering.values[node.inputs[0]]
    return (
        node.op,
        node.constants["weight"].shape,
        repr(node.operation),
        value.shape,
        round(value.density, 1),
        tuple(sorted(value.forms)),
        tuple(c.name for c in candidates),
    )


def _trial(
    graph: Graph,
    isa: str,
    lowering: Lowering,
    node: AnyNode,
    values: dict[str, Array],
    batched: bool,
    name: str,
) -> Callable[[], float]:
    """A look at a candidate: its nanoseconds, with the conversions of its input that it needs.

    Over several examples, one after the other where it is for single ones: on one example
    alone, the processor would learn its branches by heart.
    """
    trial = Lowering(graph, isa, batched=batched, densities=lowering.densities)
    sources = []
    for i in dict.fromkeys(node.inputs):
        there = lowering.values[i]
        value = trial.value(i)
        value.channels, value.pixels = there.channels, there.pixels
        buffer = trial.new(value, "dense", value.item)
        sources.append((i, buffer))
        forms = [form for form in FORMS if form in there.forms]
        for form in forms:
            trial.form(value, form)
        value.forms = {form: value.forms[form] for form in forms}
    before = len(trial.steps)
    _pick(trial.candidates(node), name).emit()
    after = len(trial.steps)
    result = trial.values[node.output]
    output = next(iter(result.forms.values()))
    program = assemble(
        trial.steps,
        [b for _, b in sources],
        [output],
        [graph.shapes[i] for i, _ in sources],
        [(result.lead, output.floats // result.lead)],
        chunk=TOGETHER if batched else 1,
    )
    inputs = [values[i] for i, _ in sources]

    def look() -> float:
        best, spent, repeats = math.inf, 0.0, 1
        while spent < MEASURE_NS:
            for times in program.profile(inputs, repeats, True):
                best = min(best, sum(times[before:after]))
                spent += max(1, sum(times))
            repeats = min(64, 2 * repeats)
        return best

    return look


def _chunk(graph: Graph, single: Lowered, batched: Lowered, given: list[Array]) -> tuple[int, int]:
    """How many examples should go through the network together, and the least batch for it."""
    leads = [graph.shapes[name][0] for name in graph.inputs]
    given_examples = min(CHUNKS[-1], len(given[0]) // leads[0])

    def nanoseconds(lowered: Lowered, chunk: int, examples: int) -> float:
        """Of an example, all steps together: the best of four runs, of fewer if they take long."""
        steps, inputs, outputs = lowered
        program = assemble(
            steps,
            inputs,
            outputs,
            [graph.shapes[i] for i in graph.inputs],
            [graph.shapes[o] for o in graph.outputs],
            chunk=chunk,
        )
        batch = [
            np.resize(x, (examples * lead, *x.shape[1:]))
            for x, lead in zip(given, leads, strict=True)
        ]
        runs: list[int] = []
        while len(runs) < 4 and sum(runs) < LONG_NS:
            runs += [sum(times) for times in program.profile(batch, 1, True)]
        return min(runs) / examples

    best, fastest = CHUNKS[0], math.inf
    for chunk in CHUNKS:
        taken = nanoseconds(batched, chunk, up_to(given_examples, chunk))
        if taken > 1.1 * fastest:
            break  # the values of so many examples do not fit the caches; more do so even less
        if taken < fastest:
            best, fastest = chunk, taken
    sizes = [n for n in (2, 4, 8) if n <= best]
    one_by_one = nanoseconds(single, 1, given_examples)
    least = next((n for n in sizes if nanoseconds(batched, best, n) <= one_by_one), 2 * sizes[-1])
    # Where the lanes are examples, few of them for each thread leave most lanes idle. The cores
    # count, not the threads, on which results must not depend.
    return best, least if least == 2 else (least - 1) * usable_cores() + 1


def single_threaded(program: Program, graph: Graph) -> list[int]:
    """The steps that one thread computes alone no slower than all of a program's share them.

    Of none of them, those that are faster so one by one, and all of them, what makes one example
    fastest as a whole. Measured on the clock, in turns.
    """
    x = [np.ascontiguousarray(values, np.float32) for values in synthetic(graph, 1)]
    once = program.profile(x, 1, False)[0]
    steps, repeats = len(once), max(3, min(20, SHARING_NS // max(1, sum(once))))
    fastest = {}
    for choice in ([], list(range(steps))):
        program.single_threaded(choice)
        fastest[len(choice)] = np.min(program.profile(x, repeats, False), axis=0)
    faster = np.flatnonzero(fastest[steps] <= fastest[0])
    choices = [list(range(steps)), [int(step) for step in faster], []]
    best, spent = [math.inf] * len(choices), 0
    while spent < SHARING_NS:
        for i, choice in enumerate(choices):
            program.single_threaded(choice)
            for _ in range(3):
                started = time.perf_counter_ns()
                program.run(x, False)
                taken = time.perf_counter_ns() - started
                best[i], spent = min(best[i], taken), spent + max(1, taken)
    return choices[int(np.argmin(best))]
