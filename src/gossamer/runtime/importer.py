"""Reads an ONNX file into a ``Graph``.

The file is not trusted: every size, path and reference in it is checked before it is used,
and whatever is wrong ends in one ``UserError``.
"""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.runtime.folding import DTYPES, FOLD, SPARSE
from gossamer.runtime.graph import Array, Graph, Node, Shape
from gossamer.runtime.moves import MOVES, axes_of, strided, strides
from gossamer.runtime.reader import (
    BATCH,
    LARGEST,
    Attributes,
    Convert,
    Reader,
    Unsupported,
    shown,
)
from gossamer.runtime.sparse_file import FARTHEST, NAME

# Numbers of a sparse initializer for each entry that the file holds.
SPARSEST = 1 << 12

MOST_NODES = 1 << 18
OLDEST_OPSET = 13


def _pair(values: Any, count: int, default: int) -> list[int]:
    """Settings of a 1-d or 2-d window as 2-d ones."""
    found = list(values) if values else [default] * count
    if len(found) != count:
        raise Unsupported(f"it has {len(found)} window settings for {count} dimensions")
    return [default] * (2 - count) + [int(v) for v in found]


def _window(
    a: Attributes, image: Shape, kernel: list[int], dims: int
) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (top, left, bottom, right) of a window over an image."""
    strides = _pair(a.get("strides"), dims, 1)
    dilations = _pair(a.get("dilations"), dims, 1)
    if any(not 1 <= v <= 1 << 16 for v in [*strides, *dilations, *kernel]):
        raise Unsupported("its window, strides and dilations must be between 1 and 65536")
    auto = a.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        given = list(a.get("pads") or [0] * (2 * dims)) if auto == "NOTSET" else [0] * (2 * dims)
        if len(given) != 2 * dims:
            raise Unsupported(f"it has {len(given)} pads for {dims} dimensions")
        before, after = given[:dims], given[dims:]
        pads = [*([0] * (2 - dims)), *before, *([0] * (2 - dims)), *after]
    else:
        pads = [0] * 4
        for i in range(2):
            out = -(-image[i] // strides[i])
            reach = dilations[i] * (kernel[i] - 1) + 1
            total = max(0, (out - 1) * strides[i] + reach - image[i])
            pads[i] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[i + 2] = total - pads[i]
    if any(not 0 <= p <= 1 << 16 for p in pads):
        raise Unsupported("its pads must be between 0 and 65536")
    return strides, dilations, pads


def _image(reader: Reader, value: str) -> tuple[Shape, int]:
    """Batch, channels, height, width of a value, and how many of its dimensions are spatial."""
    shape = reader.shape(value)
    if len(shape) == 3:
        return (shape[0], shape[1], 1, shape[2]), 1
    if len(shape) != 4:
        raise Unsupported(f"its input has shape {shown(shape)}; 1-d and 2-d images only")
    return shape, 2


def _out(shape: Shape, dims: int) -> Shape:
    return shape if dims == 2 else (shape[0], shape[1], shape[3])


def _floats(array: Array) -> Array:
    if array.dtype not in (np.float32, np.float64, np.float16):
        raise Unsupported(f"its weights are {array.dtype}; export in float32")
    return np.ascontiguousarray(array, dtype=np.float32)


def _conv(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    image, dims = _image(reader, inputs[0])
    weight = _floats(reader.constant(inputs[1], "weight"))
    if weight.ndim != dims + 2:
        raise Unsupported(f"its weight has shape {weight.shape} for a {dims}-d image")
    if dims == 1:
        weight = weight[:, :, None, :]
    outputs, per_group, height, width = weight.shape
    groups = int(a.get("group", 1))
    if groups < 1 or per_group * groups != image[1] or outputs % groups or not outputs:
        raise Unsupported(f"its weight {weight.shape} does not fit {image[1]} channels")
    bias = np.zeros(outputs, np.float32)
    if len(inputs) > 2 and inputs[2]:
        bias = _floats(reader.constant(inputs[2], "bias"))
        if bias.shape != (outputs,):
            raise Unsupported(f"its bias has shape {bias.shape} for {outputs} outputs")
    strides, dilations, pads = _window(a, image[2:], [height, width], dims)
    size = [
        (image[2 + i] + pads[i] + pads[i + 2] - dilations[i] * (weight.shape[2 + i] - 1) - 1)
        // strides[i]
        + 1
        for i in range(2)
    ]
    node = Node(
        "conv",
        name,
        (inputs[0],),
        output,
        {
            "strides": strides,
            "dilations": dilations,
            "pads": pads,
            "groups": groups,
            "low": -math.inf,
            "high": math.inf,
            "pool": 1,
        },
        {"weight": weight, "bias": bias},
    )
    reader.emit(node, _out((image[0], outputs, *size), dims))


def _conv_transpose(
    reader: Reader, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """A convolution over the image with zeros between its pixels."""
    image, dims = _image(reader, inputs[0])
    weight = _floats(reader.constant(inputs[1], "weight"))
    groups = int(a.get("group", 1))
    if weight.ndim != dims + 2 or len(weight) != image[1] or groups < 1 or len(weight) % groups:
        raise Unsupported(f"its weight {weight.shape} does not fit {image[1]} channels")
    if a.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in a:
        raise Unsupported("its padding is worked out from its output; export with plain pads")
    strides_ = [int(v) for v in a.get("strides", [1] * dims)]
    dilations = [int(v) for v in a.get("dilations", [1] * dims)]
    pads = [int(v) for v in a.get("pads", [0] * 2 * dims)]
    extra = [int(v) for v in a.get("output_padding", [0] * dims)]
    if {len(strides_), len(dilations), len(extra), len(pads) - dims} != {dims}:
        raise Unsupported(f"it has other than {dims} window settings")
    if any(not 1 <= v <= 1 << 16 for v in [*strides_, *dilations]):
        raise Unsupported("its strides and dilations must be between 1 and 65536")
    reach = [dilations[i] * (weight.shape[2 + i] - 1) for i in range(dims)]
    before = [reach[i] - pads[i] for i in range(dims)]
    after = [reach[i] - pads[i + dims] + extra[i] for i in range(dims)]
    if min(*before, *after, 0) < 0:
        raise Unsupported("its pads reach beyond its window")
    per_group, outputs = len(weight) // groups, weight.shape[1]
    turned = weight.reshape(groups, per_group, outputs, *weight.shape[2:]).swapaxes(1, 2)
    turned = turned.reshape(groups * outputs, per_group, *weight.shape[2:])
    flipped = np.flip(turned, tuple(range(2, 2 + dims)))
    shape, value = reader.shape(inputs[0]), inputs[0]
    if any(step > 1 for step in strides_):
        size = tuple((shape[2 + i] - 1) * strides_[i] + 1 for i in range(dims))
        value = f"{output} spread"
        target = strides((shape[1], *size))
        for i in range(dims):
            target[1 + i] *= strides_[i]
        spread = (*shape[:2], *size)
        source = strides(shape[1:])
        sizes = list(shape[1:])
        strided(reader, name, inputs[0], value, spread, sizes, source, target, clear=True)
    reader.constants[f"{output} weight"] = np.ascontiguousarray(flipped)
    settings = {"dilations": dilations, "pads": [*before, *after], "group": groups}
    _conv(reader, name, [value, f"{output} weight", *inputs[2:]], output, settings)


def _instance_norm(
    reader: Reader, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """A layer norm of each channel's image, then the channel's scale and bias."""
    shape = reader.shape(inputs[0])
    scale, bias = (_floats(reader.constant(i, "scale and bias")) for i in inputs[1:3])
    if len(shape) < 3 or not scale.shape == bias.shape == (shape[1],):
        raise Unsupported(f"its scale has shape {scale.shape} for {shown(shape)}")
    size = math.prod(shape[2:])
    constants = {"scale": np.ones(size, np.float32), "bias": np.zeros(size, np.float32)}
    settings = {"epsilon": float(a.get("epsilon", 1e-5)), "size": size}
    normed, scaled = f"{output} normed", f"{output} scaled"
    reader.emit(Node("layer_norm", name, (inputs[0],), normed, settings, constants), shape)
    each = (shape[1], *[1] * (len(shape) - 2))
    _constant_binary(reader, "mul", name, normed, scaled, scale.reshape(each))
    _constant_binary(reader, "add", name, scaled, output, bias.reshape(each))


def _hard_swish(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, gate = reader.shape(inputs[0]), f"{output} gate"
    settings = {"kind": "hard_sigmoid", "a": 1 / 6, "b": 0.5}
    reader.emit(Node("unary", name, (inputs[0],), gate, settings), shape)
    reader.emit(Node("binary", name, (inputs[0], gate), output, {"kind": "mul"}), shape)


def _linear(reader: Reader, name: str, value: str, output: str, weight: Array, bias: Array) -> None:
    shape = reader.shape(value)
    if len(shape) < 2 or shape[-1] != weight.shape[1]:
        raise Unsupported(f"its weight takes {weight.shape[1]} inputs, not {shown(shape)}")
    limits = {"low": -math.inf, "high": math.inf}
    constants = {"weight": np.ascontiguousarray(weight), "bias": bias}
    reader.emit(
        Node("linear", name, (value,), output, limits, constants), (*shape[:-1], len(weight))
    )


def _gemm(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if a.get("transA"):
        raise Unsupported("it transposes its input; export a plain linear layer")
    weight = _floats(reader.constant(inputs[1], "weight"))
    if a.get("alpha", 1.0) != 1.0:  # else a mapped weight stays mapped
        weight = weight * np.float32(a["alpha"])
    if weight.ndim != 2:
        raise Unsupported(f"its weight has shape {weight.shape}")
    weight = weight if a.get("transB") else weight.T
    bias = np.zeros(len(weight), np.float32)
    if len(inputs) > 2 and inputs[2]:
        given = _floats(reader.constant(inputs[2], "bias")) * np.float32(a.get("beta", 1.0))
        if given.size not in (1, len(weight)):
            raise Unsupported(f"its bias has shape {given.shape} for {len(weight)} outputs")
        bias = bias + given.reshape(-1)
    if len(reader.shape(inputs[0])) != 2:
        raise Unsupported(f"its input has shape {shown(reader.shape(inputs[0]))}")
    _linear(reader, name, inputs[0], output, weight, bias)


def _matmul(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if inputs[1] not in reader.constants:
        left, right = (reader.shape(i) for i in inputs)
        matrices = left[:-2] == right[:-2] and len(left) > 2 and left[-1] == right[-2]
        if inputs[0] in reader.constants or not matrices:
            raise Unsupported(f"it multiplies {shown(left)} by {shown(right)}")
        reader.emit(Node("matmul", name, (inputs[0], inputs[1]), output), (*left[:-1], right[-1]))
        return
    weight = _floats(reader.constant(inputs[1], "right side"))
    if weight.ndim != 2:
        raise Unsupported(f"its weight has shape {weight.shape}")
    _linear(reader, name, inputs[0], output, weight.T, np.zeros(weight.shape[1], np.float32))


def _batch_norm(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    scale, shift, mean, variance = (
        _floats(reader.constant(i, "statistics")).astype(np.float64) for i in inputs[1:5]
    )
    factor = scale / np.sqrt(variance + a.get("epsilon", 1e-5))
    shift = shift - mean * factor
    shape = reader.shape(inputs[0])
    if len(shape) < 2 or not factor.shape == shift.shape == (shape[1],):
        raise Unsupported(f"its statistics have shape {factor.shape} for {shown(shape)}")
    before = reader.alone(inputs[0], "conv", "linear")
    if before is not None and _unclipped(before) and (before.op == "conv" or len(shape) == 2):
        weight = before.constants["weight"]
        spread = factor.reshape(-1, *[1] * (weight.ndim - 1))
        before.constants["weight"] = (weight * spread).astype(np.float32)
        before.constants["bias"] = (before.constants["bias"] * factor + shift).astype(np.float32)
        reader.rename(before, output)
        return
    each = (shape[1], *[1] * (len(shape) - 2))
    scaled = f"{output} before its shift"
    _constant_binary(reader, "mul", name, inputs[0], scaled, factor.reshape(each))
    _constant_binary(reader, "add", name, scaled, output, shift.reshape(each))


def _unlimited(node: Node) -> bool:
    return (node.settings["low"], node.settings["high"]) == (-math.inf, math.inf)


def _unclipped(node: Node) -> bool:
    return _unlimited(node) and bool(node.settings.get("pool", 1) == 1)


def _constant_binary(
    reader: Reader, kind: str, name: str, value: str, output: str, constant: Array
) -> None:
    shape = reader.shape(value)
    right = np.ascontiguousarray(constant, np.float32)
    while right.ndim >= len(shape) and right.ndim and right.shape[0] == 1:
        right = right[0]
    if np.broadcast_shapes(shape[1:], right.shape) != shape[1:]:
        raise Unsupported(f"a constant of shape {right.shape} against {shown(shape)}")
    node = Node("binary", name, (value,), output, {"kind": kind}, {"right": right})
    reader.emit(node, shape)


def _binary(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        left, right = inputs
        if left in reader.constants:
            if kind in ("add", "mul"):
                left, right = right, left
            else:
                # c - x = -x + c, c / x has no such form
                if kind == "div":
                    raise Unsupported("it divides a constant by a value")
                reader.emit(
                    Node("unary", name, (right,), f"{output} negated", {"kind": "neg"}),
                    reader.shape(right),
                )
                _constant_binary(
                    reader,
                    "add",
                    name,
                    f"{output} negated",
                    output,
                    _floats(reader.constants[left]),
                )
                return
        if right in reader.constants:
            constant = _floats(reader.constants[right])
            before = reader.alone(left, "linear")
            if (
                kind == "add"
                and before is not None
                and _unclipped(before)
                and (constant.shape in ((reader.shape(left)[-1],), (1,), ()))
            ):
                before.constants["bias"] = before.constants["bias"] + constant
                reader.rename(before, output)
                return
            _constant_binary(reader, kind, name, left, output, constant)
            return
        shapes = reader.shape(left), reader.shape(right)
        if len(shapes[0]) < len(shapes[1]) and kind in ("add", "mul"):
            left, right, shapes = right, left, shapes[::-1]
        if len(shapes[0]) != len(shapes[1]) or shapes[0][0] != shapes[1][0]:
            raise Unsupported(f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match")
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise Unsupported(
                f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match"
            ) from None
        reader.emit(Node("binary", name, (left, right), output, {"kind": kind}), shape)

    return convert


def _unary(kind: str, a: float = 0.0, b: float = 0.0) -> Convert:
    def convert(
        reader: Reader, name: str, inputs: list[str], output: str, given: Attributes
    ) -> None:
        settings = {"kind": kind, "a": given.get("alpha", a), "b": given.get("beta", b)}
        if kind == "gelu" and given.get("approximate", "none") == "tanh":
            settings["kind"] = "gelu_tanh"
        reader.emit(Node("unary", name, (inputs[0],), output, settings), reader.shape(inputs[0]))

    return convert


def _clip(
    reader: Reader, name: str, inputs: list[str], output: str, low: float, high: float
) -> None:
    before = reader.alone(inputs[0], "conv", "linear")
    if before is not None and _unlimited(before):  # a max-pool between changes nothing
        before.settings.update(low=low, high=high)
        reader.rename(before, output)
        return
    settings = {"kind": "clip", "a": low, "b": high}
    reader.emit(Node("unary", name, (inputs[0],), output, settings), reader.shape(inputs[0]))


def _relu(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    _clip(reader, name, inputs, output, 0.0, math.inf)


def _clip_between(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    limits = [-math.inf, math.inf]
    for i in range(2):
        if len(inputs) > i + 1 and inputs[i + 1]:
            limits[i] = float(reader.constant(inputs[i + 1], "limits").reshape(()))
    _clip(reader, name, inputs, output, limits[0], limits[1])


def _pool(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = _image(reader, inputs[0])
        kernel = _pair(a.get("kernel_shape"), dims, 1)
        strides, dilations, pads = _window(a, image[2:], kernel, dims)
        if dilations != [1, 1]:
            raise Unsupported("its window is dilated")
        if any(pads[i] >= kernel[i] or pads[i + 2] >= kernel[i] for i in range(2)):
            raise Unsupported("its pads are as large as its window")
        size = []
        for i in range(2):
            free = image[2 + i] + pads[i] + pads[i + 2] - kernel[i]
            steps = -(-free // strides[i]) if a.get("ceil_mode") else free // strides[i]
            if steps * strides[i] >= image[2 + i] + pads[i]:
                steps -= 1  # no window may start in the padding after the image
            size.append(steps + 1)
        shape = (image[0], image[1], *size)
        before = reader.alone(inputs[0], "conv")
        whole = kernel == strides and kernel[0] == kernel[1] and not any(pads)
        if (
            kind == "max"
            and before is not None
            and whole
            and kernel[0] <= 4
            and dims == 2
            and before.settings["pool"] == 1
            and not a.get("ceil_mode")
        ):
            before.settings["pool"] = kernel[0]
            reader.rename(before, output, shape)
            return
        if kind == "average" and a.get("count_include_pad"):
            settings_kind = "average_padded"
        else:
            settings_kind = kind
        settings = {"kind": settings_kind, "kernel": kernel, "strides": strides, "pads": pads}
        reader.emit(Node("pool", name, (inputs[0],), output, settings), _out(shape, dims))

    return convert


def _global_pool(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = _image(reader, inputs[0])
        kernel = list(image[2:])
        settings = {"kind": kind, "kernel": kernel, "strides": [1, 1], "pads": [0] * 4}
        reader.emit(
            Node("pool", name, (inputs[0],), output, settings),
            _out((image[0], image[1], 1, 1), dims),
        )

    return convert


def _reduce_mean(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = reader.shape(inputs[0])
    axes = a.get("axes")
    if len(inputs) > 1 and inputs[1]:
        axes = reader.constant(inputs[1], "axes").reshape(-1).tolist()
    wanted = sorted(int(axis) % len(shape) for axis in axes or [])
    if wanted != list(range(2, len(shape))) or len(shape) not in (3, 4):
        raise Unsupported("it averages over other axes than those of the image")
    if a.get("keepdims", 1):
        _global_pool("average")(reader, name, inputs[:1], output, {})
        return
    _global_pool("average")(reader, name, inputs[:1], f"{output} with axes", {})
    reader.emit(Node("reshape", name, (f"{output} with axes",), output), shape[:2])


def _winners(local: bool) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = reader.shape(inputs[0])
        k = int(a.get("k", 0))
        group = shape[1] if local else math.prod(shape[1:])
        if not 0 < k <= group:
            raise Unsupported(f"it keeps {k} winners of {group}; k must be 1 to {group}")
        constants = {}
        if len(inputs) > 1 and inputs[1]:
            boost = _floats(reader.constant(inputs[1], "boost"))
            if not np.all(boost == 1.0):
                constants["boost"] = np.broadcast_to(boost, shape[1:]).astype(np.float32)
        reader.emit(
            Node("winners", name, (inputs[0],), output, {"k": k, "local": local}, constants), shape
        )

    return convert


def _target(reader: Reader, value: str, sizes: list[int], keep_zero: bool) -> Shape:
    shape = reader.shape(value)
    if keep_zero:
        sizes = [shape[i] if s == 0 and i < len(shape) else s for i, s in enumerate(sizes)]
    known = math.prod(s for s in sizes if s != -1)
    total = math.prod(shape)
    if sizes.count(-1) > 1 or any(s < -1 for s in sizes) or known == 0:
        raise Unsupported(f"it reshapes {shown(shape)} to {sizes}")
    sizes = [total // known if s == -1 else s for s in sizes]
    if math.prod(sizes) != total:
        raise Unsupported(f"it reshapes {shown(shape)} to {shown(tuple(sizes))}")
    return tuple(sizes)


def _reshape(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    sizes = [int(s) for s in np.ravel(reader.constant(inputs[1], "shape"))]
    shape = _target(reader, inputs[0], sizes, not a.get("allowzero"))
    reader.emit(Node("reshape", name, (inputs[0],), output), shape)


def _flatten(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = reader.shape(inputs[0])
    axis = int(a.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    reader.emit(
        Node("reshape", name, (inputs[0],), output),
        (math.prod(shape[:axis]), math.prod(shape[axis:])),
    )


def _unsqueeze(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = list(reader.shape(inputs[0]))
    axes = axes_of(reader, inputs, a)
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    reader.emit(Node("reshape", name, (inputs[0],), output), tuple(shape))


def _concat(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shapes = [reader.shape(i) for i in inputs]
    rank = len(shapes[0])
    axis = int(a["axis"]) % rank
    rest = {(s[:axis], s[axis + 1 :]) for s in shapes}
    if axis == 0 or len(rest) > 1 or any(i in reader.constants for i in inputs):
        raise Unsupported("it joins along the batch, or shapes that do not match, or constants")
    shape = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    reader.emit(Node("concat", name, tuple(inputs), output, {"axis": axis}), shape)


def _softmax(log: bool) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = reader.shape(inputs[0])
        axis = int(a.get("axis", -1)) % len(shape)
        if axis != len(shape) - 1 or axis == 0:
            raise Unsupported(f"it works along axis {axis} of {shown(shape)}; the last only")
        reader.emit(Node("softmax", name, (inputs[0],), output, {"log": log}), shape)

    return convert


def _layer_norm(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = reader.shape(inputs[0])
    axis = int(a.get("axis", -1)) % len(shape)
    size = math.prod(shape[axis:])
    if axis == 0:
        raise Unsupported("it normalises along the batch")
    scale = np.broadcast_to(_floats(reader.constant(inputs[1], "scale")), shape[axis:])
    bias = np.zeros(size, np.float32)
    if len(inputs) > 2 and inputs[2]:
        bias = np.broadcast_to(_floats(reader.constant(inputs[2], "bias")), shape[axis:])
    constants = {"scale": scale.reshape(-1).copy(), "bias": np.ravel(bias).copy()}
    settings = {"epsilon": float(a.get("epsilon", 1e-5)), "size": size}
    reader.emit(Node("layer_norm", name, (inputs[0],), output, settings, constants), shape)


def _same(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    reader.emit(Node("reshape", name, (inputs[0],), output), reader.shape(inputs[0]))


CONVERT: dict[str, Convert] = {
    **MOVES,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "InstanceNormalization": _instance_norm,
    "HardSwish": _hard_swish,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Relu": _relu,
    "Clip": _clip_between,
    "Gelu": _unary("gelu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "Erf": _unary("erf"),
    "LeakyRelu": _unary("leaky_relu", 0.01),
    "HardSigmoid": _unary("hard_sigmoid", 0.2, 0.5),
    "Sqrt": _unary("sqrt"),
    "Exp": _unary("exp"),
    "Neg": _unary("neg"),
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
    "Softmax": _softmax(False),
    "LogSoftmax": _softmax(True),
    "MaxPool": _pool("max"),
    "AveragePool": _pool("average"),
    "GlobalAveragePool": _global_pool("average"),
    "GlobalMaxPool": _global_pool("max"),
    "ReduceMean": _reduce_mean,
    "LayerNormalization": _layer_norm,
    "Concat": _concat,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
    "gossamer.KWinners": _winners(False),
    "gossamer.KWinnersLocal": _winners(True),
}


def _tensor(tensor: Any, folder: Path | None) -> Array:
    """A constant's numbers, after its sizes and where it lies were checked."""
    if tensor.data_type not in DTYPES:
        raise Unsupported(f"constant {tensor.name!r} has element type {tensor.data_type}")
    dtype = np.dtype(DTYPES[tensor.data_type])
    shape = tuple(int(d) for d in tensor.dims)
    if any(d < 0 for d in shape):
        raise Unsupported(f"constant {tensor.name!r} has the impossible shape {shape}")
    count = math.prod(shape)
    if tensor.data_location == 1:
        return _external(tensor, dtype, shape, folder)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * dtype.itemsize:
            raise Unsupported(
                f"constant {tensor.name!r} of shape {shape} holds {len(tensor.raw_data)} bytes"
            )
        little = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
        return little.astype(dtype).reshape(shape)
    fields = {1: "float_data", 7: "int64_data", 11: "double_data"}
    values = getattr(tensor, fields.get(tensor.data_type, "int32_data"))
    if len(values) != count:
        raise Unsupported(f"constant {tensor.name!r} of shape {shape} holds {len(values)} numbers")
    if tensor.data_type == 10:
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    return np.array(values).astype(dtype).reshape(shape)


def _sparse_tensor(sparse: Any, folder: Path | None) -> Array:
    """A sparse initializer as a dense constant: values at indices, linear or by dimension."""
    name = sparse.values.name
    values, indices = _tensor(sparse.values, folder), _tensor(sparse.indices, folder)
    shape = tuple(int(d) for d in sparse.dims)
    size = math.prod(shape)
    if any(d < 1 for d in shape) or size > SPARSEST * max(1, values.size):
        raise Unsupported(f"sparse constant {name!r} has the shape {shape}, too large for it")
    if indices.dtype.kind != "i" or indices.shape not in (
        (len(values),),
        (len(values), len(shape)),
    ):
        raise Unsupported(f"the indices of sparse constant {name!r} do not fit its values")
    try:
        if indices.ndim == 2:
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        if len(indices) and not 0 <= indices.min() <= indices.max() < size:
            raise ValueError
    except ValueError:
        raise Unsupported(f"sparse constant {name!r} has an index outside its shape") from None
    dense = np.zeros(size, values.dtype)
    dense[indices] = values
    return dense.reshape(shape)


def _external(tensor: Any, dtype: np.dtype[Any], shape: Shape, folder: Path | None) -> Array:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None:
        raise Unsupported(f"constant {tensor.name!r} lies in another file; open the model by path")
    location = entries.get("location", "")
    root = folder.resolve()
    try:
        path = (root / location).resolve()
        inside = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # no path at all, or a circle of links
        inside = False
    if not inside:
        raise Unsupported(
            f"constant {tensor.name!r} lies in {location!r}, "
            "which is not a file in the model's folder"
        )
    nbytes = math.prod(shape) * dtype.itemsize
    start = entries.get("offset", "0")
    offset = int(start) if start.isdecimal() and len(start) < 19 else -1
    if offset < 0 or offset + nbytes > path.stat().st_size:
        raise Unsupported(f"constant {tensor.name!r} reaches past the end of {path.name}")
    if not nbytes:
        return np.zeros(shape, dtype)
    little = dtype.newbyteorder("<")
    mapped = np.memmap(path, little, "r", offset, (nbytes // dtype.itemsize,))
    return np.asarray(mapped).astype(dtype, copy=False).reshape(shape)


def _attributes(node: Any, folder: Path | None) -> Attributes:
    found: Attributes = {}
    for a in node.attribute:
        match a.type:
            case 1:
                found[a.name] = float(a.f)
            case 2:
                found[a.name] = int(a.i)
            case 3:
                found[a.name] = a.s.decode(errors="replace")
            case 4:
                found[a.name] = _tensor(a.t, folder)
            case 6:
                found[a.name] = [float(v) for v in a.floats]
            case 7:
                found[a.name] = [int(v) for v in a.ints]
            case _:
                raise Unsupported(f"its attribute {a.name!r} holds a graph or another rare type")
    return found


def _constant_node(a: Attributes) -> Array:
    for key, dtype in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if key in a:
            return np.asarray(a[key], dtype)
    if "value" not in a:
        raise Unsupported("it holds no numbers")
    value: Array = a["value"]
    return value


def read(source: str | os.PathLike[str] | bytes) -> Graph:
    """The graph of an ONNX model, given its path or its bytes.

    Raises:
        UserError: the file cannot be read, is damaged, or holds an operator (named, with
            its node) that the engine lacks.
    """
    folder = None
    data: memoryview | bytes
    if isinstance(source, bytes):
        name, data = "the model", source
    else:
        path = Path(source)
        name, folder = str(path), path.parent
        data = _mapped(path)
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError, whichever implementation is installed
        raise UserError(f"{name}: not an ONNX model, or damaged; export it again") from None
    if not model.graph.node and not model.graph.output:
        raise UserError(f"{name}: holds no network; export it again")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < OLDEST_OPSET:
        raise UserError(f"{name}: opset {opset} is too old; export with opset 17 or later")
    try:
        graph = _graph(name, _inlined(model), folder)
    except Unsupported as error:
        raise UserError(f"{name}: {_printable(str(error))}") from None
    except MemoryError:
        raise UserError(f"{name}: takes more memory than there is") from None
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    return graph


def _printable(text: str) -> str:
    """Texts in a file may hold any character; a message is one line of plain ones."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _mapped(path: Path) -> memoryview | bytes:
    """A file's bytes, mapped rather than read."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be read (not a file)")
        with path.open("rb") as file:
            if not path.stat().st_size:
                return b""
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None


def _inlined(model: Any) -> Any:
    """The model without functions, but for those that are operators of the engine."""
    known = {*CONVERT, SPARSE}
    ours = {(f.domain, f.name) for f in model.functions if f"{f.domain}.{f.name}" in known}
    others = {(f.domain, f.name) for f in model.functions} - ours
    if not others:
        return model
    _count_nodes(model, ours)
    import onnx.inliner

    try:
        return onnx.inliner.inline_selected_functions(model, sorted(others), exclude=False)
    except Exception as error:  # the library raises whatever its C++ side threw
        raise Unsupported(f"its functions cannot be inlined ({str(error)[:80]})") from None


def _count_nodes(model: Any, ours: set[tuple[str, str]]) -> None:
    """Refuses functions that call themselves, and bodies that grow without measure."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    counts: dict[tuple[str, str], int] = dict.fromkeys(ours, 1)

    def count(nodes: Any, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in bodies and key not in counts:
                if key in within or len(within) > 50:
                    raise Unsupported(f"its function {node.op_type!r} calls itself")
                counts[key] = count(bodies[key], (*within, key))
            total += counts.get(key, 1)
        if total > MOST_NODES:
            raise Unsupported(f"its functions make more than {MOST_NODES} nodes")
        return total

    count(model.graph.node, ())


def _graph(name: str, model: Any, folder: Path | None) -> Graph:
    reader = Reader(name)
    graph = model.graph
    for tensor in graph.initializer:
        reader.constants[tensor.name] = _tensor(tensor, folder)
    for sparse in graph.sparse_initializer:
        reader.constants[sparse.values.name] = _sparse_tensor(sparse, folder)
    reader.free += 4 * sum(value.size for value in reader.constants.values())
    sparse_values = {n.input[0] for n in graph.node if n.op_type == NAME and n.input}
    reader.free += (FARTHEST + 1) * sum(
        reader.constants[value].size for value in sparse_values if value in reader.constants
    )
    inputs, dynamic = _inputs(reader, graph)
    for node in graph.node:
        reader.uses.update(value for value in node.input if value)
    outputs = [value.name for value in graph.output]
    reader.uses.update(outputs)  # an output's node keeps its own value
    for position, node in enumerate(graph.node):
        _convert(reader, node, node.name or f"{node.op_type} {position}", folder)
    for value in outputs:
        if value not in reader.shapes:
            raise Unsupported(f"nothing computes its output {value!r}")
        if value in reader.held:
            raise Unsupported(f"output {value!r}: the batch must stay first")
    shapes: dict[str, Shape] = {}
    for value, shape in reader.shapes.items():
        if value in reader.held:
            continue
        if dynamic:
            if not shape or shape[0] % BATCH:
                raise Unsupported(f"value {value!r} of shape {shown(shape)} lost the batch")
            shape = (shape[0] // BATCH, *shape[1:])
        if not shape or any(size >= BATCH and size % BATCH == 0 for size in shape[1:]):
            raise Unsupported(f"the batch is not the first dimension of value {value!r}")
        shapes[value] = shape
    return Graph(inputs, outputs, _living(reader.nodes, outputs), shapes, dynamic)


def _inputs(reader: Reader, graph: Any) -> tuple[list[str], bool]:
    inputs: list[str] = []
    dynamic = False
    for value in graph.input:
        if value.name in reader.constants:
            continue
        kind = value.type.tensor_type
        if kind.elem_type != 1:
            raise Unsupported(f"input {value.name!r} is not float32; export it so")
        dims = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if (
            not dims
            or any(d < 1 for d in dims[1:])
            or dims[0] < 0
            or any(d > LARGEST for d in dims)
        ):
            raise Unsupported(
                f"input {value.name!r}: all dimensions but the first must be fixed; "
                "export with only the batch dynamic"
            )
        if dims[0] == 0:
            dims[0], dynamic = BATCH, True
        if math.prod(dims[1:]) > LARGEST:
            raise Unsupported(f"input {value.name!r} is too large")
        reader.shapes[value.name] = tuple(dims)
        inputs.append(value.name)
    if not 1 <= len(inputs) <= 16:
        raise Unsupported(f"it has {len(inputs)} inputs; 1 to 16 can be run")
    if dynamic and any(reader.shapes[i][0] != BATCH for i in inputs):
        raise Unsupported("some inputs have a dynamic batch, some a fixed one")
    return inputs, dynamic


def _convert(reader: Reader, node: Any, name: str, folder: Path | None) -> None:
    """One ONNX node: folded if its inputs are constants, else one of the engine's."""
    operator = (
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    )
    where = f"node {name!r} ({operator})"
    inputs = list(node.input)
    if not node.output or not node.output[0]:
        raise Unsupported(f"{where}: has no output")
    output = node.output[0]
    reader.outputs = list(node.output)
    for value in inputs:
        if value and value not in reader.shapes and value not in reader.constants:
            raise Unsupported(f"{where}: reads {value!r}, which nothing before it computes")
    if output in reader.shapes or output in reader.constants:
        raise Unsupported(f"{where}: computes {output!r} a second time")
    try:
        attributes = _attributes(node, folder)
        if operator == "Constant":
            reader.constants[output] = _constant_node(attributes)
        elif operator == "Shape":
            shape = reader.shape(inputs[0])
            part = slice(attributes.get("start"), attributes.get("end"))
            reader.constants[output] = np.array(shape[part], np.int64)
        elif operator in FOLD and inputs and all(i in reader.constants for i in inputs if i):
            reader.fold(operator, output, [i for i in inputs if i], attributes)
        elif operator in CONVERT:
            CONVERT[operator](reader, name, inputs, output, attributes)
        else:
            raise Unsupported(
                "the engine has no such operator; replace it or run that part elsewhere; "
                + nearest(operator, CONVERT).partition("Known:")[0].rstrip("? ").strip(" ;")
            )
    except Unsupported as error:
        raise Unsupported(f"{where}: {error}".rstrip("; ")) from None
    except (
        ArithmeticError,
        IndexError,
        KeyError,
        MemoryError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        text = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise Unsupported(f"{where}: its inputs or settings make no sense ({text})") from None


def _living(nodes: list[Node], outputs: list[str]) -> list[Node]:
    """The nodes that an output depends on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]
