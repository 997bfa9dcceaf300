"""8-bit layers in files: only where the file is not larger than the one in 32 bits.

A layer's codes save three bytes of each non-zero weight; its steps and the nodes around them take
some hundred bytes. With few non-zeros that is more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx
from torch import nn

from gossamer.nn.quantized import Quantized, quantized_layers, unrounded
from gossamer.runtime import store_sparse

# Bytes that steps, nodes, names and an unfolded norm stay far below: for a layer, and an output.
_MOST, _MOST_OUTPUT = 4096, 32


def no_larger_in_8_bits(
    model: nn.Module, convert: Callable[[], onnx.ModelProto]
) -> tuple[onnx.ModelProto, Collection[str]]:
    """Return the model as ONNX, and the names of 8-bit layers that it has in 32 bits.

    None, if its file is then no larger than the one of the same network in 32 bits; else those
    that save least, or all.

    Args:
        model: a network, with 8-bit layers or without.
        convert: converts it as it is.
    """
    layers = quantized_layers(model)
    saved = {name: _saved(layer) for name, layer in layers.items()}
    outputs = sum(len(layer.weight) for layer in layers.values())
    proto = convert()
    if not layers or sum(saved.values()) > _MOST * len(layers) + _MOST_OUTPUT * outputs:
        return proto, ()
    with unrounded(model):
        plain = convert()
    size, limit = _size(proto), _size(plain)
    if size <= limit:
        return proto, ()
    # What a layer takes beside its weight: of all layers' about the same.
    each = (size - limit + sum(saved.values())) / len(layers)
    floats = [name for name in layers if saved[name] <= each]
    if len(floats) < len(layers):
        with unrounded(model, floats):
            proto = convert()
        if _size(proto) <= limit:
            return proto, floats
    return plain, list(layers)


def _saved(layer: Quantized) -> int:
    """Return about how many bytes fewer the codes and steps of a layer take than its weight."""
    return 3 * int(layer.weight.count_nonzero()) - 4 * len(layer.weight)


def _size(model: onnx.ModelProto) -> int:
    size: int = store_sparse(model).ByteSize()
    return size
