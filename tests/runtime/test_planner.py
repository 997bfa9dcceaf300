"""What planning costs: time by a clock of the test's own, and memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from networks import Builder, sparse

from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import choices, planner
from gossamer.runtime.choices import Budget, Choices
from gossamer.runtime.examples import MOST_FLOATS, macs_of
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import read
from gossamer.runtime.sharing import LONG_NS, single_threaded

SECOND = 1_000_000_000


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr(choices.time, "thread_time_ns", lambda: self.now)

    def costs(self, nanoseconds: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.now += nanoseconds
            return function(*arguments, **options)

        return call


def layers(*widths: int) -> bytes:
    """Linear layers with 90 % zeros, which several kernels can compute."""
    rng = np.random.default_rng(0)
    b = Builder(widths[0])
    for inputs, outputs in pairwise(widths):
        b.add("MatMul", b.last, sparse(rng, outputs, inputs, density=0.1).T)
        b.add("Relu", b.last)
    return b.model()


def test_planning_ends_with_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, clock = read(layers(*range(32, 64, 2))), Clock(monkeypatch)
    trials: list[str] = []
    trial = Choices._trial

    def counted(self: Any, graph: Any, node: Any, values: Any, name: str) -> Any:
        clock.now += SECOND
        trials.append(name)
        return trial(self, graph, node, values, name)

    monkeypatch.setattr(Choices, "_trial", counted)
    plan = planner.make(graph, chosen_isa())
    assert 1 <= len(trials) <= 1 + planner.BUDGET_NS / SECOND
    assert set(plan.single) == {node.output for node in graph.nodes if node.op == "linear"}
    assert set(plan.batched) == set(plan.single)
    assert plan.chunk == 1  # no time was left for it


def test_the_largest_layer_gets_most_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, clock = read(layers(32, 34, 36, 38, 40, 600, 600)), Clock(monkeypatch)
    monkeypatch.setattr(Choices, "_trial", clock.costs(SECOND // 50, Choices._trial))
    plan = planner.make(graph, chosen_isa())
    measured = {name.split()[0]: len(times) for name, times in plan.measured_ns.items()}
    largest = [node.output for node in graph.nodes if node.op == "linear"][-1]
    assert measured[largest] == max(measured.values()) >= 3


def test_steps_that_read_one_weight_leave_the_first_of_them_time_enough() -> None:
    """As 640 equal shares, no recurrent layer's was enough to measure a second kernel."""
    rng, b = np.random.default_rng(0), Builder(16)
    shared, own = (sparse(rng, 16, 16, density=0.1).T for _ in range(2))
    weight = b.constant(shared)
    for _ in range(3):
        b.add("Relu", b.add("MatMul", b.last, weight))
    b.add("MatMul", b.last, own)
    graph = read(b.model())
    macs = [m for m in planner._to_measure(graph) if m]
    np.testing.assert_allclose(macs, [256 * 3 * share / 7 for share in (4, 2, 1)] + [256])


def test_a_race_stops_when_the_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def trial(name: str) -> Callable[[int, float], float]:
        return clock.costs(10, lambda examples, nanoseconds: {"a": 3.0, "b": 2.0, "c": 1.0}[name])

    assert choices._race("abc", trial, 8, Budget(1000)) == {"a": 3, "b": 2, "c": 1}
    assert choices._race("abc", trial, 8, Budget(30)) == {"a": 3, "b": 2}
    assert choices._race("abc", trial, 8, Budget(0)) == {}


def test_one_kernel_of_each_kind_is_measured_first() -> None:
    budget = Budget(math.inf)
    looked: list[str] = []

    def trial(name: str) -> Callable[[int, float], float]:
        looked.append(name)
        return lambda examples, nanoseconds: 1.0

    times = choices._race(["gemm a", "gemm b", "planes a", "planes b"], trial, 8, budget)
    assert list(times) == looked == ["gemm a", "planes a", "gemm b", "planes b"]


@pytest.mark.parametrize(("size", "pool"), [((40, 40), 1), ((40, 40), 2), ((40,), 1)])
def test_a_large_picture_is_measured_by_its_first_rows(
    size: tuple[int, ...], pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "FEWEST_MACS", 100.0)

    def layer(*size: int) -> Graph:
        b = Builder(3, *size)
        kernel = np.ones((4, 3, *[3] * len(size)), np.float32)
        b.add("Conv", b.last, kernel, pads=[1] * 2 * len(size))
        if pool > 1:
            b.add("MaxPool", b.last, kernel_shape=[pool] * 2, strides=[pool] * 2)
        return read(b.model())

    graph = layer(*size)
    (node,) = graph.nodes
    (name,) = node.inputs
    values = {name: np.ones((1, 3, *size), np.float32)}
    assert choices._part(graph, node, values, 1e9) == (graph, values)
    part, fewer = choices._part(graph, node, values, macs_of(graph, node) / 4)
    _, _, rows, *others = fewer[name].shape
    assert rows < 20
    assert part.shapes[name] == fewer[name].shape
    smaller = layer(rows, *others)
    assert part.shapes[node.output] == smaller.shapes[smaller.outputs[0]]


def test_values_are_dropped_behind_their_last_use() -> None:
    b = Builder(16, 128, 128)
    for _ in range(12):
        b.add("Add", b.last, np.float32(1))
        b.add("Neg", b.last)
    graph = read(b.model())
    tracemalloc.start()
    planner.make(graph, chosen_isa())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 4 * MOST_FLOATS  # all values would take 24 of them


def test_progress_goes_to_the_end() -> None:
    graph, seen = read(layers(16, 24, 8)), []
    planner.make(graph, chosen_isa(), on_progress=lambda *numbers: seen.append(numbers))
    nodes = len(graph.nodes)
    assert seen == [(i + 1, nodes) for i in range(nodes)]


@pytest.mark.parametrize(
    ("alone", "shared", "wanted"),
    [
        ([500, 2_000, 20_000], [300, 1_100, 11_000], []),
        ([500, 2_000, 20_000], [900, 1_100, 11_000], [0]),  # threads that meet take time
        ([500, 2_000, 20_000], [900, 2_400, 11_000], [0, 1]),
        ([500, 2_000, 20_000], [900, 2_400, 40_000], [0, 1, 2]),
        ([500, 2_000, 20_000], [501, 2_001, 20_100], [0, 1]),  # another program has a core for now
        ([LONG_NS] * 3, [100 * LONG_NS] * 3, []),  # too long to measure
    ],
)
def test_steps_are_shared_by_what_they_take_alone(
    alone: list[int], shared: list[int], wanted: list[int]
) -> None:
    class Timed:
        steps: Sequence[int] = ()

        def single_threaded(self, steps: list[int]) -> None:
            self.steps = steps

        def profile(self, x: object, repeats: int, processor_time: bool) -> list[list[int]]:
            times = [alone[i] if i in self.steps else shared[i] for i in range(3)]
            assert sum(times) < LONG_NS or repeats == 1
            return [times] * repeats

    assert single_threaded(Timed(), read(layers(8, 8)), 3) == wanted
