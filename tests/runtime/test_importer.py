"""The reader of files: what it refuses, and that no file can make it misbehave."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Builder
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read


def small() -> bytes:
    b = Builder(2, 6, 6)
    b.add("Conv", "x", np.ones((3, 2, 3, 3), np.float32), np.zeros(3, np.float32))
    b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    b.winners(4, (3, 2, 2))
    b.add("Flatten", b.last)
    b.add("Gemm", b.last, np.ones((4, 12), np.float32), np.zeros(4, np.float32), transB=1)
    return b.model()


MODEL = small()


def test_unknown_operator_is_named_before_anything_runs() -> None:
    b = Builder(4)
    b.add("Relu", "x")
    b.add("LpNormalization", b.last)
    with pytest.raises(UserError, match=r"node 'LpNormalization1' \(LpNormalization\): .*replace"):
        read(b.model())
    b = Builder(4)
    b.add("Rellu", "x")
    with pytest.raises(UserError, match="did you mean 'Relu'"):
        read(b.model())


def free_sizes() -> bytes:
    """A convolution and a global mean over an image of any height and width."""
    b = Builder()
    b.inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, "height", "width"])
    ]
    b.add("Conv", "x", np.ones((3, 2, 3, 3), np.float32), np.zeros(3, np.float32))
    b.add("GlobalAveragePool", b.last)
    return b.model()


@pytest.mark.parametrize("batch", [-1, 2])
def test_sizes_that_a_file_leaves_free_are_named(batch: int) -> None:
    model, x = free_sizes(), np.random.default_rng(0).standard_normal((2, 2, 6, 5), np.float32)
    with pytest.raises(UserError, match="name its sizes"):
        read(model)
    engine = Engine(model, threads=1, shapes={"x": (batch, 2, 6, 5)})
    assert engine.graph.dynamic == (batch == -1)
    np.testing.assert_allclose(engine(x), networks.reference(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": (1, 2, 6, 5)}, "a shape for input 'y', which does not exist: Known: x"),
        ({"x": (1, 3, 6, 5)}, r"does not fit input 'x', which is \[batch, 2, height, width\]"),
        ({"x": (1, 2, 6)}, "does not fit"),
        ({"x": (1, 2, 6, -1)}, "does not fit"),
        ({"x": (0, 2, 6, 5)}, "does not fit"),
        ({"x": (1, 2, 6, 1 << 40)}, "all dimensions but the first must be fixed"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(free_sizes(), shapes)


def test_one_number_for_all_examples_beside_a_free_batch_is_refused() -> None:
    model = onnx.load_from_string(free_sizes())
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.FLOAT, []))
    with pytest.raises(UserError, match="'rate' is one number for all examples: fix the batch"):
        read(model.SerializeToString(), {"x": (-1, 2, 6, 5)})


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Conv", [np.ones((3, 5, 3, 3), np.float32)], {}, "does not fit 2 channels"),
        ("Conv", [np.ones((3, 2, 9, 9), np.float32)], {}, "impossible shape"),
        ("Conv", [np.ones((3, 2, 3, 3), np.float32)], {"strides": [0, 1]}, "between 1 and"),
        ("Conv", [np.ones((3, 2, 3, 3), np.float32)], {"pads": [-1, 0, 0, 0]}, "pads"),
        ("Conv", [np.ones((3, 2, 3, 3), np.float32)], {"pads": [60000] * 4}, "too large"),
        ("Conv", [np.ones((3, 2, 3, 3), np.float64).astype(np.int32)], {}, "int32"),
        ("MaxPool", [], {"kernel_shape": [9, 9]}, "impossible shape"),
        ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilated"),
        ("Transpose", [], {"perm": [1, 0, 2, 3]}, "must stay first"),
        ("Reshape", [np.array([7, -1])], {}, "reshapes"),
        ("Reshape", [np.array([-1, -1])], {}, "reshapes"),
        ("Concat", [], {"axis": 0}, "along the batch"),
        ("MatMul", [np.ones(3, np.float32)], {}, "takes 3 inputs"),
        ("Add", [np.ones((2, 1, 6, 6), np.float32)], {}, "does not fit"),
    ],
)
def test_settings_that_make_no_sense(
    op: str, inputs: list[networks.Array | str], attributes: dict[str, object], message: str
) -> None:
    b = Builder(2, 6, 6)
    b.add(op, "x", *inputs, **attributes)
    with pytest.raises(UserError, match=message):
        read(b.model())


def test_winners_out_of_range() -> None:
    for k in (0, 13):
        b = Builder(3, 2, 2)
        b.winners(k, (3, 2, 2))
        with pytest.raises(UserError, match="k must be 1 to 12"):
            read(b.model())


def edited(change: object) -> bytes:
    model = onnx.ModelProto.FromString(MODEL)
    change(model)  # type: ignore[operator]
    return model.SerializeToString()


def test_cycles_and_loose_ends() -> None:
    def cycle(m: onnx.ModelProto) -> None:
        m.graph.node[0].input[0] = m.graph.node[-1].output[0]

    def twice(m: onnx.ModelProto) -> None:
        m.graph.node[1].output[0] = m.graph.node[0].output[0]

    def loose(m: onnx.ModelProto) -> None:
        m.graph.output[0].name = "nowhere"

    for change, message in [
        (cycle, "nothing before it computes"),
        (twice, "a second time"),
        (loose, "nothing computes its output"),
    ]:
        with pytest.raises(UserError, match=message):
            read(edited(change))


def test_sizes_that_lie() -> None:
    def huge(m: onnx.ModelProto) -> None:
        m.graph.initializer[0].dims[0] = 1 << 40

    def negative(m: onnx.ModelProto) -> None:
        m.graph.initializer[0].dims[0] = -3

    def wide(m: onnx.ModelProto) -> None:
        m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40

    def symbolic(m: onnx.ModelProto) -> None:
        m.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"

    def old(m: onnx.ModelProto) -> None:
        m.opset_import[0].version = 6

    def doubles(m: onnx.ModelProto) -> None:
        m.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    for change, message in [
        (huge, "holds 216 bytes"),
        (negative, "impossible shape"),
        (wide, "must be fixed"),
        (symbolic, "must be fixed"),
        (old, "opset 6 is too old"),
        (doubles, "not float32"),
    ]:
        with pytest.raises(UserError, match=message):
            read(edited(change))


def test_a_constant_may_not_grow_without_end() -> None:
    b = Builder(4)
    size = b.constant(np.array([1 << 40]))
    b.add("Add", "x", b.add("ConstantOfShape", size))
    with pytest.raises(UserError, match="too many for this file"):
        read(b.model())


def external(location: str, offset: int = 0) -> onnx.ModelProto:
    b = Builder(2)
    b.add("Gemm", "x", np.eye(2, dtype=np.float32), transB=1)
    model = onnx.ModelProto.FromString(b.model())
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return model


def test_external_data_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weight = np.array([[1, 2], [3, 4]], np.float32)
    (folder / "weights.bin").write_bytes(weight.tobytes())
    (tmp_path / "secret.bin").write_bytes(weight.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "model.onnx"
    path.write_bytes(external("weights.bin").SerializeToString())
    found = Engine(path, threads=1)(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(found, [[3, 7]])
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "none.bin"):
        path.write_bytes(external(location).SerializeToString())
        with pytest.raises(UserError, match="not a file in the model's folder"):
            read(path)
    for offset in (4, -4, 1 << 50):
        path.write_bytes(external("weights.bin", offset).SerializeToString())
        with pytest.raises(UserError, match="past the end"):
            read(path)
    with pytest.raises(UserError, match="open the model by path"):
        read(external("weights.bin").SerializeToString())


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)
    for junk in (b"", b"\x00" * 100, b"PK\x03\x04" * 9, b"not a model"):
        with pytest.raises(UserError):
            read(junk)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_end_in_one_clean_error(data: st.DataObject) -> None:
    """Truncated, overwritten or shuffled bytes: either it still runs or it says why not."""
    mutated = bytearray(MODEL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.sampled_from(["cut", "byte", "insert", "copy"])):
            case "cut":
                del mutated[at:]
                if not mutated:
                    break
            case "byte":
                mutated[at] = data.draw(st.integers(0, 255))
            case "insert":
                mutated[at:at] = data.draw(st.binary(max_size=6))
            case _:
                to = data.draw(st.integers(0, len(mutated) - 1))
                mutated[to : to + 12] = mutated[at : at + 12]
    message = ""
    try:
        graph = read(bytes(mutated))
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert message or graph.nodes


def test_a_network_without_outputs_is_refused() -> None:
    model = onnx.ModelProto.FromString(MODEL)
    del model.graph.output[:]
    with pytest.raises(UserError, match="no output"):
        read(model.SerializeToString())


def test_names_that_are_no_texts_end_in_one_clean_error() -> None:
    """Protobuf hands such names over as bytes, which do not compare with texts."""
    nodes = [node for body in onnx.load_from_string(MODEL).functions for node in body.node]
    names = {attribute.name.encode() for node in nodes for attribute in node.attribute}
    assert names
    for name in names:
        damaged = MODEL.replace(name, b"\x80" + name[1:])
        with pytest.raises(UserError) as error:
            read(damaged)
        assert "\n" not in str(error.value)


def test_folding_by_hand() -> None:
    """A batch norm after a convolution: weight and bias are scaled, nothing else is left."""
    b = Builder(1, 1, 1)
    b.add("Conv", "x", np.full((1, 1, 1, 1), 2, np.float32), np.array([1], np.float32))
    one = np.ones(1, np.float32)
    b.add("BatchNormalization", b.last, 3 * one, 5 * one, one, 4 * one, epsilon=0.0)
    b.add("Relu", b.last)
    (node,) = read(b.model()).nodes
    # (2 x + 1 - 1) / 2 * 3 + 5
    assert node.constants["weight"].item() == pytest.approx(3)
    assert node.constants["bias"].item() == pytest.approx(5)
    assert (node.operation.low, node.operation.high) == (0, float("inf"))


@pytest.mark.parametrize("operator", ["Unsqueeze", "Transpose", "ReduceMean", "Softmax", "Slice"])
def test_fixed_inputs_without_a_batch_are_one_example(operator: str) -> None:
    b = Builder(6, 3, batch=5)
    zero = np.zeros(1, np.int64)
    match operator:
        case "Unsqueeze":  # a picture, its channels last
            b.add("Unsqueeze", b.add("Transpose", "x", perm=[2, 0, 1]), zero)
            b.add("Conv", b.last, np.ones((2, 3, 3, 3), np.float32))
        case "Transpose":
            b.add("Transpose", "x", perm=[2, 1, 0])
        case "ReduceMean":
            b.add("ReduceMean", "x", zero)
        case "Softmax":
            b.add("Softmax", "x", axis=0)
        case "Slice":
            b.add("Slice", "x", zero + 1, zero + 4, zero)
    x = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(
        Engine(b.model(), threads=1)(x), networks.reference(b.model(), x), rtol=1e-5, atol=1e-6
    )


def test_outputs_in_the_middle_stay_outputs() -> None:
    b = Builder(2)
    first = b.add("Gemm", "x", np.eye(2, dtype=np.float32), transB=1)
    second = b.add("Relu", first)
    model = b.model(first, second)
    x = np.array([[-1, 2]], np.float32)
    found = Engine(model, threads=1)(x)
    np.testing.assert_array_equal(found[0], x)
    np.testing.assert_array_equal(found[1], [[0, 2]])


def test_helper_functions_are_inlined() -> None:
    double = helper.make_function(
        "other", "Double", ["A"], ["B"], [helper.make_node("Add", ["A", "A"], ["B"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    b = Builder(2)
    b.functions.append(double)
    b.add("Double", "x", domain="other")
    model = onnx.ModelProto.FromString(b.model())
    model.opset_import.add(domain="other", version=1)
    x = np.array([[-1, 2]], np.float32)
    np.testing.assert_array_equal(Engine(model.SerializeToString(), threads=1)(x), 2 * x)
