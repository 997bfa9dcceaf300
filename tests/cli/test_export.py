"""``gossamer export --c``, as it is typed."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


@pytest.fixture
def network(place):
    """``small.onnx``: one linear layer."""
    weight = numpy_helper.from_array(np.eye(3, 4, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="last")],
        "small",
        [helper.make_tensor_value_info("x", 1, ["batch", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, place / "small.onnx")
    return model


def test_c_from_a_file_and_from_a_run(place, network, gossamer):
    status, out, err = gossamer("export", "small.onnx", "--c", "-o", "my net.c")
    assert (status, err) == (0, "")
    assert "C99" in out
    assert "void my_net_run(const float *in, float *out);" in (place / "my net.c").read_text()
    (place / "run").mkdir()
    os.rename(place / "small.onnx", place / "run" / "model.onnx")
    assert gossamer("export", "run", "--c")[0] == 0
    assert "void model_run(" in (place / "model.c").read_text()


def test_what_cannot_be_written_leaves_nothing(place, network, gossamer):
    network.graph.node[0].op_type = "Einsum"
    onnx.save(network, place / "odd.onnx")
    (place / "old.c").write_text("old")
    status, _, err = gossamer("export", "odd.onnx", "--c", "-o", "old.c")
    assert status == 2
    assert err.count("\n") == 1
    assert "'last' (Einsum)" in err
    assert (place / "old.c").read_text() == "old"
    status, _, err = gossamer("export", "small.onnx", "--c", "-o", "no/such/folder.c")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.onnx"], "add --c"),
        ([".", "--c"], "not a run directory with a model.onnx"),
        (["missing.onnx", "--c"], "cannot be read"),
        (["run", "-o", "m.txt"], "m.txt: name a file that ends in .onnx"),
        (["run", "-o", "m.c"], "--c writes C"),
        (["run", "-o", "m"], "ends in .onnx"),
        (["small.onnx", "--c", "--float16"], "--float16 writes ONNX"),
        (["data.npz"], "data.npz is not a run directory: it has no config.toml"),
        (["run", "--int8", "--float16"], "exclude each other; leave one out"),
        (["small.onnx", "--c", "-o", "m.onnx"], "m.onnx: name a file that ends in .c"),
    ],
)
def test_wrong_use(network, gossamer, arguments, message):
    status, _, err = gossamer("export", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


def test_what_is_written_never_replaces_what_is_read(place, network, gossamer):
    whole = (place / "small.onnx").read_bytes()
    (place / "link.c").symlink_to("small.onnx")
    for output in ("small.onnx", "link.c"):
        status, out, err = gossamer("export", "small.onnx", "--c", "-o", output)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "is read as small.onnx" in err
    assert (place / "small.onnx").read_bytes() == whole
    (place / "run").mkdir()
    for name in ("config.toml", "metrics.json", "model.onnx", "model.safetensors"):
        (place / "run" / name).write_bytes(whole)
        status, _, err = gossamer("export", "run", "-o", f"run/{name}")
        assert (status, err.count("\n")) == (2, 1)
        assert "is read as" in err
    (place / "größe.c").symlink_to("code.c")
    assert gossamer("export", "run", "--c", "-o", "größe.c")[0] == 0
    assert (place / "größe.c").is_symlink()
    assert "C99" in (place / "code.c").read_text()
