"""Whole networks against ONNX Runtime, on every instruction set of this machine."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
import torch
from networks import Builder, sparse
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.kernels.registry import ISAS, KERNELS
from gossamer.runtime import Engine, Plan
from gossamer.runtime import engine as engines
from gossamer.runtime.choices import Choices
from gossamer.runtime.lowered import lower
from gossamer.runtime.planner import make


def close(found: networks.Array, wanted: networks.Array) -> None:
    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("density", "winners", "block"),
    [(1.0, False, 1), (0.05, False, 1), (1.0, True, 1), (0.1, True, 1), (0.1, True, 16)],
)
def test_speech_network(isa: str, density: float, winners: bool, block: int) -> None:
    model = networks.speech_cnn(density, winners=winners, block=block, width=24, hidden=100)
    engine = Engine(model, threads=1, isa=isa)
    rng = np.random.default_rng(1)
    for batch in (1, 2, 19):
        x = rng.standard_normal((batch, 1, 32, 32)).astype(np.float32)
        close(engine(x), networks.reference(model, x))


def test_threads_do_not_change_the_result() -> None:
    model = networks.speech_cnn(0.1, winners=True, width=32, hidden=200)
    plan = Engine(model, threads=1).plan
    x = np.random.default_rng(0).standard_normal((13, 1, 32, 32)).astype(np.float32)
    for batch in (1, 2, 13):
        results = [Engine(model, threads=t, plan=plan)(x[:batch]) for t in (1, 2, 3, 5)]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("callers", [5, 16])
def test_several_python_threads_may_call(callers: int) -> None:
    model = networks.speech_cnn(0.1, winners=True, width=16, hidden=64)
    engine = Engine(model, threads=2)
    x = np.random.default_rng(0).standard_normal((callers + 1, 1, 32, 32)).astype(np.float32)
    wanted = [engine(x[i : i + 1 + i % 2]) for i in range(callers)]

    def call(i: int) -> bool:
        some = x[i : i + 1 + i % 2]
        return all(np.array_equal(engine(some), wanted[i]) for _ in range(20))

    with ThreadPoolExecutor(callers) as pool:
        assert all(pool.map(call, range(callers)))


FORKS = """
import os, sys, threading
import numpy as np
from gossamer.runtime import Engine

engine = Engine(sys.argv[1], threads=3)
x = np.random.default_rng(0).standard_normal((3, 1, 32, 32)).astype(np.float32)
wanted, busy = engine(x), True

def call():
    while busy:
        engine(x)

def threads():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 3

other = threading.Thread(target=call)
other.start()
for _ in range(10):
    child = os.fork()
    if not child:
        before, same = threads(), np.array_equal(engine(x), wanted)
        grandchild = os.fork()
        if grandchild:
            os._exit(not (same and threads() == before + 2) or os.waitpid(grandchild, 0)[1] != 0)
        os._exit(not np.array_equal(engine(x), wanted))
    status = os.waitpid(child, 0)[1]
    if status:
        break
busy = False
other.join()
sys.exit(status != 0 or not np.array_equal(engine(x), wanted))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_another_thread_runs_the_engine_has_threads_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(networks.speech_cnn(0.1, winners=True, width=16, hidden=64))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(path)]
    subprocess.run(command, check=True, timeout=60)


def test_a_pickle_and_a_copy_open_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(networks.speech_cnn(0.1, winners=True, width=16, hidden=64))
    engine = Engine(path, threads=2)
    x = np.random.default_rng(0).standard_normal((3, 1, 32, 32)).astype(np.float32)
    for again in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
        assert (again.threads, again.plan) == (engine.threads, engine.plan)
        np.testing.assert_array_equal(again(x), engine(x))
    with pytest.raises(UserError, match="write the network to a file"):
        pickle.dumps(Engine(path.read_bytes(), threads=1, plan=engine.plan))


def test_threads_may_share_a_plan_file(tmp_path: Path) -> None:
    network, path = Builder(8), tmp_path / "plan"
    network.add("Gemm", "x", np.eye(16, 8, dtype=np.float32), transB=1)
    model = network.model()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Engine(model, threads=1, plan=path), range(4)))
    assert Engine(model, threads=1, plan=path).stale is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_an_engine_keeps_one_descriptor_and_the_limit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(networks.speech_cnn(1.0, winners=False, width=16, hidden=64))
    plan = tmp_path / "plan"
    Engine(path, threads=1, plan=plan)
    before = len(os.listdir("/proc/self/fd"))
    engines = [Engine(path, threads=1, plan=plan) for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) <= before + len(engines)
    code = f"""
import resource
from gossamer.errors import UserError
from gossamer.runtime import Engine
import onnx
Engine({str(path)!r}, threads=1, plan={str(plan)!r})
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
engines = []
try:
    while True:
        engines.append(Engine({str(path)!r}, threads=1, plan={str(plan)!r}))
except UserError as error:
    assert len(engines) > 10 and "(Too many open files)" in str(error), error
    assert "name another file" not in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_file_for_one_example_takes_three() -> None:
    network = Builder(8, batch=1)
    network.add("Gemm", "x", np.ones((4, 8), np.float32), transB=1)
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    y = Engine(network.model(), threads=1)(x)
    np.testing.assert_array_equal(y, np.repeat(x.sum(axis=1, keepdims=True), 4, axis=1))


@pytest.mark.parametrize("threads", [2, 3])
def test_what_one_thread_computes_alone_does_not_change_the_result(threads: int) -> None:
    model = networks.speech_cnn(0.3, winners=True, width=8, hidden=40)
    single = Engine(model, threads=1)
    engine = Engine(model, threads=threads, plan=single.plan)
    x = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32)
    steps = len(engine.profile(x))
    rng = np.random.default_rng(1)
    choices = [[], [0], [steps - 1], list(range(steps))]
    choices += [np.flatnonzero(rng.random(steps) < 0.5).tolist() for _ in range(10)]
    for alone in choices:
        plan = dataclasses.replace(single.plan, single_threaded={str(threads): alone})
        engine = Engine(model, threads=threads, plan=plan)
        for _ in range(3):
            np.testing.assert_array_equal(engine(x), single(x))
        shown = [layer.threads for layer in engine.profile(x)]
        assert shown == [1 if i in alone else threads for i in range(steps)]
        many = np.repeat(x, threads, 0)
        assert {layer.threads for layer in engine.profile(many)} == {threads}


def test_a_plan_keeps_what_is_computed_alone(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    Engine(small, threads=1, plan=path)
    assert json.loads(path.read_text())["single_threaded"] == {}
    for threads in (2, 3):  # added to the plan that is there
        kept = Engine(small, threads=threads, plan=path).plan.single_threaded
        assert json.loads(path.read_text())["single_threaded"] == kept
    assert set(kept) == {"2", "3"}
    known = json.loads(path.read_text())
    path.write_text(
        json.dumps({**known, "single_threaded": {"2": [0, 99]}})
    )  # a step that there is not
    assert max(Engine(small, threads=2, plan=path).plan.single_threaded["2"], default=0) < 99


def test_other_python_threads_run_meanwhile() -> None:
    """Were the GIL held during a call, this thread would not get a turn before it ends."""
    engine = Engine(networks.speech_cnn(width=32, hidden=64), threads=1)
    x = np.zeros((300, 1, 32, 32), np.float32)
    engine(x[:2])
    caller = threading.Thread(target=engine, args=(x,))
    caller.start()
    turns = 0
    while caller.is_alive():
        turns += 1
    assert turns > 100


@pytest.fixture(scope="module")
def small() -> bytes:
    rng = np.random.default_rng(0)
    b = Builder(6)
    b.add("Gemm", "x", sparse(rng, 5, 6, density=0.4), sparse(rng, 5), transB=1)
    b.add("Relu", b.last)
    b.add("Gemm", b.last, sparse(rng, 3, 5, density=0.4), sparse(rng, 3), transB=1)
    return b.model()


def test_nan_and_infinity_spread_as_in_onnx_runtime(small: bytes) -> None:
    engine = Engine(small, threads=1)
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    x[1, 2], x[2, 0], x[3, 5] = np.nan, np.inf, -np.inf
    for rows in (x, x[1:2], x[2:3]):
        np.testing.assert_allclose(
            engine(rows), networks.reference(small, rows), rtol=1e-5, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize(
    ("kernel", "leaves_out_zeros"), [("gemm rows 1", 0), ("active block 8", 1)]
)
def test_only_kernels_that_leave_out_zeros_need_finite_inputs(
    small: bytes, kernel: str, leaves_out_zeros: bool
) -> None:
    plan = Engine(small, threads=1).plan
    choices = dict.fromkeys(plan.single, f"{kernel} {plan.isa}")
    engine = Engine(small, threads=1, plan=dataclasses.replace(plan, single=choices))
    x = np.random.default_rng(0).standard_normal((1, 6), np.float32)
    x[0, 2] = np.nan
    for rows in (x, x.astype(np.float64)):
        np.testing.assert_allclose(
            engine(rows), networks.reference(small, x), rtol=1e-5, atol=1e-6, equal_nan=True
        )
    assert ("careful" in engine._programs) == leaves_out_zeros


def test_small_batches_go_through_the_kernels_for_single_examples(small: bytes) -> None:
    engine = Engine(small, threads=1)
    few = Engine(small, threads=1, plan=dataclasses.replace(engine.plan, smallest_batch=4))
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    each = np.concatenate([few(x[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(few(x[:3]), each[:3])
    single = [layer.kernel for layer in few.profile(x[:1])]
    assert [layer.kernel for layer in few.profile(x[:3])] == single
    np.testing.assert_allclose(few(x), each, rtol=1e-5, atol=1e-6)


def test_infinite_weights_are_not_skipped() -> None:
    b = Builder(4)
    weight = np.zeros((3, 4), np.float32)
    weight[0, 1] = np.inf
    b.add("Gemm", "x", weight, np.zeros(3, np.float32), transB=1)
    x = np.array([[1, 0, 2, 0]], np.float32)
    found = Engine(b.model(), threads=1)(x)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 0


def test_batch_of_none(small: bytes) -> None:
    assert Engine(small, threads=2)(np.zeros((0, 6), np.float32)).shape == (0, 3)


def test_inputs_are_converted_or_refused(small: bytes) -> None:
    engine = Engine(small, threads=1)
    x = np.random.default_rng(0).standard_normal((4, 6))
    close(engine(x), networks.reference(small, x.astype(np.float32)))
    close(engine(x[::2]), networks.reference(small, x[::2].astype(np.float32)))
    for wrong, message in [
        (np.zeros((2, 5)), r"shape \[2, 5\], wanted \[batch, 6\]"),
        (np.zeros(6), r"shape \[6\]"),
        (np.array([["a"] * 6]), "holds <U1"),
        (np.zeros((1, 6), complex), "holds complex"),
        (3.0, r"shape \[\]"),
        ([[1.0], [1.0, 2.0]], "'x' is no array that NumPy can read"),
        (torch.zeros(1, 6, dtype=torch.bfloat16), "'x' is no array that NumPy can read"),
    ]:
        with pytest.raises(UserError, match=message):
            engine(wrong)
    with pytest.raises(UserError, match="takes 1: x"):
        engine(x, x)
    with pytest.raises(UserError, match="takes 1: x"):
        engine()


def test_inputs_to_plan_and_to_profile_on_are_checked_too() -> None:
    b = Builder(4)
    b.inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4]))
    b.add("Add", "x", "z")
    good, short = np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)
    engine = Engine(b.model(), threads=1, sample=[good, good])
    for run in (
        lambda *inputs: Engine(b.model(), threads=1, sample=inputs),
        lambda *inputs: engine.profile(*inputs, repeats=1),
    ):
        with pytest.raises(UserError, match=r"different batches: \[3, 2\]"):
            run(good, short)
        with pytest.raises(UserError, match="takes 2: x, z"):
            run(good)


def test_arguments_are_checked(small: bytes) -> None:
    with pytest.raises(UserError, match="threads = 0"):
        Engine(small, threads=0)
    with pytest.raises(UserError, match="avx9000"):
        Engine(small, isa="avx9000")


def test_a_plan_is_reused_and_renewed(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "plan.json"
    first = Engine(small, threads=1, plan=path).plan
    kept = Engine(small, threads=2, plan=path).plan
    assert dataclasses.replace(kept, single_threaded={}) == first
    other = networks.speech_cnn(0.1, width=8, hidden=16)
    assert Engine(other, threads=1, plan=path).plan.network != first.network
    moved = Plan(**{**first.__dict__, "machine": "another"})
    moved.save(path)
    assert Engine(small, threads=1, plan=path).plan.machine == first.machine
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"machine": "Abacus"}, r"another machine \(Abacus\)"),
        ({"isa": "beads"}, r"another instruction set \(beads\)"),
        ({"version": 0}, "another version of gossamer"),
        ({"network": "0"}, "another network"),
        ({"beads": 10}, "another version of gossamer"),
        ({"chunk": -5}, "is damaged"),
        ({"chunk": 1 << 40}, "is damaged"),
        ({"smallest_batch": float("nan")}, "is damaged"),
        ({"single": {"y": 3}}, "is damaged"),
        ({"batched": ["y"]}, "is damaged"),
        ({"single_threaded": {"1": 3}}, "is damaged"),
        ({"densities": {"y": "a"}}, "is damaged"),
        (None, None),
    ],
)
def test_why_a_plan_is_redone(
    tmp_path: Path, small: bytes, change: dict[str, object] | None, told: str | None
) -> None:
    path = tmp_path / "plan.json"
    engine = Engine(small, threads=1, plan=path)
    assert engine.stale is None
    path.write_text(json.dumps({**dataclasses.asdict(engine.plan), **(change or {})}))
    stale = Engine(small, threads=1, plan=path).stale
    assert stale is None if told is None else re.search(told, str(stale))


@pytest.mark.parametrize("held", [b"import gossamer", b"{half", b"[1]", b"{}", b"\xff\xfe"])
def test_a_file_that_is_no_plan_is_not_overwritten(
    tmp_path: Path, small: bytes, held: bytes
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(held)
    with pytest.raises(UserError, match="mine: not a plan"):
        Engine(small, threads=1, plan=path)
    assert path.read_bytes() == held
    path.write_bytes(b"")
    assert Engine(small, threads=1, plan=path).stale is None
    assert path.read_bytes()


def stack(*densities: float) -> bytes:
    """Layers 96->96, one of each density."""
    rng, b = np.random.default_rng(5), networks.Builder(96)
    for density in densities:
        weight = networks.sparse(rng, 96, 96, density=density)
        b.add("Gemm", b.last, weight, np.zeros(96, np.float32), transB=1)
    return b.model()


def test_similar_layers_are_measured_once() -> None:
    """Each of these weights has a number of non-zeros of its own."""
    plan = Engine(stack(0.2, 0.2, 0.5, 0.205, 0.195, 0.5), threads=1, isa="portable").plan
    assert list(plan.measured_ns) == ["v0 (single)", "v0 (batched)", "v2 (single)", "v2 (batched)"]
    for chosen in (plan.single, plan.batched):
        assert chosen["v0"] == chosen["v1"] == chosen["v3"] == chosen["v4"]
        assert chosen["v2"] == chosen["v5"]


def test_no_more_than_one_of_a_hopeless_kind_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    nanoseconds = {"gemm": 100.0, "columns": 10.0, "block": 10.0, "active": 0.0}

    def active() -> int:
        times = Engine(stack(0.2), threads=1, isa="portable").plan.measured_ns["v0 (batched)"]
        return sum(name.startswith("active") for name in times)

    def trial(*rest: Any) -> Callable[[int, float], float]:
        return lambda examples, spend: nanoseconds[rest[-1].split()[0]]

    monkeypatch.setattr(Choices, "_trial", trial)
    everyone = active()
    assert everyone > 1
    nanoseconds["active"] = 39.0
    assert active() == everyone
    nanoseconds["active"] = 41.0
    assert active() == 1


def test_a_candidate_slowed_down_once_may_still_win(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"gemm": 13.0, "columns": 6.0, "block": 12.0, "active": 10.0}

    def trial(*rest: Any) -> Callable[[int, float], float]:
        kind = rest[-1].split()[0]
        looks = chain([first[kind]], repeat({**first, "active": 5.0}[kind]))
        return lambda examples, spend: next(looks)

    monkeypatch.setattr(Choices, "_trial", trial)
    plan = Engine(stack(0.2), threads=1, isa="portable").plan
    assert plan.batched["v0"].startswith("active")


def test_every_candidate_computes_the_same() -> None:
    """The first network with one layer forced to each of its candidates in turn."""
    model = networks.speech_cnn(0.1, winners=True, width=24, hidden=100)
    from gossamer.runtime.importer import read

    graph = read(model)
    x = np.random.default_rng(3).standard_normal((5, 1, 32, 32)).astype(np.float32)
    wanted = networks.reference(model, x)
    used = set()
    for isa in ISAS:
        plan = make(graph, isa)
        for key in plan.measured_ns:
            value, _, kind = key.partition(" (")
            for name in plan.measured_ns[key]:
                choices = {**(plan.single if kind == "single)" else plan.batched), value: name}
                forced = Plan(**{**plan.__dict__, kind[:-1]: choices})
                engine = Engine(model, threads=1, isa=isa, plan=forced)
                rows = x[:1] if kind == "single)" else x
                close(engine(rows), wanted[: len(rows)])
                used |= {row.kernel for row in engine.profile(rows, repeats=1)}
    sparse_ones = {str(k) for k in KERNELS if k.operation in ("active", "planes", "lanes")}
    assert len(sparse_ones & used) >= len(sparse_ones) // 2


def test_a_plan_with_an_unknown_kernel_is_refused(small: bytes) -> None:
    plan = Engine(small, threads=1, isa="portable").plan
    wrong = dataclasses.replace(plan, single=dict.fromkeys(plan.single, "gemm rows 5 portable"))
    with pytest.raises(UserError, match=r"'gemm rows 5 portable' for 'Gemm0'.* did you mean"):
        Engine(small, threads=1, isa="portable", plan=wrong)


def test_a_shape_needs_every_field_of_its_kernel() -> None:
    kernel = next(kernel for kernel in KERNELS if kernel.operation == "copy")
    shape = {name: [1, 2, 3, 4, 5] for name in ("sizes", "in_strides", "out_strides")}
    offsets = {"in_offset": 6, "out_offset": 7, "clear_offset": 8, "clear": 9, "pixels": 10}
    assert kernel.shape({**offsets, **shape}) == [*[1, 2, 3, 4, 5] * 3, *range(6, 11)]
    for wrong in (shape, {**shape, **offsets, "step": 1}, {**shape, **offsets, "sizes": [1]}):
        with pytest.raises(ValueError, match="copy any 1 portable takes the shape"):
            kernel.shape(wrong)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_profiled_times_are_those_of_whole_runs(threads: int) -> None:
    """Also where other programs have the core of the thread that keeps the times."""
    engine = Engine(networks.speech_cnn(1.0, width=32), threads=threads)
    x = [np.zeros((1, 1, 32, 32), np.float32)]
    engine._single_program.single_threaded([])
    began = time.perf_counter_ns()
    times = engine._single_program.profile(x, 100, False)
    elapsed = time.perf_counter_ns() - began
    assert 0.5 * elapsed < sum(map(sum, times)) <= elapsed


def test_profile_counts_the_work() -> None:
    model = networks.speech_cnn(0.1, winners=True, width=16, hidden=64)
    rows = Engine(model, threads=1).profile(np.zeros((1, 1, 32, 32), np.float32), repeats=3)
    linear = next(row for row in rows if row.node == "Gemm9")
    assert linear.dense_macs == 400 * 64
    assert 0 < linear.macs < 0.2 * linear.dense_macs
    assert all(row.seconds >= 0 for row in rows)


def test_import_needs_no_torch() -> None:
    code = "import sys, gossamer.runtime; assert not {'torch', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_denormal_numbers_are_zeros_in_the_engine_alone() -> None:
    """They may take a hundred times as long; the caller's own arithmetic keeps them."""
    b = Builder(4)
    b.add("Mul", "x", np.float32(0.5))
    b.add("Mul", b.last, np.float32(2**24))
    tiny = np.float32(np.finfo(np.float32).tiny)
    for threads in (1, 2):
        engine = Engine(b.model(), threads=threads)
        found = engine(np.array([[tiny, 2 * tiny, 1, tiny / 2]], np.float32))
        np.testing.assert_array_equal(found, np.array([[0, 2**24 * tiny, 2**23, 0]], np.float32))
        assert (np.array([tiny]) * np.float32(0.5))[0] > 0


@pytest.mark.parametrize("op", ["Relu", "Tanh", "Sigmoid"])
def test_what_follows_winners_reads_their_list(op: str) -> None:
    """A function that keeps zero at zero makes no dense value of a list, one that does not does."""
    b = Builder(400)
    b.winners(40, (400,))
    b.add(op, b.last)
    b.add("Gemm", b.last, sparse(np.random.default_rng(0), 30, 400, density=0.1), transB=1)
    engine = Engine(b.model(), threads=1)
    x = np.random.default_rng(1).standard_normal((3, 400)).astype(np.float32)
    np.testing.assert_allclose(engine(x), networks.reference(b.model(), x), rtol=1e-4, atol=1e-5)
    graph = engine.graph
    choices = {graph.outputs[0]: f"active scatter 2 bytes {engine.isa}"}
    steps, _, _ = lower(graph, engine.isa, choices)
    between = [] if op != "Sigmoid" else ["scatter"]
    operations = ["winners", *between, "unary", *(["nonzeros"] if between else []), "active"]
    assert [step.kernel.operation for step in steps] == operations


@pytest.mark.parametrize("threads", [1, 2])
def test_planning_lowers_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs are made of the steps that planning made; they are those of its plan."""
    lowered: list[Any] = []
    monkeypatch.setattr(engines, "lower", lambda *a, **k: lowered.append(a[2]) or lower(*a, **k))
    engine = Engine(stack(0.2), threads=threads)
    assert not lowered
    again = Engine(stack(0.2), threads=threads, plan=engine.plan)
    assert lowered == [engine.plan.single, engine.plan.batched]
    for kind in ("single", "batched"):
        for mine, theirs in zip(engine._steps[kind], again._steps[kind], strict=True):
            for name in ("kernel", "inputs", "outputs", "shape", "scratch", "items", "node"):
                assert getattr(mine, name) == getattr(theirs, name)
            assert all(map(np.array_equal, mine.data, theirs.data))
