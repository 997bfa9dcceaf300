"""Folding of batch norms into the steps of the 8-bit layers before them.

torch's exporter folds them into float weights only. Without this, a small 8-bit file would be
larger than the float one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from gossamer.runtime.subgraphs import graphs_of


def fold_norms(graph: onnx.GraphProto) -> None:
    """Fold each batch norm that has positive factors and is alone in reading an 8-bit layer.

    The layer's weights are integers times a step for each output: the steps are multiplied by the
    factors, and the rest is added to the bias.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    every = list(graphs_of(graph))
    readers = Counter(name for each in every for node in each.node for name in node.input)
    readers.update(value.name for each in every for value in each.output)
    replaced: set[str] = set()
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        layer = made.get(norm.input[0])
        if layer is None or layer.op_type not in ("Conv", "Gemm") or readers[norm.input[0]] > 1:
            continue
        weight = made.get(layer.input[1])
        if weight is None or weight.op_type != "DequantizeLinear" or len(weight.input) > 2:
            continue
        names = [*norm.input[1:], weight.input[1], *layer.input[2:]]
        if readers[layer.input[1]] > 1 or any(name not in constants for name in names):
            continue
        scale, shift, mean, variance, step, *bias = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in names
        )
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        if not np.all(factor > 0) or step.shape != factor.shape:
            continue
        shift = shift - mean * factor + (bias[0] * factor if bias else 0.0)
        # New constants: equal ones are exported as one, so another layer may read the old ones.
        weight.input[1] = _add(graph, f"{weight.output[0]}.step", step * factor)
        layer.input[2:] = [_add(graph, f"{weight.output[0]}.bias", shift)]
        layer.output[0] = norm.output[0]
        made[norm.output[0]] = layer
        graph.node.remove(norm)
        replaced.update(names)
    replaced -= {name for each in every for node in each.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in replaced]:
        graph.initializer.remove(tensor)


def _add(graph: onnx.GraphProto, name: str, array: NDArray[Any]) -> str:
    graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return name
