"""Weights of 16 bits in ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gossamer.errors import UserError
from gossamer.runtime.sparse_file import stored_weights

if TYPE_CHECKING:
    import onnx

LARGEST = float(np.finfo(np.float16).max)


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its weights rounded to 16 bits (IEEE 754 binary16) and stored so.

    A weight is a float32 constant of two axes or more and at least 256 numbers. A ``Cast`` makes
    it float32 again when a file is loaded, so every runtime computes in 32 bits.

    Raises:
        UserError: a weight has a number that is too large for 16 bits.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts: list[onnx.NodeProto] = []
    weights = stored_weights(half.graph, [TensorProto.FLOAT])
    for tensor in half.graph.initializer:
        if tensor.name not in weights or len(tensor.dims) < 2:
            continue
        weight, name = numpy_helper.to_array(tensor), tensor.name
        if np.abs(weight).max() > LARGEST:
            raise UserError(
                f"the weight {name!r} has numbers beyond {LARGEST:,.0f}, the largest of 16 bits; "
                "export in 32 bits"
            )
        short = f"{name}.half"
        tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float16), short))
        casts.append(helper.make_node("Cast", [short], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half
