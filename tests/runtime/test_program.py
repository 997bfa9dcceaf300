"""The memory that steps and programs share."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from networks import Builder

from gossamer.kernels._kernels import ALIGNMENT, Program
from gossamer.kernels.registry import chosen_isa, find
from gossamer.runtime import Engine, program
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering, linear
from gossamer.runtime.program import once, shared


def test_equal_arrays_are_stored_once_and_only_while_in_use() -> None:
    x = np.random.default_rng(0).standard_normal((3, 1000), np.float32)
    first, second = shared(x.T), shared(x.T.copy())
    np.testing.assert_array_equal(first, x.T)
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, x)
    assert not np.shares_memory(first, shared(x + 1))
    assert not np.shares_memory(first, shared(x[:2]))
    assert first.ctypes.data % ALIGNMENT == 0
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    gc.collect()
    before = len(program._EQUAL)
    del first, second
    assert len(program._EQUAL) == before - 1


@pytest.mark.parametrize(
    "array", [np.zeros(0, np.float32), np.float32(3), np.arange(5, dtype="u1")]
)
def test_an_array_of_any_size_and_type_is_shared(array: np.ndarray) -> None:
    found = shared(array)
    assert found.dtype == array.dtype
    assert found.ctypes.data % ALIGNMENT == 0
    np.testing.assert_array_equal(found.ravel(), np.ravel(array))


def test_a_network_packs_each_weight_once_for_examples_and_batches() -> None:
    rng = np.random.default_rng(0)
    b = Builder(256)
    for _ in range(4):
        b.add("MatMul", b.last, rng.standard_normal((256, 256), np.float32))
        b.add("Relu", b.last)
    engine = Engine(b.model(), threads=1)
    engine.plan.single = engine.plan.batched = {}
    engine = Engine(b.model(), threads=1, plan=engine.plan)
    data = [a for kind in ("single", "batched") for s in engine._steps[kind] for a in s.data]
    memory = {id(a.base): a.base.nbytes for a in data}
    weights = 4 * 256 * 256 * 4
    assert sum(a.nbytes for a in data) > 2 * weights
    assert weights < sum(memory.values()) < 1.1 * weights


def test_data_that_kernels_cannot_read_is_refused() -> None:
    kernel = find("portable", "embed")[0]
    table = shared(np.zeros((4, 8), np.float32))
    sizes = kernel.shape({"count": 1, "rows": 3, "width": 8})
    made = Program(1, 1)
    slots = [made.slot(1, 0)], [made.slot(8, 16)]
    made.add(kernel.number, *slots, sizes, [table], 0, 1)
    with pytest.raises(ValueError, match="wrong arguments for kernel embed"):
        made.add(kernel.number, *slots, sizes, [table[:3].reshape(-1)[1:]], 0, 1)


def test_a_constant_is_packed_once_while_it_is_in_use() -> None:
    constant = np.arange(6, dtype=np.float32)
    constant.flags.writeable = False
    first, second = made = once(constant, lambda: [2 * constant, constant + 1], "twice")
    again = once(constant, lambda: pytest.fail("made again"), "twice")
    assert len(again) == len(made) == 2
    assert again[0] is first
    assert again[1] is second
    assert shared(first) is first
    np.testing.assert_array_equal(once(constant, lambda: [3 * constant], "thrice")[0], 3 * constant)
    del second, made, again
    gc.collect()  # one of the two is in use
    np.testing.assert_array_equal(once(constant, lambda: [4 * constant], "twice"), [4 * constant])
    writeable = constant.copy()
    assert (
        once(writeable, lambda: [2 * writeable], "")[0]
        is not (once(writeable, lambda: [3 * writeable], "")[0])
    )


@pytest.mark.parametrize(
    ("kernel", "packing"),
    [
        ("columns", "by_output"),
        ("sparse gemm", "sparse_panels"),
        ("windows", "by_windows"),
        ("block lists", "longest_first"),
    ],
)
def test_steps_of_a_written_out_recurrence_share_their_packed_weight(
    monkeypatch: pytest.MonkeyPatch, kernel: str, packing: str
) -> None:
    packed, pack = [], getattr(linear, packing)
    monkeypatch.setattr(linear, packing, lambda *a: packed.append(a) or pack(*a))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64), np.float32) * (rng.random((64, 64)) < 0.1)
    b = Builder(64)
    name = b.constant(weight)
    for _ in range(3):
        b.add("MatMul", b.last, name)
        b.add("Tanh", b.last)
    graph = read(b.model())
    lowering = Lowering(graph, chosen_isa(None), every=True)
    for node in graph.nodes:
        choices = lowering.candidates(node)
        next((c for c in choices if c.name.startswith(kernel)), choices[0]).emit()
    layers = [s for s in lowering.steps if s.kernel.operation.startswith(kernel)]
    assert len(layers) == 3
    assert len(packed) == 1
    assert all(a is c for s in layers for a, c in zip(s.data[:2], layers[0].data, strict=False))
