"""The choice of a kernel for every node, by measuring the candidates on this machine.

A plan contains the chosen candidate of each node, for single examples ("single") and for batches
("batched"), how many examples are computed together, and the smallest batch for which this pays.
It is measured on one thread, whatever the number of threads that will run it, so that results do
not depend on this number. Only which steps one thread computes alone may depend on it: sharing a
step of a few microseconds takes longer than the step. That does not change the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gossamer.runtime.choices import Budget, Choices
from gossamer.runtime.examples import (
    Computer,
    density_of,
    examples_of,
    macs_of,
    resized,
    stored_weight,
)
from gossamer.runtime.graph import Array, Graph
from gossamer.runtime.lowered import Lowered, finished, release
from gossamer.runtime.machine import machine, usable_cores
from gossamer.runtime.packing import up_to
from gossamer.runtime.plan import CHUNKS, Plan
from gossamer.runtime.program import arrange, assemble

LONG_NS = 200_000_000  # runs of the network that are enough
BUDGET_NS = 3_000_000_000  # for a plan
CHUNKS_SHARE = 0.2  # of it, for the number of examples that go through the network together
MOST_ARENA = 1 << 24  # floats of all values of the examples that go through together


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
    inputs = examples_of(graph, sample)
    values = dict(zip(graph.inputs, inputs, strict=True))
    plan.densities.update((name, density_of(value)) for name, value in values.items())
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
        plan.densities[node.output] = density_of(values[node.output])
        for j, each in enumerate(choices):
            to_come = len(kinds) * behind[i + 1] + (len(kinds) - j) * weights[i]
            share = weights[i] / max(1.0, to_come)
            each.choose(node, values, partial(_share, budget, share))
        release(graph, node)
        for name in {name for name in (*node.inputs, node.output) if last.get(name, i) <= i}:
            values.pop(name, None)
        on_progress(i + 1, len(graph.nodes))
    plan.single = choices[0].names
    plan.chunk = 1
    lowered = {"single": finished(choices[0].lowering)}
    if len(kinds) > 1:
        plan.batched = choices[1].names
        lowered["batched"] = finished(choices[1].lowering)
        single, batched = lowered["single"], lowered["batched"]
        plan.chunk, plan.smallest_batch = _chunk(graph, single, batched, inputs, budget)
    return plan, lowered


def make(*arguments: Any, **options: Any) -> Plan:
    """Return the plan of ``make_lowered``."""
    return make_lowered(*arguments, **options)[0]


def _share(budget: Budget, share: float) -> Budget:
    """Return a share of the time left for nodes; called for measured nodes only, as it is slow."""
    return Budget(share * (budget.left() - CHUNKS_SHARE * BUDGET_NS))


def _to_measure(graph: Graph) -> list[float]:
    """Return the multiply-adds that stand for each node when they share the time for measuring.

    Nodes that read one weight, as the steps of a recurrent layer do, mostly share the measurement
    of the first one or two. So the first stands for half of them all, the next for a quarter.
    """
    macs = [macs_of(graph, node) for node in graph.nodes]
    readers: dict[tuple[int, ...], list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if macs[i]:
            readers.setdefault(stored_weight(node), []).append(i)
    for nodes in readers.values():
        total = sum(macs[i] for i in nodes) / (1 - 0.5 ** len(nodes))
        for k, i in enumerate(nodes, 1):
            macs[i] = total * 0.5**k
    return macs


def _chunk(
    graph: Graph, single: Lowered, batched: Lowered, arrays: list[Array], budget: Budget
) -> tuple[int, int]:
    """Return the number of examples to compute together, and the smallest batch worth it."""
    items = graph.input_items
    steps, inputs, outputs = batched
    positions = arrange(steps, inputs, outputs)
    arena = max((at + buffer.floats for buffer, at in positions.items()), default=0) or 1

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
        batch = [resized(x, examples * n) for x, n in zip(arrays, items, strict=True)]
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
