"""The choice of a kernel for every node, by measuring the candidates on this machine.

A plan contains the chosen candidate of each node, for single examples ("single") and for batches
("batched"), how many examples are computed together, and the smallest batch for which this pays.
It is measured on one thread, whatever the number of threads that will run it, so that results do
not depend on this number. Only which steps one thread computes alone may depend on it: sharing a
step of a few microseconds takes longer than the step. That does not change the result.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.files import is_stream, write_text
from gossamer.kernels._kernels import Program
from gossamer.runtime.constants import nonzeros
from gossamer.runtime.graph import AnyNode, Array, Graph, whole
from gossamer.runtime.lowering import Candidate, Lowering
from gossamer.runtime.lowering.epilogues import fuse
from gossamer.runtime.lowering.views import join
from gossamer.runtime.machine import machine, usable_cores
from gossamer.runtime.packing import up_to
from gossamer.runtime.program import Buffer, Step, arrange, assemble

FORMS = ("dense", "last", "list", "list last")
CHUNKS = (2, 8, 16, 32)
LONG_NS = 200_000_000  # runs of the network that are enough
BUDGET_NS = 3_000_000_000  # for a plan
CHUNKS_SHARE = 0.2  # of it, for the number of examples that go through the network together
MOST_FLOATS = 1 << 22  # of a value on which is measured
MOST_MACS = 4e9  # of the network, to compute the values on which is measured
MOST_ARENA = 1 << 24  # floats of all values of the examples that go through together
MOST_SHARED = 1 << 15  # floats of the values of a program that other nodes may use
MOST_RESIDENT = 1 << 20  # numbers of a weight that stay in memory as the file has them
TOGETHER = 16  # examples, when a candidate for batches is measured: lanes may be examples
SAMPLES = 64
MEASURE_NS = 4_000_000  # per look at a candidate
CLOSE = 2  # times as slow as the fastest candidate: it is looked at again
AGAIN = 2  # times
HOPELESS = 4  # times as slow as the fastest candidate, so are others of its kind
MACS_A_NS = 20.0  # of a dense kernel: how long a look may take is guessed by it
FEWEST_MACS = 5e7  # of the part of a picture on which is measured where the whole takes too long
SIMILAR = 0.1  # by how much the numbers of non-zeros of layers measured as one may differ
SHARING_NS = 40_000_000  # spent on what threads should share
SHARED_FROM_NS = (0, 1_000, 4_000, 16_000)  # on one thread: shorter steps are not shared
ALONE = 0.9  # of the time with sharing: a network is not shared if one thread takes less
VERSION = 16


@dataclass
class Plan:
    """The chosen candidates for one network on one machine."""

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
        """Write the plan as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(
        path: str | os.PathLike[str], graph: Graph, isa: str
    ) -> tuple[Plan | None, str | None]:
        """Return (plan, None), or (None, why the plan in the file cannot be used).

        Both are None if there is no plan.

        Raises:
            UserError: the file contains something else, which a new plan would overwrite.
        """
        if is_stream(path):  # takes the plan, gives none
            return None, None
        try:
            text = Path(path).read_text()
            stored = json.loads(text) if text else None
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError:
            raise UserError(f"{path}: not a plan (not JSON); name another file") from None
        if stored is None:
            return None, None
        if not isinstance(stored, dict) or not {"version", "network"} <= set(stored):
            raise UserError(f"{path}: not a plan, though JSON; name another file")
        try:
            plan = Plan(**stored)
        except TypeError:
            return None, "is of another version of gossamer"
        for name, theirs, ours in (
            ("another version of gossamer", plan.version, VERSION),
            (f"another machine ({plan.machine})", plan.machine, machine()),
            (f"another instruction set ({plan.isa})", plan.isa, isa),
            ("another network", plan.network, graph.fingerprint()),
        ):
            if theirs != ours:
                return None, f"was made for {name}"
        return (plan, None) if plan._sound() else (None, "is damaged")

    def _sound(self) -> bool:
        """Return whether the fields hold what a plan can; a chunk below one would never end."""
        choices = [*self.single.items(), *self.batched.items()] if self._dicts() else None
        return (
            choices is not None
            and all(isinstance(text, str) for choice in choices for text in choice)
            and all(type(size) is int and size > 0 for size in (self.chunk, self.smallest_batch))
            and self.chunk <= max(CHUNKS)
            and all(isinstance(steps, list) for steps in self.single_threaded.values())
            and all(
                isinstance(share, int | float) and 0 <= share <= 1
                for share in self.densities.values()
            )
        )

    def _dicts(self) -> bool:
        fields = (self.single, self.batched, self.single_threaded, self.densities)
        return all(isinstance(field, dict) for field in fields)


Lowered = tuple[list[Step], list[Buffer], list[Buffer]]  # steps, inputs, outputs


def lower(graph: Graph, isa: str, choices: dict[str, str], **settings: Any) -> Lowered:
    """Return steps, inputs and outputs for a plan's choices; the first candidate by default."""
    lowering = Lowering(graph, isa, **settings)
    for node in graph.nodes:
        candidates, name = lowering.candidates(node), choices.get(node.output)
        if name is not None and name not in {candidate.name for candidate in candidates}:
            raise UserError(
                f"the plan names the kernel {name!r} for {node.name or node.output!r}, where "
                f"{nearest(name, [candidate.name for candidate in candidates])}; plan again"
            )
        _pick(candidates, name).emit()
        _release(graph, node)
    return _finished(lowering)


def _release(graph: Graph, node: AnyNode) -> None:
    """Drop a large weight from memory, which is packed now, if it is mapped from a file."""
    if "weight" in node.store and math.prod(node.store.shape("weight")) > MOST_RESIDENT:
        graph.release()


def _finished(lowering: Lowering) -> Lowered:
    graph, values = lowering.graph, lowering.values
    outputs = [lowering.form(values[name], "dense") for name in graph.outputs]
    inputs = [Buffer(name, values[name].forms["dense"].floats) for name in graph.inputs]
    steps = fuse(lowering.steps, outputs)
    return (steps if lowering.batched else join(steps, inputs, outputs)), inputs, outputs


def _pick(candidates: list[Candidate], name: str | None) -> Candidate:
    return next((c for c in candidates if c.name == name), candidates[0])


def synthetic(graph: Graph, examples: int, seed: int = 0) -> list[Array]:
    """Return normal noise for each input; the same seed gives the same numbers.

    Integers are valid rows of the tables that they index, else 0 and 1, as booleans are.
    """
    rng = np.random.default_rng(seed)
    inputs = []
    for name in graph.inputs:
        items, *item = graph.shapes[name]
        shape = (items * examples, *item)
        if name in graph.dtypes:
            values = rng.integers(0, graph.rows(name) or 2, shape).astype(graph.dtypes[name])
        else:
            values = rng.standard_normal(shape, np.float32)
        inputs.append(values)
    return inputs


class Budget:
    """A limit on the processor time of this thread."""

    def __init__(self, nanoseconds: float) -> None:
        self._end = time.thread_time_ns() + nanoseconds

    def left(self) -> float:
        return max(0.0, self._end - time.thread_time_ns())


def _share(budget: Budget, share: float) -> Budget:
    """Return a share of the time left for nodes; called for measured nodes only, as it is slow."""
    return Budget(share * (budget.left() - CHUNKS_SHARE * BUDGET_NS))


def make_lowered(
    graph: Graph,
    isa: str,
    sample: Sequence[Array] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    threads: int = 1,
    *,
    batches: bool = True,
) -> tuple[Plan, dict[str, Lowered]]:
    """Measure the candidates of every node within a budget of time.

    Layers share the budget in proportion to their multiply-adds. Values are computed node by node
    and dropped after their last use.

    Args:
        graph: the network.
        isa: instruction set of the kernels.
        sample: example inputs (a batch); normal noise if not given.
        on_progress: called with the number of nodes that are done and the number of nodes.
        threads: number that will run it; candidates are measured on one, lowered for all.
        batches: whether to measure for batches too, which doubles the time.

    Returns:
        The plan, and the results of ``lower`` for ``single`` and, with batches, ``batched``: a
        second lowering would take as long as reading the file.
    """
    budget, plan = Budget(BUDGET_NS), Plan(machine(), isa, graph.fingerprint())
    inputs = _inputs(graph, sample)
    values = dict(zip(graph.inputs, inputs, strict=True))
    plan.densities.update((name, _density(value)) for name, value in values.items())
    kinds = (False, True) if graph.dynamic and batches else (False,)
    choices = [Choices(graph, isa, plan, batched, threads) for batched in kinds]
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    macs = _to_measure(graph)
    floor = sum(macs) / (4 * len(macs))  # so that small ones get a look, too
    weights = [m + floor if m else 0.0 for m in macs]
    behind = [*np.cumsum(weights[::-1])[::-1].tolist(), 0.0]  # weights from a node on
    compute = Computer(graph, isa)
    for i, node in enumerate(graph.nodes):
        values[node.output] = compute(node, values)
        plan.densities[node.output] = _density(values[node.output])
        for j, each in enumerate(choices):
            to_come = len(kinds) * behind[i + 1] + (len(kinds) - j) * weights[i]
            share = weights[i] / max(1.0, to_come)
            each.choose(node, values, partial(_share, budget, share))
        _release(graph, node)
        for name in {name for name in (*node.inputs, node.output) if last.get(name, i) <= i}:
            values.pop(name, None)
        on_progress(i + 1, len(graph.nodes))
    plan.single = choices[0].names
    plan.chunk = 1
    lowered = {"single": _finished(choices[0].lowering)}
    if len(kinds) > 1:
        plan.batched = choices[1].names
        lowered["batched"] = _finished(choices[1].lowering)
        single, batched = lowered["single"], lowered["batched"]
        plan.chunk, plan.smallest_batch = _chunk(graph, single, batched, inputs, budget)
    return plan, lowered


def make(*arguments: Any, **options: Any) -> Plan:
    """Return the plan of ``make_lowered``."""
    return make_lowered(*arguments, **options)[0]


def _inputs(graph: Graph, sample: Sequence[Array] | None) -> list[Array]:
    """Return examples to measure on, as many as need little memory and time."""
    largest = max(graph.item(node.output) * graph.shapes[node.output][0] for node in graph.nodes)
    work = sum(_macs(graph, node) for node in graph.nodes)
    most = int(min(SAMPLES, MOST_FLOATS // largest, MOST_MACS // max(1.0, work)))
    most = max(1, most) if graph.dynamic else 1
    items = [graph.shapes[name][0] for name in graph.inputs]
    if sample is not None:
        most = min(most, max(1, len(sample[0]) // items[0]))
    examples = synthetic(graph, most) if sample is None else sample
    return [
        np.ascontiguousarray(x[: most * n], np.float32)
        for x, n in zip(examples, items, strict=True)
    ]


def _density(value: Array) -> float:
    return round(float(np.count_nonzero(value) / max(1, value.size)), 4)


def _macs(graph: Graph, node: AnyNode) -> float:
    """Return the multiply-adds of a node for one example, 0 if it has no weight."""
    if "weight" not in node.constants:
        return 0.0
    shape = node.store.shape("weight")
    return graph.item(node.output) * graph.shapes[node.output][0] * math.prod(shape[1:])


def _to_measure(graph: Graph) -> list[float]:
    """Return the multiply-adds that stand for each node when they share the time for measuring.

    Nodes that read one weight, as the steps of a recurrent layer do, mostly share the measurement
    of the first one or two. So the first stands for half of them all, the next for a quarter.
    """
    macs = [_macs(graph, node) for node in graph.nodes]
    readers: dict[tuple[int, ...], list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if macs[i]:
            readers.setdefault(_weight(node), []).append(i)
    for nodes in readers.values():
        total = sum(macs[i] for i in nodes) / (1 - 0.5 ** len(nodes))
        for k, i in enumerate(nodes, 1):
            macs[i] = total * 0.5**k
    return macs


def _weight(node: AnyNode) -> tuple[int, ...]:
    """Return the ids of the arrays that store a node's weight; () if it has none."""
    return tuple(map(id, node.store.stored("weight"))) if "weight" in node.store else ()


class Computer:
    """Computation of nodes' values by their dense kernels.

    Small equal nodes share a program if they have no weight or a shared one: an unrolled recurrent
    layer has thousands.
    """

    def __init__(self, graph: Graph, isa: str) -> None:
        self.graph, self.isa = graph, isa
        self._readers = Counter(map(_weight, graph.nodes))
        self._programs: dict[tuple[Any, ...], tuple[Program, AnyNode]] = {}

    def __call__(self, node: AnyNode, values: dict[str, Array]) -> Array:
        names = list(dict.fromkeys(node.inputs))
        shapes = [self.graph.shapes[name] for name in (*names, node.output)]
        constants = [id(array) for key in node.store for array in node.store.stored(key)]
        places = [names.index(name) for name in node.inputs]
        key = (node.operation, *shapes, *places, *constants)
        floats = sum(math.prod(shape) for shape in shapes)
        weight = _weight(node)
        if (weight and self._readers[weight] == 1) or floats > MOST_SHARED:
            program = self._program(node, names)
        else:
            if key not in self._programs:
                self._programs[key] = self._program(node, names), node
            program = self._programs[key][0]
        outputs: Array = program.run([values[name] for name in names], False)
        return outputs

    def _program(self, node: AnyNode, names: list[str]) -> Program:
        graph = self.graph
        lowering = Lowering(graph, self.isa, sparse=False, batched=True)
        sources = []
        for name in names:
            value = lowering.value(name)
            sources.append(lowering.new(value, "dense", value.item))
        lowering.candidates(node)[0].emit()
        output = lowering.form(lowering.values[node.output], "dense")
        shapes = [graph.shapes[name] for name in names]
        return assemble(lowering.steps, sources, [output], shapes, [graph.shapes[node.output]])


class Choices:
    """The kernels chosen so far, for single examples or for batches, and their steps.

    Args:
        graph: the network.
        isa: instruction set of the kernels.
        plan: to add the measurements to.
        batched: whether the kernels are for batches.
        threads: number that the steps are lowered for; candidates are measured on one.
    """

    def __init__(self, graph: Graph, isa: str, plan: Plan, batched: bool, threads: int) -> None:
        self.graph, self.isa, self.plan, self.batched = graph, isa, plan, batched
        self.lowering = Lowering(
            graph, isa, threads=threads, batched=batched, densities=plan.densities
        )
        self.names: dict[str, str] = {}
        self._seen: dict[tuple[Any, ...], dict[int, str]] = {}  # then by numbers of non-zeros

    def choose(self, node: AnyNode, values: dict[str, Array], share: Callable[[], Budget]) -> None:
        """Choose a node's kernel and add its steps; measure unless a similar node was measured."""
        candidates = self.lowering.candidates(node)
        if len(candidates) > 1:
            alike = self._seen.setdefault(_key(self.lowering, node, candidates), {})
            nonzero = nonzeros(whole(node) if "step" in node.store else node.constants["weight"])
            near = [n for n in alike if abs(n - nonzero) <= SIMILAR * n]
            if not near:
                names = [candidate.name for candidate in candidates]
                budget, looks = share(), len(names) * (1 + AGAIN)
                graph, values = _part(self.graph, node, values, MACS_A_NS * budget.left() / looks)
                trial = partial(self._trial, graph, node, values)
                times = _race(names, trial, self.examples(graph, node, values), budget)
                alike[nonzero] = _fastest(times) if times else names[0]
                kind = "batched" if self.batched else "single"
                self.plan.measured_ns[f"{node.output} ({kind})"] = times
            self.names[node.output] = alike[
                min(near, default=nonzero, key=lambda n: abs(n - nonzero))
            ]
        _pick(candidates, self.names.get(node.output)).emit()

    def _trial(
        self, graph: Graph, node: AnyNode, values: dict[str, Array], name: str
    ) -> Callable[[int, float], float]:
        """Return a function that measures a candidate with its conversions of the input.

        Its arguments are the number of examples and the nanoseconds to spend; it returns the
        fastest nanoseconds per example. Single examples are run one after the other, each another
        one: with one example alone, branch prediction would be unrealistically good.
        """
        lowering = self.lowering
        trial = Lowering(graph, self.isa, batched=self.batched, densities=lowering.densities)
        sources = []
        for i in dict.fromkeys(node.inputs):
            there = lowering.values[i]
            value = trial.value(i)
            if value.shape == there.shape:
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
            [(result.items, output.floats // result.items)],
            chunk=TOGETHER if self.batched else 1,
        )
        names = [i for i, _ in sources]

        def look(examples: int, nanoseconds: float) -> float:
            inputs = [_resized(values[i], examples * graph.shapes[i][0]) for i in names]
            best, spent, repeats = math.inf, 0.0, 1
            while spent < nanoseconds:
                for times in program.profile(inputs, repeats, True):
                    best = min(best, sum(times[before:after]))
                    spent += max(1, sum(times))
                repeats = min(64, 2 * repeats)
            return best / examples

        return look

    def examples(self, graph: Graph, node: AnyNode, values: dict[str, Array]) -> int:
        """Return the maximum number of examples to measure a candidate on."""
        here = len(values[node.inputs[0]]) // graph.shapes[node.inputs[0]][0]
        if not self.batched:
            return here
        floats = graph.item(node.output) * graph.shapes[node.output][0]
        return max(here, min(TOGETHER, MOST_FLOATS // floats))


def _part(
    graph: Graph, node: AnyNode, values: dict[str, Array], most: float
) -> tuple[Graph, dict[str, Array]]:
    """Crop a convolution's image to as many first rows as take ``most`` multiply-adds.

    All rows take the same time. Without the crop, only the first candidate of a layer of many
    seconds would be measured, and a sparse layer would run as a dense one. Other nodes, and
    smaller ones, are returned unchanged.
    """
    macs, most = _macs(graph, node), max(most, FEWEST_MACS)
    name, *more = node.inputs
    if node.op != "conv" or more or macs <= most:
        return graph, values
    operation, shape, output = node.operation, graph.shapes[name], graph.shapes[node.output]
    axis = 0 if len(shape) == 4 else 1  # a sequence is an image of one row
    size = operation.dilations[axis] * (node.store.shape("weight")[2 + axis] - 1) + 1
    around = operation.pads[axis] + operation.pads[axis + 2]
    rows = max(1, int(output[2] * most / macs)) * operation.pool
    length = min(shape[2], max(1, (rows - 1) * operation.strides[axis] + size - around))
    made = ((length + around - size) // operation.strides[axis] + 1) // operation.pool
    part = replace(
        graph,
        shapes={
            **graph.shapes,
            name: (*shape[:2], length, *shape[3:]),
            node.output: (*output[:2], made, *output[3:]),
        },
    )
    return part, {**values, name: np.ascontiguousarray(values[name][:, :, :length])}


def _resized(value: Array, size: int) -> Array:
    """Return the first ``size`` entries of a value, repeated if it has fewer."""
    return value[:size] if size <= len(value) else np.resize(value, (size, *value.shape[1:]))


def _race(
    names: Sequence[str],
    trial: Callable[[str], Callable[[int, float], float]],
    examples: int,
    budget: Budget,
) -> dict[str, float]:
    """Return nanoseconds per example of the candidates that are worth measuring.

    A candidate's kind is the first word of its name. Candidates of a kind do the same work in
    different orders: if one takes many times as long as the fastest so far, the others are not even
    packed. Candidates close to the fastest are measured again, interleaved, since other work on
    the machine may have slowed one of them down. One of each kind is measured first. When the
    budget is spent, the rest is not measured; if nothing was, the dense kernel is chosen.
    """
    spend = min(MEASURE_NS, budget.left() / (len(names) * (1 + AGAIN)))
    kinds = {name.split()[0]: name for name in reversed(names)}
    names = sorted(names, key=lambda name: name not in kinds.values())  # one of each first
    times: dict[str, float] = {}
    close: dict[str, Callable[[], float]] = {}
    hopeless = set()
    for name in names:
        kind = name.split()[0]
        if not budget.left():
            break
        if kind not in hopeless:
            look = trial(name)
            if not times:  # as many as there is time for
                examples = max(1, min(examples, int(spend / max(1.0, look(1, 1)))))
            close[name] = partial(look, examples, spend)
            times[name] = close[name]()
            fastest = min(times.values())
            if times[name] > HOPELESS * fastest:
                hopeless.add(kind)
            close = {n: look for n, look in close.items() if times[n] <= CLOSE * fastest}
    for _ in range(AGAIN if len(close) > 1 else 0):
        for name, again in close.items():
            if budget.left():
                times[name] = min(times[name], again())
    return times


def _fastest(times: dict[str, float]) -> str:
    """Return the fastest candidate, but the first one (dense) unless it is beaten clearly.

    A layer measured alone finds its weights in caches that it shares with other layers later.
    """
    first, *others = times
    best = min(others, key=lambda name: times[name], default=first)
    return best if times[best] < 0.9 * times[first] else first


def _key(lowering: Lowering, node: AnyNode, candidates: list[Candidate]) -> tuple[Any, ...]:
    """Return the sizes, forms and candidates of a node; nodes with equal keys share a measurement.

    Their numbers of non-zeros, which the time of sparse kernels depends on, need only be similar:
    they differ by less than the margin by which a candidate must beat the dense one.
    """
    value = lowering.values[node.inputs[0]]
    return (
        node.op,
        node.store.shape("weight"),
        repr(node.operation),
        value.shape,
        round(value.density, 1),
        tuple(sorted(value.forms)),
        tuple(c.name for c in candidates),
    )


def _chunk(
    graph: Graph, single: Lowered, batched: Lowered, arrays: list[Array], budget: Budget
) -> tuple[int, int]:
    """Return the number of examples to compute together, and the smallest batch worth it."""
    items = [graph.shapes[name][0] for name in graph.inputs]
    steps, inputs, outputs = batched
    arena = max(1, arrange(steps, inputs, outputs).floats)

    def nanoseconds(lowered: Lowered, chunk: int, examples: int) -> float:
        """Return the time of all steps per example: the best of up to four runs."""
        steps, inputs, outputs = lowered
        program = assemble(
            steps,
            inputs,
            outputs,
            [graph.shapes[i] for i in graph.inputs],
            [graph.shapes[o] for o in graph.outputs],
            chunk=chunk,
        )
        batch = [_resized(x, examples * n) for x, n in zip(arrays, items, strict=True)]
        runs: list[int] = []
        while not runs or (len(runs) < 4 and sum(runs) < LONG_NS and budget.left()):
            runs += [sum(times) for times in program.profile(batch, 1, True)]
        return min(runs) / examples

    one_by_one = max(1.0, nanoseconds(single, 1, 1))  # zero where no step is left
    examples = int(min(CHUNKS[-1], len(arrays[0]) // items[0], LONG_NS / one_by_one))
    if examples > 1:
        one_by_one = nanoseconds(single, 1, examples)
    best, fastest = 1, math.inf
    for chunk in CHUNKS:
        together = up_to(max(1, examples), chunk)
        if together * one_by_one > budget.left() or chunk * arena > MOST_ARENA:
            break
        taken = nanoseconds(batched, chunk, together)
        if taken > 1.1 * fastest:
            break  # the values of so many examples do not fit the caches; more do so even less
        if taken < fastest:
            best, fastest = chunk, taken
    if best == 1:
        return 1, 2
    sizes = [n for n in (2, 4, 8) if n <= best]
    least = next((n for n in sizes if nanoseconds(batched, best, n) <= one_by_one), 2 * sizes[-1])
    # Where the lanes are examples, few of them for each thread leave most lanes idle. The cores
    # count, not the threads, on which results must not depend.
    return best, least if least == 2 else (least - 1) * usable_cores() + 1


def single_threaded(program: Program, graph: Graph, steps: int) -> list[int]:
    """Return the steps of a program of so many that one thread should compute alone.

    Measured, in wall time and interleaved, is sharing the steps that take at least a certain time
    on one thread, for several such times, and sharing none. While another program has a core, its
    thread comes late and the others do its part, so that sharing is no faster, but little slower:
    then steps are shared, as is best when the core is free.
    """
    x = [np.ascontiguousarray(values, np.float32) for values in synthetic(graph, 1)]
    alone = list(range(steps))
    program.single_threaded(alone)
    once = program.profile(x, 1, False)
    if sum(once[0]) > LONG_NS:
        return []  # what is lost by sharing a short step is nothing beside it
    each = np.min(once + program.profile(x, 3, False), axis=0)
    choices = [[step for step in alone if each[step] < ns] for ns in SHARED_FROM_NS]
    choices.append(alone)
    fastest, spent = [math.inf] * len(choices), 0
    while spent < SHARING_NS:
        for i, choice in enumerate(choices):
            program.single_threaded(choice)
            runs = [max(1, sum(times)) for times in program.profile(x, 3, False)]
            fastest[i], spent = min(fastest[i], *runs), spent + sum(runs)
    best = int(np.argmin(fastest[:-1]))
    return alone if fastest[-1] < ALONE * fastest[best] else choices[best]
