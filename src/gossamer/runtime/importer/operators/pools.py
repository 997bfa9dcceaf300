"""Pooling, and means over an image."""

from __future__ import annotations

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.operators.windows import flat, image_of, pair, window
from gossamer.runtime.importer.reader import Attributes, Convert, Reader, Unsupported


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


POOLS: dict[str, Convert] = {
    "MaxPool": _pool("max"),
    "AveragePool": _pool("average"),
    "GlobalAveragePool": _global_pool("average"),
    "GlobalMaxPool": _global_pool("max"),
    "ReduceMean": _reduce_mean,
}
