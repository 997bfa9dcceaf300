"""Last pass: fusion of layers with the nodes that follow them, if these alone read the result.

A scale or shift per output (a batch norm is both) is folded into weights and bias; a clip and a
max-pool become attributes of the layer. A scale, shift or clip is also fused if only a ``Windows``
copy is between it and the layer. A reshape that changes nothing is removed after any node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gossamer.runtime.constants import Quantized
from gossamer.runtime.graph import AnyNode, Array, Shape
from gossamer.runtime.operators.strided import Windows

# Fuses the second node, whose input and output have these shapes, into the first if possible;
# returns whether it did.
Rule = Callable[[AnyNode, AnyNode, Shape, Shape], bool]


def absorb(
    nodes: Sequence[AnyNode], shapes: dict[str, Shape], outputs: Sequence[str]
) -> list[AnyNode]:
    """Return the nodes that remain; a layer computes the output of the nodes fused into it."""
    readers = Counter(outputs)  # an output's node keeps its own value
    for node in nodes:
        readers.update(node.inputs)
    made: dict[str, AnyNode] = {}
    rest = []
    for node in nodes:
        value, output = node.inputs[0], node.output
        before, rule = made.get(value), RULES.get(node.op)
        single_reader = readers[value] == 1
        taken = False
        if single_reader and before and rule:
            layer, same = before, node
            if isinstance(before.operation, Windows) and node.op in ("unary", "binary"):
                layer = made[before.inputs[0]]
                same = _in_front(before.operation, node, shapes[value])
            taken = rule(layer, same, shapes[layer.output], shapes[output])
        if taken and before:
            before.output = output
        else:
            rest.append(before := node)
        made[output] = before
    return rest


def _in_front(windows: Windows, node: AnyNode, shape: Shape) -> AnyNode:
    """Return the node for the layer's own outputs: its constant repeated for each of them."""
    right = node.constants.get("right")
    if right is None or right.ndim < len(shape) - 1 or right.size != len(right):
        return node
    return replace(node, constants={"right": windows.repeat(right) if right.size > 1 else right})


def _reshape(before: AnyNode, node: AnyNode, shape: Shape, result: Shape) -> bool:
    return shape == result


def _clip(before: AnyNode, node: AnyNode, shape: Shape, result: Shape) -> bool:
    """Fuse a clip; a max-pool between layer and clip may stay, since the two commute."""
    clip = node.operation
    if before.op not in ("conv", "linear") or clip.kind != "clip" or not before.operation.unlimited:
        return False
    before.operation = replace(before.operation, low=clip.a, high=clip.b)
    return True


def _pool(before: AnyNode, node: AnyNode, shape: Shape, result: Shape) -> bool:
    """Fuse a max-pool of square windows that do not overlap."""
    pool = node.operation
    side = pool.kernel[0]
    if not (
        before.op == "conv"
        and before.operation.pool == 1
        and pool.kind == "max"
        and pool.kernel == pool.strides == (side, side)
        and side <= 4
        and not any(pool.pads)
        and result == (*shape[:2], *(size // side for size in shape[2:]))
        and len(shape) == 4
    ):
        return False
    before.operation = replace(before.operation, pool=side)
    return True


def _binary(before: AnyNode, node: AnyNode, shape: Shape, result: Shape) -> bool:
    """Fuse a sum or product with one number for each output of the layer."""
    if before.op not in ("conv", "linear") or not before.operation.bare:
        return False
    right, constants = node.constants.get("right"), before.constants
    if right is None or node.operation.kind not in ("add", "mul"):
        return False
    sizes = (*[1] * (len(shape) - 1 - right.ndim), *right.shape)
    if right.size != sizes[0 if before.op == "conv" else -1]:
        return False
    each = np.broadcast_to(right.ravel(), constants["bias"].shape)
    if node.operation.kind == "add":
        constants["bias"] = constants["bias"] + each
        return True
    weight = constants["weight"]
    factor = each.reshape(-1, *[1] * (weight.ndim - 1))
    weight = (weight * factor).astype(np.float32)
    # Beyond float32, a weight times its factor is NaN where the sum times it is infinite.
    if not np.isfinite(weight).all():
        return False
    quantized = before.store.quantized()
    scaled = None if quantized is None else _scaled(quantized, factor)
    before.store["weight"] = weight if scaled is None else scaled
    constants["bias"] = constants["bias"] * each
    return True


def _scaled(weight: Quantized, factor: Array) -> Quantized | None:
    """Return a weight times a factor for each output; None if it does not stay in 8 bits."""
    step = weight.step * np.where(factor == 0, 1, np.abs(factor)).astype(np.float32)
    turned = np.any(factor < 0) and weight.codes.min() < -np.iinfo(np.int8).max  # -128 has no match
    if turned or not (np.isfinite(step).all() and (step > 0).all()):
        return None
    return Quantized(weight.codes * np.sign(factor).astype(np.int8), step)


RULES: dict[str, Rule] = {"reshape": _reshape, "unary": _clip, "pool": _pool, "binary": _binary}
