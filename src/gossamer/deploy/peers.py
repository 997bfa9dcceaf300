"""Other runtimes as contestants of ``bench``: each loads an ONNX file and returns a callable.

A new peer is one function and one row of ``PEERS``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError, nearest, one_line

Arrays = Sequence[NDArray[np.float32]]
Call = Callable[[Arrays], list[NDArray[Any]]]


@dataclass(frozen=True)
class Peer:
    """A runtime to compare with.

    Attributes:
        name: its name for users, and on PyPI.
        module: the module that must be importable.
        prepare: (path of the ONNX file, threads) -> callable on the network's inputs in order.
    """

    name: str
    module: str
    prepare: Callable[[Path, int], Call]


def _onnxruntime(path: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()

    def call(inputs: Arrays) -> list[NDArray[Any]]:
        feeds = {
            value.name: x.astype(np.float16) if value.type == "tensor(float16)" else x
            for value, x in zip(wanted, inputs, strict=True)
        }
        for value in wanted:
            if not value.shape:  # a single number, in an array of one
                feeds[value.name] = feeds[value.name].reshape(())
        outputs: list[NDArray[Any]] = session.run(None, feeds)
        return outputs

    return call


def _openvino(path: Path, threads: int) -> Call:
    import onnx.inliner
    import openvino

    core = openvino.Core()
    # OpenVINO has no ONNX functions, such as k-winners: their bodies are inlined.
    plain = onnx.inliner.inline_local_functions(onnx.load(path))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.compile_model(core.read_model(plain.SerializeToString()), "CPU", settings)
    request = model.create_infer_request()
    outputs = len(model.outputs)

    def call(inputs: Arrays) -> list[NDArray[Any]]:
        results = request.infer(list(inputs), share_inputs=True)
        return [results[i] for i in range(outputs)]

    return call


def _torch(path: Path, threads: int) -> Call:
    import torch

    from gossamer.deploy.torch_graph import TorchGraph
    from gossamer.runtime.importer import read

    module = TorchGraph(read(path)).eval()

    def call(inputs: Arrays) -> list[NDArray[Any]]:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return [y.numpy() for y in module(*map(torch.from_numpy, inputs))]

    return call


PEERS = {
    peer.name: peer
    for peer in (
        Peer("onnxruntime", "onnxruntime", _onnxruntime),
        Peer("openvino", "openvino", _openvino),
        Peer("torch", "torch", _torch),
    )
}


def prepared(name: str, path: Path, threads: int) -> Call:
    """Return a peer's callable for a file.

    Raises:
        UserError: no such peer, it is not installed, or it refuses the file.
    """
    if name not in PEERS:
        raise UserError(f"no peer '{name}': {nearest(name, PEERS)}")
    peer = PEERS[name]
    if importlib.util.find_spec(peer.module) is None:
        raise UserError(
            f"{name} is not installed; "
            f"get it with 'pip install {name}' or leave it out of --against"
        )
    try:
        return peer.prepare(path, threads)
    except UserError:
        raise
    except Exception as error:  # each peer raises its own kinds
        raise refused(name, path, error) from None


def refused(name: str, path: Path, error: Exception) -> UserError:
    """Return the error for a file that a peer cannot run."""
    reason = one_line(error) or type(error).__name__
    return UserError(f"{name} cannot run {path}: {reason[:300]}; leave it out of --against")
