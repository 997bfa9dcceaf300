"""Examples that a plan is measured on, and the values of every node for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gossamer.kernels._kernels import Program
from gossamer.runtime.graph import AnyNode, Array, Graph
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.program import assemble

SAMPLES = 64
MOST_FLOATS = 1 << 22  # of a value on which is measured
MOST_MACS = 4e9  # of the network, to compute the values on which is measured
MOST_SHARED = 1 << 15  # floats of the values of a program that other nodes may use


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


def examples_of(graph: Graph, sample: Sequence[Array] | None) -> list[Array]:
    """Return examples to measure on, as many as need little memory and time."""
    largest = max(graph.item(node.output) * graph.shapes[node.output][0] for node in graph.nodes)
    work = sum(macs_of(graph, node) for node in graph.nodes)
    most = int(min(SAMPLES, MOST_FLOATS // largest, MOST_MACS // max(1.0, work)))
    most = max(1, most) if graph.dynamic else 1
    items = graph.input_items
    if sample is not None:
        most = min(most, max(1, len(sample[0]) // items[0]))
    examples = synthetic(graph, most) if sample is None else sample
    return [
        np.ascontiguousarray(x[: most * n], np.float32)
        for x, n in zip(examples, items, strict=True)
    ]


def density_of(value: Array) -> float:
    return round(float(np.count_nonzero(value) / max(1, value.size)), 4)


def macs_of(graph: Graph, node: AnyNode) -> float:
    """Return the multiply-adds of a node for one example, 0 if it has no weight."""
    if "weight" not in node.constants:
        return 0.0
    shape = node.store.shape("weight")
    return graph.item(node.output) * graph.shapes[node.output][0] * math.prod(shape[1:])


def stored_weight(node: AnyNode) -> tuple[int, ...]:
    """Return the ids of the arrays that store a node's weight; () if it has none."""
    return tuple(map(id, node.store.stored("weight"))) if "weight" in node.store else ()


def resized(value: Array, size: int) -> Array:
    """Return the first ``size`` entries of a value, repeated if it has fewer."""
    return value[:size] if size <= len(value) else np.resize(value, (size, *value.shape[1:]))


class Computer:
    """Computation of nodes' values by their dense kernels.

    Small equal nodes share a program if they have no weight or a shared one: an unrolled recurrent
    layer has thousands.
    """

    def __init__(self, graph: Graph, isa: str) -> None:
        self.graph, self.isa = graph, isa
        self._readers = Counter(map(stored_weight, graph.nodes))
        self._programs: dict[tuple[Any, ...], tuple[Program, AnyNode]] = {}

    def __call__(self, node: AnyNode, values: dict[str, Array]) -> Array:
        names = list(dict.fromkeys(node.inputs))
        shapes = [self.graph.shapes[name] for name in (*names, node.output)]
        constants = [id(array) for key in node.store for array in node.store.stored(key)]
        places = [names.index(name) for name in node.inputs]
        key = (node.operation, *shapes, *places, *constants)
        floats = sum(math.prod(shape) for shape in shapes)
        weight = stored_weight(node)
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
