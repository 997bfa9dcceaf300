"""Constants stay in the file: mapped, found by their place in the message, safe to lose."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Builder, sparse
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, choices, planner, store_sparse
from gossamer.runtime.graph import Graph
from gossamer.runtime.importer import mmap, read
from gossamer.runtime.importer.mmap import lifted
from gossamer.runtime.lowered import lower

BIG = mmap.LARGE // 4


def layer(seed: int = 0, *, stored: bool = False) -> bytes:
    b = Builder(64)
    weight = sparse(np.random.default_rng(seed), 400, 64, density=0.2)
    b.add("Gemm", "x", weight, np.ones(400, np.float32), transB=1)
    model = b.model()
    return store_sparse(onnx.load_from_string(model)).SerializeToString() if stored else model


@pytest.fixture
def skips_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that leave out zeros are chosen: only they look at inputs that are not finite."""
    monkeypatch.setattr(
        choices, "_fastest", lambda times: next(n for n in times if not n.startswith("gemm"))
    )


def in_file(array: np.ndarray) -> bool:
    """Do its numbers lie in a mapped file?"""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, memoryview) and type(owner.obj).__name__ == "mmap"


@given(st.integers(0, 2**32 - 1))
def test_nothing_but_large_bytes_is_cut_out(seed: int) -> None:
    """Whatever else the message holds, in pieces as protobuf allows."""
    rng = np.random.default_rng(seed)

    def piece() -> bytes:
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
        for i in range(rng.integers(4)):
            tensor = graph.initializer.add(name=f"w{i}", data_type=1, dims=[int(rng.integers(300))])
            kind = rng.integers(4)
            if kind == 0:
                tensor.float_data.extend(rng.random(int(rng.integers(2000))))
            elif kind < 3:
                tensor.raw_data = rng.bytes(int(rng.choice([0, 5, 4095, 4096, 20_000])))
        large = rng.bytes(5000)  # elsewhere than in an initializer
        graph.sparse_initializer.add().values.raw_data = large
        graph.node[0].attribute.add(name="value").t.raw_data = large
        return helper.make_model(graph).SerializeToString() + b"\xfd\x3f\x01\x02\x03\x04"

    whole = b"".join(piece() for _ in range(rng.integers(1, 3)))
    message, found = lifted(memoryview(whole))
    wanted, rest = onnx.ModelProto.FromString(whole), onnx.ModelProto.FromString(message)
    for tensor, raw in zip(rest.graph.initializer, found, strict=True):
        assert raw is None or (len(raw) >= mmap.LARGE and not tensor.HasField("raw_data"))
        if raw is None:
            assert len(tensor.raw_data) < mmap.LARGE
        else:
            tensor.raw_data = bytes(raw)
    assert rest == wanted


@pytest.mark.parametrize("stored", [False, True])
def test_constants_are_views_of_the_file(stored: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(layer(stored=stored))
    node = read(path).nodes[0]
    assert all(in_file(array) for array in node.store.stored("weight"))
    given = read(layer(stored=stored)).nodes[0]
    np.testing.assert_array_equal(node.constants["weight"], given.constants["weight"])
    assert not any(in_file(array) for array in given.store.stored("weight"))


def test_external_data_are_views_of_their_file(tmp_path: Path) -> None:
    model = onnx.load_from_string(layer())
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4096")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(b"\0" * 4096 + raw)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    weight = read(tmp_path / "m.onnx").nodes[0].constants["weight"]
    assert in_file(weight)
    np.testing.assert_array_equal(weight, read(layer()).nodes[0].constants["weight"])


def test_a_large_weight_is_dropped_as_soon_as_it_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Builder(1024)
    for i in range(3):
        weight = np.random.default_rng(i).standard_normal((1024, 1025 if i == 2 else 1024))
        b.add("MatMul", b.last, weight.astype(np.float32))
    path = tmp_path / "m.onnx"
    path.write_bytes(b.model())
    graph, released = read(path), []
    monkeypatch.setattr(Graph, "release", lambda graph: released.append(graph))
    lower(graph, chosen_isa(), {})
    assert released == [graph]  # the one of more numbers than may stay
    planner.make(graph, chosen_isa(), np.zeros((1, 1, 1024), np.float32), batches=False)
    assert released == [graph] * 2


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_reading_a_dense_file_takes_no_memory_of_its_size(operator: str, tmp_path: Path) -> None:
    b = Builder(512)
    for i in range(4):
        weight = np.random.default_rng(i).standard_normal((512, 512)).astype(np.float32)
        b.add(operator, b.last, weight, **({"transB": 1} if operator == "Gemm" else {}))
    path = tmp_path / "m.onnx"
    path.write_bytes(b.model())
    read(path)  # what is imported and cached on the way is not counted
    tracemalloc.start()
    kept = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept.nodes) == 4
    assert peak < 512 * 512 * 4 / 2


@pytest.mark.parametrize("shift", range(4))
def test_numbers_may_lie_anywhere(shift: int, tmp_path: Path) -> None:
    """The kernels' copies are the same wherever in the file the numbers are."""
    plain = networks.speech_cnn(0.3, winners=True, width=16, hidden=64, first=0.5)
    model = onnx.load_from_string(plain)
    model.producer_name = "p" * shift
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((3, 1, 32, 32)).astype(np.float32)
    engine = Engine(path, threads=1)
    np.testing.assert_array_equal(engine(x), Engine(plain, threads=1, plan=engine.plan)(x))


def test_a_table_may_lie_anywhere(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((BIG, 3)).astype(np.float32)
    ids = helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 3])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["t", "x"], ["y"])],
        "g",
        [ids],
        [y],
        [onnx.numpy_helper.from_array(table, "t")],
    )
    x = np.arange(10).reshape(2, 5)
    for shift in range(4):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.producer_name = "p" * shift
        path = tmp_path / f"{shift}.onnx"
        path.write_bytes(model.SerializeToString())
        np.testing.assert_array_equal(Engine(path, threads=1)(x), table[x])


@pytest.mark.usefixtures("skips_zeros")
def test_a_file_may_be_replaced_or_removed_while_in_use(tmp_path: Path) -> None:
    path, other = tmp_path / "m.onnx", tmp_path / "other"
    path.write_bytes(layer())
    engine, second = Engine(path, threads=1), Engine(path, threads=1)
    x = np.full((2, 64), np.nan, np.float32)  # packs the weights again
    wanted = Engine(layer(), threads=1)(x)
    other.write_bytes(layer(1)[:100])
    other.replace(path)
    np.testing.assert_array_equal(engine(x), wanted)
    path.unlink()
    np.testing.assert_array_equal(second(x), wanted)


@pytest.mark.parametrize("size", [0, 100, None])
@pytest.mark.usefixtures("skips_zeros")
def test_a_file_that_was_written_to_while_in_use_is_noticed(
    size: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(layer())
    engine = Engine(path, threads=1)
    path.write_bytes(layer(1)[:size])
    engine(np.zeros((2, 64), np.float32))  # the kernels have their own copies
    with pytest.raises(UserError, match=r"m\.onnx: was changed while in use"):
        engine(np.full((2, 64), np.nan, np.float32))


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    whole = layer(stored=True)
    for size in [*range(200), *range(200, len(whole), 997)]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError):
            read(path)


def test_bytes_that_do_not_fit_their_shape(tmp_path: Path) -> None:
    model = onnx.load_from_string(layer())
    model.graph.initializer[0].dims[0] += 1
    with pytest.raises(UserError, match=r"holds 102400 bytes"):
        read(model.SerializeToString())


@pytest.mark.parametrize("dims", [[0, 1 << 62, 4], [1 << 62, 0, 1 << 62]])
def test_empty_constants_of_impossible_shapes(dims: list[int]) -> None:
    """Found by the fuzzer: no numbers, in a shape that numpy cannot have."""
    model = onnx.load_from_string(layer())
    model.graph.initializer.add(name="none", data_type=1, dims=dims, raw_data=b"")
    with pytest.raises(UserError, match="impossible shape"):
        read(model.SerializeToString())
