"""The dense network of a sparse ONNX file, for runtimes that gain nothing from sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from gossamer.runtime.sparse_file import DOMAIN, NAME, decode

WINNERS = ("KWinners", "KWinnersLocal")
# Behind these no ReLU is needed in the place of k-winners. An exported GELU or SiLU ends in Mul.
ACTIVATIONS = {
    *("Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu"),
    *("Mish", "Mul", "Relu", "Sigmoid", "Softplus", "Tanh"),
}
WEIGHTED = {
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU"),
    *("Cast", "DequantizeLinear", "Transpose"),
}
SPARSE = 0.1  # share of zeros from which a weight is sparse: 8-bit ones have a few by chance


def dense_network(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a copy of the network with dense weights and usual activations, None if it is dense.

    ReLU replaces k-winners (which are removed behind another activation), and zeros of sparse
    weights are replaced by other values of the weight, so that no runtime can profit from them.
    The outputs are meaningless, but the time is that of the dense network.

    Returns:
        The copy, or None if the network has neither k-winners nor sparse weights.
    """
    dense = onnx.ModelProto()
    dense.CopyFrom(model)
    ours = [(DOMAIN, name) for name in (*WINNERS, NAME)]
    if any((f.domain, f.name) not in ours for f in dense.functions):
        dense = onnx.inliner.inline_selected_functions(dense, ours, exclude=True)
    nodes = [node for node in dense.graph.node if node.domain == DOMAIN]
    _expand_weights(dense.graph)
    _remove_winners(dense.graph)
    used = {name for node in dense.graph.node for name in node.input}
    for tensor in [t for t in dense.graph.initializer if t.name not in used]:
        dense.graph.initializer.remove(tensor)  # boosts, values and gaps
    filled = _fill_weights(dense.graph)
    del dense.functions[:]
    return dense if nodes or filled else None


def dense_file(model: onnx.ModelProto, folder: Path) -> Path | None:
    """Write the :func:`dense_network` into a folder; return its path, or None if there is none."""
    dense = dense_network(model)
    return None if dense is None else write_model(dense, folder / "dense.onnx")


def write_model(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model, whose weights are in a file of their own where Protobuf cannot hold them."""
    onnx.save(model, path, save_as_external_data=model.ByteSize() > 1 << 30)
    return path


def _expand_weights(graph: onnx.GraphProto) -> None:
    """Replace the weights stored by ``gossamer.Sparse`` by plain constants."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if (n.domain, n.op_type) == (DOMAIN, NAME)]:
        values, gaps = (numpy_helper.to_array(stored[name]) for name in node.input)
        (shape,) = (helper.get_attribute_value(a) for a in node.attribute if a.name == "shape")
        weight = decode(values, gaps, shape)
        graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        graph.node.remove(node)


def _remove_winners(graph: onnx.GraphProto) -> None:
    made = {output: node.op_type for node in graph.node for output in node.output}
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in WINNERS:
            behind = made.get(node.input[0])
            simple = "Identity" if behind in ACTIVATIONS else "Relu"
            node.CopyFrom(helper.make_node(simple, node.input[:1], node.output, node.name))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield names and tensors of initializers and of Constant nodes."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value")


def _fill_weights(graph: onnx.GraphProto) -> bool:
    """Fill the zeros of sparse weights; return whether there were any."""
    used = {name for node in graph.node if node.op_type in WEIGHTED for name in node.input}
    random, filled = np.random.default_rng(0), False
    for name, tensor in _constants(graph):
        kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)
        if name not in used or tensor.data_type not in kinds or len(tensor.dims) < 2:
            continue
        weight = numpy_helper.to_array(tensor).copy()
        zero = weight == 0
        if not SPARSE <= zero.mean() < 1.0:
            continue
        weight[zero] = random.choice(weight[~zero], int(zero.sum()))
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        filled = True
    return filled
