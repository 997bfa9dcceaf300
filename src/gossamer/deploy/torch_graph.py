"""The runtime's graph as a torch module, so that torch can be measured on any ONNX file.

The graph has few kinds of nodes, with batch norm folded into the layer before. Converters of
ONNX files (onnx2torch) do not support ONNX functions, and so no k-winners.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.runtime.graph import AnyNode, Graph, Shape

Compute = Callable[[AnyNode, dict[str, Tensor], list[Tensor], Shape], Tensor]


def _clipped(node: AnyNode, y: Tensor) -> Tensor:
    low, high = node.operation.low, node.operation.high
    if (low, high) == (0.0, math.inf):
        return functional.relu(y)
    return y if (low, high) == (-math.inf, math.inf) else y.clamp(low, high)


def _image(x: Tensor) -> Tensor:
    """Return a 1-d image as a 2-d one of height 1."""
    return x[:, :, None, :] if x.dim() == 3 else x


def _sides(pads: Sequence[int]) -> list[int]:
    """Reorder (top, left, bottom, right) for ``functional.pad``."""
    return [pads[1], pads[3], pads[0], pads[2]]


def _conv(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s = node.operation
    image, pads = _image(x[0]), s.pads
    if pads[:2] != pads[2:]:
        image, pads = functional.pad(image, _sides(pads)), (0, 0)
    y = functional.conv2d(image, c["weight"], c["bias"], s.strides, pads[:2], s.dilations, s.groups)
    if s.pool > 1:
        y = functional.max_pool2d(y, s.pool)
    return _clipped(node, y).reshape(shape)


def _linear(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    return _clipped(node, functional.linear(x[0], c["weight"], c["bias"]))


def _winners(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    boosted = x[0] * c["boost"] if "boost" in c else x[0]
    flat, keys = (x[0], boosted) if node.operation.local else (x[0].flatten(1), boosted.flatten(1))
    best = keys.topk(node.operation.k, dim=1, sorted=False).indices
    winners = torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best))
    return winners.reshape(x[0].shape)


def _round(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s = node.operation
    whole = torch.nan_to_num(x[0] / s.step, nan=-math.inf)  # NaN becomes the lowest
    y: Tensor = whole.round().clamp(s.low, s.high) * s.step
    return y


def _pool(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s, image = node.operation, _image(x[0])
    size = [1, shape[2]] if len(shape) == 3 else list(shape[2:])
    # In ceil mode windows reach past the image, beyond what the pads say.
    sides = list(s.pads)
    for i in range(2):
        reach = (size[i] - 1) * s.strides[i] + s.kernel[i]
        sides[i + 2] = max(sides[i + 2], reach - image.shape[2 + i] - sides[i])
    if s.kind == "max":
        whole = functional.pad(image, _sides(sides), value=-math.inf) if any(sides) else image
        y = functional.max_pool2d(whole, s.kernel, s.strides)
    elif s.kind == "sum":
        y = functional.avg_pool2d(image, s.kernel, divisor_override=1)
    else:
        whole = functional.pad(image, _sides(sides)) if any(sides) else image
        y = functional.avg_pool2d(whole, s.kernel, s.strides)
        if any(sides):
            counted = torch.ones_like(image[:1, :1])
            if s.kind == "average_padded":
                counted = functional.pad(counted, _sides(s.pads), value=1.0)
                sides = [a - b for a, b in zip(sides, s.pads, strict=True)]
            counted = functional.pad(counted, _sides(sides))
            y = y / functional.avg_pool2d(counted, s.kernel, s.strides)
    return y[:, :, : size[0], : size[1]].reshape(shape)


# Functions of one number that torch has no function of the same name for.
UNARY: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "clip": lambda x, a, b: x.clamp(a, b),
    "gelu": lambda x, a, b: functional.gelu(x),
    "gelu_tanh": lambda x, a, b: functional.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x, a, b: functional.leaky_relu(x, a),
    "silu": lambda x, a, b: functional.silu(x),
    "hard_sigmoid": lambda x, a, b: (a * x + b).clamp(0.0, 1.0),
    "truncate": lambda x, a, b: x.trunc(),
    "elu": lambda x, a, b: functional.elu(x, a),
    "hard_swish": lambda x, a, b: x * (a * x + b).clamp(0.0, 1.0),
    "mish": lambda x, a, b: functional.mish(x),
    "sign": lambda x, a, b: torch.where(x.isnan(), x, x.sign()),
    "softplus": lambda x, a, b: functional.softplus(x),
    "is_nan": lambda x, a, b: x.isnan().float(),
}
NOTHING = torch.tensor(-0.0)  # what a gate that is shut adds to a sum

BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "equal": lambda x, y: (x == y).float(),
    "not_equal": lambda x, y: (x != y).float(),
    "less": lambda x, y: (x < y).float(),
    "less_equal": lambda x, y: (x <= y).float(),
    "greater": lambda x, y: (x > y).float(),
    "greater_equal": lambda x, y: (x >= y).float(),
    "min": torch.minimum,
    "max": torch.maximum,
    "power": torch.pow,
    "gate": lambda x, y: torch.where(x != 0, y, NOTHING),
    "gate_not": lambda x, y: torch.where(x == 0, y, NOTHING),
    "gated": lambda x, y: torch.where(y != 0, x, NOTHING),
    "gated_not": lambda x, y: torch.where(y == 0, x, NOTHING),
}


def _unary(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s = node.operation
    if s.kind in UNARY:
        return UNARY[s.kind](x[0], s.a, s.b)
    y: Tensor = getattr(torch, s.kind)(x[0])
    return y


def _binary(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    return BINARY[node.operation.kind](x[0], c["right"] if "right" in c else x[1])


def _embed(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    return c["table"][x[0].long()]


def _softmax(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    return x[0].log_softmax(-1) if node.operation.log else x[0].softmax(-1)


def _layer_norm(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s = node.operation
    by_row = s.channels > 0
    rows = x[0].reshape(-1, max(1, s.channels), s.size)
    y = functional.layer_norm(rows, rows.shape[2:], eps=s.epsilon)
    y = y * (c["scale"][:, None] if by_row else c["scale"])
    y = y + (c["bias"][:, None] if by_row else c["bias"])
    return y.reshape(x[0].shape)


def _strided(node: AnyNode, c: dict[str, Tensor], x: list[Tensor], shape: Shape) -> Tensor:
    s = node.operation
    flat = x[0].reshape(len(x[0]), -1)
    item = math.prod(shape[1:])
    y = torch.zeros(len(flat), item)
    sizes = [len(flat), *s.sizes]
    at = torch.tensor(s.start)  # torch strides only forward; these may go back
    for size, step in zip(s.sizes, s.source, strict=True):
        at = at[..., None] + step * torch.arange(size)
    y.as_strided(sizes, [item, *s.target], s.at).copy_(flat[:, at])
    return y.reshape(shape)


COMPUTE: dict[str, Compute] = {
    "conv": _conv,
    "linear": _linear,
    "winners": _winners,
    "round": _round,
    "pool": _pool,
    "unary": _unary,
    "binary": _binary,
    "embed": _embed,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "concat": lambda node, c, x, shape: torch.cat(x, dim=node.operation.axis),
    "strided": _strided,
    "matmul": lambda node, c, x, shape: x[0] @ x[1],
    "reshape": lambda node, c, x, shape: x[0].reshape(shape),
    "transpose": lambda node, c, x, shape: x[0].permute(node.operation.perm),
}


class TorchGraph(nn.Module):
    """A module that evaluates a graph node by node and returns a list of its outputs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.constants = [
            {key: torch.tensor(value) for key, value in node.constants.items()}
            for node in graph.nodes
        ]

    def forward(self, *inputs: Tensor) -> list[Any]:
        values = {name: x.float() for name, x in zip(self.graph.inputs, inputs, strict=True)}
        examples = len(inputs[0]) // self.graph.input_items[0]
        for node, constants in zip(self.graph.nodes, self.constants, strict=True):
            x = [values[name] for name in node.inputs]
            items, *rest = self.graph.shapes[node.output]
            shape = (items * examples, *rest)
            values[node.output] = COMPUTE[node.op](node, constants, x, shape)
        return [values[name] for name in self.graph.outputs]
