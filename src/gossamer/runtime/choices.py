"""The choice of a node's kernel: its candidates race on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gossamer.runtime.constants import nonzeros
from gossamer.runtime.examples import MOST_FLOATS, macs_of, resized
from gossamer.runtime.graph import AnyNode, Array, Graph, whole
from gossamer.runtime.lowered import pick
from gossamer.runtime.lowering import Candidate, Lowering
from gossamer.runtime.plan import Plan
from gossamer.runtime.program import assemble

FORMS = ("dense", "last", "list", "list last")
TOGETHER = 16  # examples, when a candidate for batches is measured: lanes may be examples
MEASURE_NS = 4_000_000  # per look at a candidate
CLOSE = 2  # times as slow as the fastest candidate: it is looked at again
AGAIN = 2  # times
HOPELESS = 4  # times as slow as the fastest candidate, so are others of its kind
MACS_A_NS = 20.0  # of a dense kernel: how long a look may take is guessed by it
FEWEST_MACS = 5e7  # of the part of a picture on which is measured where the whole takes too long
SIMILAR = 0.1  # by how much the numbers of non-zeros of layers measured as one may differ


class Budget:
    """A limit on the processor time of this thread."""

    def __init__(self, nanoseconds: float) -> None:
        self._end = time.thread_time_ns() + nanoseconds

    def left(self) -> float:
        return max(0.0, self._end - time.thread_time_ns())


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
        pick(candidates, self.names.get(node.output)).emit()

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
        pick(trial.candidates(node), name).emit()
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
            inputs = [resized(values[i], examples * graph.shapes[i][0]) for i in names]
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
    macs, most = macs_of(graph, node), max(most, FEWEST_MACS)
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
