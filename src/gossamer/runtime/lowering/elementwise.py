"""Everything between the layers with weights."""

from __future__ import annotations

import numpy as np

from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.runtime.graph import Node, merged, repeating
from gossamer.runtime.lowering.dense import pool_shape
from gossamer.runtime.lowering.layouts import Forms
from gossamer.runtime.packing import (
    limits,
)

UNARY_KINDS, BINARY_KINDS = tuple(UNARY), tuple(BINARY)  # in the order of the kernels' enumerations


def pool(forms: Forms, node: Node) -> None:
    value, (c, h, w) = forms.image(node)
    s = node.settings
    plain = forms.layout(value)
    result = forms.value(node.output)
    shape = result.shape
    high, wide = (1, shape[2]) if len(shape) == 3 else shape[2:]
    forms.add(
        node.name,
        forms.kernel("pool"),
        (forms.form(value, plain),),
        forms.new(result, plain, result.item),
        pool_shape(
            (c, h, w),
            (high, wide),
            kernel=s["kernel"],
            strides=s["strides"],
            pads=s["pads"],
            kind=s["kind"],
            channels_last=plain == "last",
        ),
        lead=value.lead,
    )


def unary(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    plain = forms.layout(value)
    result = forms.value(node.output)
    result.channels, result.pixels = value.channels, value.pixels
    forms.add(
        node.name,
        forms.kernel("unary"),
        (forms.form(value, plain),),
        forms.new(result, plain, result.item),
        {"size": value.item, "kind": UNARY_KINDS.index(node.settings["kind"])},
        data=[limits(node.settings.get("a", 0.0), node.settings.get("b", 0.0))],
        lead=value.lead,
    )


def binary(forms: Forms, node: Node) -> None:
    values = [forms.values[name] for name in node.inputs]
    result = forms.value(node.output)
    shape = result.shape
    constant = node.constants.get("right")
    last = (
        forms.layout(values[0]) == "last"
        and values[0].shape == shape
        and (constant is not None or values[-1].shape == shape)
        and len({(v.channels, v.pixels) for v in values}) == 1
        and (constant is None or len(shape) > 2)
    )
    plain = "last" if last else "dense"
    if last:
        result.channels, result.pixels = values[0].channels, values[0].pixels

    right = constant.shape if constant is not None else values[1].shape[1:]
    if last:
        c, p = values[0].channels, values[0].pixels
        sizes = [p, c]
        left_steps = right_steps = [c, 1]
        if constant is not None:
            constant = np.broadcast_to(constant, shape[1:]).reshape(c, p).T.copy()
    else:
        sizes, (left_steps, right_steps) = merged(
            shape[1:], repeating(values[0].shape[1:], shape[1:]), repeating(right, shape[1:])
        )
    missing = 4 - len(sizes)
    kernel_shape = {
        "kind": BINARY_KINDS.index(node.settings["kind"]),
        "sizes": [*[1] * missing, *sizes],
        "left": [*[0] * missing, *left_steps],
        "right": [*[0] * missing, *right_steps],
    }
    sources = [forms.form(value, plain) for value in values]
    data = [np.zeros(1, np.float32) if constant is None else constant.astype(np.float32)]
    forms.add(
        node.name,
        forms.kernel("binary"),
        (*sources, *[None] * (2 - len(sources))),
        forms.new(result, plain, result.item),
        kernel_shape,
        data=data,
        lead=result.lead,
    )


def embed(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    table = node.constants["table"]
    forms.add(
        node.name,
        forms.kernel("embed"),
        (forms.form(value, "dense"),),
        forms.new(result, "dense", result.item),
        {"count": value.item, "rows": table.shape[0], "width": table.shape[1]},
        data=[table],
        lead=value.lead,
    )


def softmax(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    size = value.shape[-1]
    forms.add(
        node.name,
        forms.kernel("softmax"),
        (forms.form(value, "dense"),),
        forms.new(result, "dense", result.item),
        {"rows": value.item // size, "size": size, "kind": node.settings["log"]},
        lead=value.lead,
    )


def layer_norm(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    size = node.settings["size"]
    data = [
        node.constants["scale"],
        node.constants["bias"],
        np.array([node.settings["epsilon"]], np.float32),
    ]
    forms.add(
        node.name,
        forms.kernel("layer_norm"),
        (forms.form(value, "dense"),),
        forms.new(result, "dense", result.item),
        {"rows": value.item // size, "size": size, "kind": node.settings.get("channels", 0)},
        data=data,
        lead=value.lead,
    )


def matmul(forms: Forms, node: Node) -> None:
    left, right = (forms.values[name] for name in node.inputs)
    result = forms.value(node.output)
    *_, rows, depth = left.shape
    columns = right.shape[-1]
    count = left.item // (rows * depth)
    macs = float(left.lead * left.item * columns)
    forms.add(
        node.name,
        forms.kernel("matmul"),
        (forms.form(left, "dense"), forms.form(right, "dense")),
        forms.new(result, "dense", result.item),
        {"count": count, "rows": rows, "depth": depth, "columns": columns},
        lead=left.lead,
        macs=macs,
        dense_macs=macs,
    )
