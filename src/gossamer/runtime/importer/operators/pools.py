"""Pooling, and what reduces whole axes."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.operators.linear import linear
from gossamer.runtime.importer.operators.moves import axes_of, place
from gossamer.runtime.importer.operators.windows import flat, image_of, pair, window
from gossamer.runtime.importer.reader import Attributes, Convert, Reader, Unsupported, shown


def _pool(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = image_of(reader, inputs[0])
        kernel = pair(a.get("kernel_shape"), dims, 1)
        strides, dilations, pads = window(a, image[2:], kernel, dims)
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
        reader.emit(Node("pool", name, (inputs[0],), output, settings), flat(shape, dims))

    return convert


def _global_pool(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        image, dims = image_of(reader, inputs[0])
        kernel = list(image[2:])
        settings = {"kind": kind, "kernel": kernel, "strides": [1, 1], "pads": [0] * 4}
        reader.emit(
            Node("pool", name, (inputs[0],), output, settings),
            flat((image[0], image[1], 1, 1), dims),
        )

    return convert


def _reduce(kind: str) -> Convert:
    """Means, sums and maxima over any axes but the batch."""

    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = reader.shape(inputs[0])
        axes = sorted({axis % len(shape) for axis in axes_of(reader, inputs, a)})
        if not axes or axes[0] == 0:
            raise Unsupported(f"it joins the examples of a batch: axes {axes} of {shown(shape)}")
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        value, count = inputs[0], math.prod(shape[axis] for axis in axes)
        if kept + axes != list(range(len(shape))):
            place(reader, name, value, kept + axes, f"{output} in order")
            value = f"{output} in order"
        rows = math.prod(shape[axis] for axis in kept[1:])
        whole, reduced = f"{output} rows", f"{output} reduced"
        if kind == "sum":  # exact where it counts
            reader.emit(Node("reshape", name, (value,), whole), (shape[0], rows, count))
            reader.spend(count)
            ones, none = np.ones((1, count), np.float32), np.zeros(1, np.float32)
            linear(reader, name, whole, reduced, ones, none, {})
        else:
            reader.emit(Node("reshape", name, (value,), whole), (shape[0], rows, 1, count))
            _global_pool(kind)(reader, name, [whole], reduced, {})
        keep = a.get("keepdims", 1)
        small = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
        kind_of = "f" if kind == "average" else reader.kind(inputs[0])
        reader.emit(Node("reshape", name, (reduced,), output), tuple(small), kind_of)

    return convert


POOLS: dict[str, Convert] = {
    "MaxPool": _pool("max"),
    "AveragePool": _pool("average"),
    "GlobalAveragePool": _global_pool("average"),
    "GlobalMaxPool": _global_pool("max"),
    "ReduceMax": _reduce("max"),
    "ReduceMean": _reduce("average"),
    "ReduceSum": _reduce("sum"),
}
