"""Weights of 16 bits: in files, where they are rounded, and in the engine, where they are not."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from networks import Builder, sparse
from onnx import numpy_helper

from gossamer.errors import UserError
from gossamer.kernels.registry import KERNELS
from gossamer.runtime import Engine, store_half, store_sparse
from gossamer.runtime.constants import in_16_bits
from gossamer.runtime.importer import read
from gossamer.runtime.lowering import Lowering

RNG = np.random.default_rng(0)


def model(density: float, scale: float = 1.0) -> onnx.ModelProto:
    b = Builder(96)
    weight = scale * sparse(RNG, 64, 96, density=density)
    b.add("Gemm", "x", weight.astype(np.float32), RNG.standard_normal(64, np.float32), transB=1)
    b.add("Relu", b.last)
    b.add("MatMul", b.last, RNG.standard_normal((64, 3), np.float32))  # too small to be stored so
    return onnx.load_from_string(b.model())


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_every_runtime_computes_with_the_rounded_weights(density: float, tmp_path: Path) -> None:
    plain = model(density)
    short = store_sparse(store_half(plain))
    assert short.ByteSize() < store_sparse(plain).ByteSize()
    rounded = onnx.ModelProto()
    rounded.CopyFrom(plain)
    weight = rounded.graph.initializer[0]
    half = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(half, weight.name))
    x = RNG.standard_normal((5, 96), np.float32)
    wanted = networks.reference(rounded.SerializeToString(), x)
    np.testing.assert_array_equal(networks.reference(short.SerializeToString(), x), wanted)
    onnx.save(short, tmp_path / "short.onnx")
    for batch in (x, x[:1]):
        found = Engine(tmp_path / "short.onnx", threads=1)(batch)
        np.testing.assert_allclose(found, wanted[: len(batch)], rtol=1e-5, atol=1e-5)
    first, last = (node.constants["weight"] for node in read(tmp_path / "short.onnx").nodes)
    np.testing.assert_array_equal(first, half)
    np.testing.assert_array_equal(last, numpy_helper.to_array(plain.graph.initializer[2]).T)


def test_stored_twice_is_stored_once() -> None:
    once = store_sparse(store_half(model(0.1)))
    assert store_sparse(store_half(once)).SerializeToString() == once.SerializeToString()


def test_a_number_too_large_for_16_bits_is_refused() -> None:
    with pytest.raises(UserError, match=r"'c0' has numbers beyond 65,504.*export in 32 bits"):
        store_half(model(1.0, scale=1e6))


def test_numbers_that_16_bits_hold_exactly_by_hand() -> None:
    exact = np.array([[0.5, -0.0, 65504.0, 2.0**-24, 1 + 2.0**-10]], np.float32)
    half = in_16_bits(exact)
    assert half is not None
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half.astype(np.float32), exact)
    for other in (1 + 2.0**-11, 65520.0, 2.0**-25, np.nan):
        assert in_16_bits(np.array([1.0, other], np.float32)) is None
    late = np.ones(5000, np.float32)  # the first numbers do not decide
    late[-1] = 1 + 2.0**-11
    assert in_16_bits(late) is None


@pytest.mark.skipif(not any(k.operation == "gemm float16" for k in KERNELS), reason="needs AVX-512")
def test_kernels_of_16_bits_are_for_weights_that_these_hold_exactly() -> None:
    weight = RNG.standard_normal((64, 64), np.float32)
    for rounded in (True, False):
        b = Builder(64)
        b.add("MatMul", "x", weight.astype(np.float16).astype(np.float32) if rounded else weight)
        graph = read(b.model())
        lowering = Lowering(graph, "avx512", threads=1)
        names = [candidate.name for candidate in lowering.candidates(graph.nodes[0])]
        assert any(name.startswith("gemm rows") for name in names)
        assert any(name.startswith("gemm float16 rows") for name in names) == rounded


@pytest.mark.skipif(not any(k.operation == "gemm float16" for k in KERNELS), reason="needs AVX-512")
@pytest.mark.parametrize(("rows", "batched"), [(1, False), (8, False), (9, False), (1, True)])
def test_few_rows_have_kernels_for_weights_of_16_bits(rows: int, batched: bool) -> None:
    """With more, what takes time is not the memory that weights are read from."""
    b = Builder(rows, 40)
    weight = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float16)
    b.add("MatMul", "x", weight.astype(np.float32))
    graph = read(b.model())
    (node,) = graph.nodes
    candidates = Lowering(graph, "avx512", batched=batched).candidates(node)
    assert any("float16" in c.name for c in candidates) == (rows < 9 and not batched)
