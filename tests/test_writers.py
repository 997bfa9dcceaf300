"""Every writer of the project: under another umask, on a full disk, through a link, to a pipe."""

import os
import threading

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from tests.test_files import disk_of, mode, umask

from gossamer.errors import UserError

LAYER = torch.nn.Linear(3, 2)


def exported():
    """The layer as ONNX, made without torch's exporter, which takes seconds."""
    weights = {name: tensor.detach().numpy() for name, tensor in LAYER.named_parameters()}
    shapes = {"input": ["batch", 3], "output": ["batch", 2]}
    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    node = helper.make_node("Gemm", ["input", *weights], ["output"], transB=1)
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "layer", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tensors(path):
    from gossamer.training.tensor_file import save_tensors

    save_tensors(path, {"x": torch.ones(3)}, {})


def onnx(path):
    from gossamer.nn import onnx

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "to_onnx", lambda *_: exported())
        onnx.export(LAYER, torch.zeros(1, 3), path)


def plan(path):
    from gossamer.runtime import Plan

    Plan("machine", "isa", "network").save(path)


def arrays(path):
    from gossamer.runtime import write_arrays

    write_arrays(path, {"y": np.ones(3)})


def cache(path):
    from gossamer.data.spoken_words import _write

    _write(path, {"x": np.ones(3)})


def curves(path):
    from gossamer.training import Curve, Unfinished

    Unfinished(path, {}).add(Curve("hum", "dB", [1.0], [2], 3))


def page(path):
    from gossamer.report.html import write_page

    write_page(path, "<!doctype html>")


WRITERS = {
    "model.safetensors": tensors,
    "model.onnx": onnx,
    "plan.json": plan,
    "y.npy": arrays,
    "y.npz": arrays,
    "cache.npz": cache,
    "curves.json": curves,
    "page.html": page,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer(tmp_path, name):
    write, path = WRITERS[name], tmp_path / name
    with umask(0o027):
        write(path)
    assert mode(path) == 0o640
    whole = path.read_bytes()

    (tmp_path / "blob").write_bytes(b"old")
    link = tmp_path / f"link{path.suffix}"
    link.symlink_to("blob")
    write(link)
    assert link.is_symlink()
    assert len((tmp_path / "blob").read_bytes()) == len(whole)

    before = sorted(tmp_path.iterdir())
    with disk_of(8):
        if write is cache:
            with pytest.warns(UserWarning, match="make room"):
                write(path)
        else:
            with pytest.raises(UserError, match=r"cannot write .*File too large; make room"):
                write(path)
    assert path.read_bytes() == whole
    assert sorted(tmp_path.iterdir()) == before

    if write is not curves:  # which are read first
        pipe = tmp_path / f"pipe{path.suffix}"
        os.mkfifo(pipe)
        read = []
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
        reader.start()
        write(pipe)
        reader.join(30)
        assert pipe.is_fifo()
        assert abs(len(read[0]) - len(whole)) < 200  # zip files are a little longer in a pipe
