"""Sparse weights are held as their non-zeros until a kernel wants them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from networks import Builder, sparse

from gossamer.runtime import Engine, store_sparse
from gossamer.runtime.constants import Constants, Quantized
from gossamer.runtime.graph import whole
from gossamer.runtime.importer import read


def stored_bytes(constants: Constants, name: str) -> int:
    return sum(array.nbytes for array in constants.stored(name))


@pytest.mark.parametrize("density", [0.0, 0.001, 0.1, 0.5, 1.0])
def test_a_weight_comes_back(density: float) -> None:
    weight = sparse(np.random.default_rng(0), 300, 300, density=density)
    weight[3, 4], weight[5, 6] = np.nan, -np.inf
    constants = Constants({"weight": weight})
    np.testing.assert_array_equal(constants["weight"], weight)
    assert constants.shape("weight") == (300, 300)
    # Five bytes an entry; where 255 zeros follow one another, an entry more.
    entries = np.count_nonzero(weight) + weight.size / 256 + 1
    assert stored_bytes(constants, "weight") <= (5 * entries if density <= 0.1 else weight.nbytes)


def test_other_arrays_stay_as_they_are() -> None:
    """A negative zero among them may stand for nothing to add."""
    right = np.full((300, 300), -0.0, np.float32)
    assert Constants({"right": right})["right"] is right


def test_one_copy_for_all_who_look_at_the_same_time() -> None:
    constants = Constants({"weight": np.zeros((300, 300), np.float32)})
    first = constants["weight"]
    assert constants["weight"] is first


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_weight_of_8_bits_stays_in_codes(axis: int | None) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (6, 4)).astype(np.int8)
    sizes = (1, 1) if axis is None else tuple(n if i == axis else 1 for i, n in enumerate((6, 4)))
    step = np.linspace(0.1, 0.2, max(sizes)).astype(np.float32).reshape(sizes)
    weight = Quantized(codes, step)
    np.testing.assert_array_equal(weight.dense(), codes.astype(np.float32) * step)
    floats = weight.dense()
    assert weight.dense() is floats
    for along, size in enumerate((6, 4)):
        steps = weight.steps(along)
        assert (steps is None) == (axis == 1 - along)
        if steps is not None:
            np.testing.assert_array_equal(steps, np.broadcast_to(step.ravel(), size))
    assert weight.turned is weight.turned
    np.testing.assert_array_equal(weight.turned.dense(), weight.dense().T)


def test_steps_go_with_the_weight() -> None:
    codes, step = np.int8([[1, -2]]), np.float32([[0.5]])
    constants = Constants({"weight": Quantized(codes, step)})
    np.testing.assert_array_equal(constants["step"], [0.5])
    constants["weight"] = np.ones((1, 2), np.float32)
    assert "step" not in constants


def test_codes_of_a_file_are_neither_copied_nor_expanded(tmp_path: Path) -> None:
    """The steps of an unrolled layer share them, as layers do here."""
    b = Builder(1024)
    codes = np.random.default_rng(0).integers(-128, 128, (1024, 1024)).astype(np.int8)
    weight = b.add("DequantizeLinear", codes, np.float32(0.01))
    for _ in range(4):
        b.add("MatMul", b.last if b.last != weight else "x", weight)
    (tmp_path / "net.onnx").write_bytes(b.model())
    read(tmp_path / "net.onnx")  # with its imports
    tracemalloc.start()
    graph = read(tmp_path / "net.onnx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < codes.nbytes / 2
    assert len({id(whole(node)) for node in graph.nodes}) == 1
    np.testing.assert_array_equal(whole(graph.nodes[0]), codes.T)


@pytest.mark.parametrize("stored", [False, True])
def test_a_graph_holds_the_non_zeros_only(stored: bool) -> None:
    """However the file has them; the fingerprint is that of the network."""
    b = Builder(512)
    for layer in range(6):
        b.add("Gemm", b.last, sparse(np.random.default_rng(layer), 512, 512, density=0.02),
              transB=1)  # fmt: skip
    model = b.model()
    if stored:
        model = store_sparse(onnx.load_from_string(model)).SerializeToString()
    graph = read(model)
    dense = 512 * 512 * 4
    assert sum(stored_bytes(node.store, "weight") for node in graph.nodes) < 6 * dense * 0.03
    assert graph.fingerprint() == read(b.model()).fingerprint()
    x = np.random.default_rng(9).standard_normal((3, 512)).astype(np.float32)
    np.testing.assert_allclose(
        Engine(graph, threads=1)(x), networks.reference(b.model(), x), rtol=1e-3, atol=1e-4
    )


def test_reading_never_holds_all_weights_dense() -> None:
    b = Builder(1024)
    for layer in range(8):
        b.add("Gemm", b.last, sparse(np.random.default_rng(layer), 1024, 1024, density=0.01),
              transB=1)  # fmt: skip
    model = store_sparse(onnx.load_from_string(b.model())).SerializeToString()
    read(model)  # what is imported and cached on the way is not counted
    tracemalloc.start()
    read(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 1024 * 1024 * 4
