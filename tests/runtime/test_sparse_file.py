"""Sparse weights in files: to the bit, small, and safe to read."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Builder, sparse
from onnx import helper, numpy_helper

from gossamer.errors import UserError
from gossamer.runtime import Engine, store_sparse
from gossamer.runtime.importer import read
from gossamer.runtime.sparse_file import decode, encode


def test_a_weight_by_hand() -> None:
    values, gaps = encode(np.array([[0, 3, 0], [0, -1, 0]], np.float32))
    assert values.tolist() == [3, -1, 0]  # the last position is stored, though zero
    assert gaps.tolist() == [1, 2, 0]
    far = np.zeros(600, np.float32)
    far[599] = 7
    values, gaps = encode(far)
    assert values.tolist() == [0, 0, 7]
    assert gaps.tolist() == [255, 255, 87]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.sampled_from([0, 1e-3, 0.1, 0.6, 1]))
def test_every_weight_comes_back_to_the_bit(seed: int, size: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(size).astype(np.float32) * (rng.random(size) < density)
    weight[rng.random(size) < 0.01] = np.nan
    np.testing.assert_array_equal(decode(*encode(weight), [size]), weight)
    codes = np.where(np.isfinite(weight), 99 * weight, 0).astype(np.int8)
    values, gaps = encode(codes)
    assert values.dtype == np.int8
    np.testing.assert_array_equal(decode(values, gaps, [size]), codes)


@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_a_network_is_small_and_computes_the_same(density: float, tmp_path: Path) -> None:
    plain = networks.speech_cnn(density, winners=True, width=16, hidden=64, first=density)
    model = store_sparse(onnx.ModelProto.FromString(plain))
    x = np.random.default_rng(1).standard_normal((3, 1, 32, 32)).astype(np.float32)
    wanted = networks.reference(plain, x)
    np.testing.assert_array_equal(networks.reference(model.SerializeToString(), x), wanted)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    dense, small = read(plain), read(path)
    for node, other in zip(small.nodes, dense.nodes, strict=True):
        for key, constant in other.constants.items():
            np.testing.assert_array_equal(node.constants[key], constant)
    numbers = 16 * 25 + 16 * 16 * 25 + 64 * 400
    saved = len(plain) - path.stat().st_size
    # 5 bytes for each non-zero in place of 4 for each weight; functions and names cost some.
    assert saved > (4 - 5 * density) * numbers * 0.95 - 3000
    assert saved >= 0 or density == 1.0


def test_stored_twice_is_stored_once() -> None:
    model = onnx.ModelProto.FromString(networks.speech_cnn(0.1, width=8, hidden=64))
    once = store_sparse(model)
    assert store_sparse(once).SerializeToString() == once.SerializeToString()


def damaged(change: object) -> bytes:
    b = Builder(40)
    weight = sparse(np.random.default_rng(0), 30, 40, density=0.1)
    b.add("Gemm", "x", weight, np.zeros(30, np.float32), transB=1)
    model = store_sparse(onnx.ModelProto.FromString(b.model()))
    change(model)  # type: ignore[operator]
    return model.SerializeToString()


def _shape(*sizes: int) -> object:
    def change(m: onnx.ModelProto) -> None:
        m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("shape", sizes, attr_type=7))

    return change


def _entries(which: int, array: np.ndarray) -> object:
    def change(m: onnx.ModelProto) -> None:
        name = m.graph.initializer[which].name
        m.graph.initializer[which].CopyFrom(numpy_helper.from_array(array, name))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _shape(30, 41),
        _shape(1 << 20, 1 << 20),
        _shape(-30, -40),
        _shape(0),
        _shape(),
        _entries(0, np.zeros(0, np.float32)),
        _entries(0, np.zeros(7, np.float32)),
        _entries(0, np.zeros(7, np.int64)),
        _entries(1, np.full(100000, 255, np.uint8)),
        _entries(1, np.full(100, 3, np.int64)),
    ],
)
def test_entries_that_do_not_fit_are_refused(change: object) -> None:
    with pytest.raises(UserError, match=r"weight|Sparse"):
        read(damaged(change))


def coo(indices: np.ndarray, *dims: int) -> bytes:
    """A linear layer whose weight is one of ONNX's own sparse initializers."""
    b = Builder(4)
    b.add("Gemm", "x", np.zeros((3, 4), np.float32), transB=1)
    model = onnx.ModelProto.FromString(b.model())
    name = model.graph.initializer[0].name
    del model.graph.initializer[:]
    values = np.arange(1, len(indices) + 1, dtype=np.float32)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(values, name), numpy_helper.from_array(indices), dims
        )
    )
    return model.SerializeToString()


def test_onnx_sparse_initializers_are_read() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight[0, 1], weight[2, 3] = 1, 2
    x = np.array([[1, 2, 3, 4]], np.float32)
    for indices in (np.array([1, 11]), np.array([[0, 1], [2, 3]])):
        found = Engine(coo(indices, 3, 4), threads=1)(x)
        np.testing.assert_array_equal(found, x @ weight.T)
    for indices, dims in [
        (np.array([1, 12]), (3, 4)),
        (np.array([-1, 2]), (3, 4)),
        (np.array([[0, 1], [3, 0]]), (3, 4)),
        (np.array([[0, 1, 0], [2, 0, 0]]), (3, 4)),
        (np.array([1, 2]), (1 << 20, 1 << 20)),
        (np.array([1, 2]), (-3, -4)),
    ]:
        with pytest.raises(UserError, match="sparse constant"):
            read(coo(indices, *dims))
