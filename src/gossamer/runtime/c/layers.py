"""Layers with weights in C; zero weights, and zero inputs, cost nothing."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.c.int8 import input_step, rounding_steps
from gossamer.runtime.c.tables import rows
from gossamer.runtime.c.writer import Writer, clipped
from gossamer.runtime.graph import AnyNode, Array, Graph, whole

# Nodes that keep a value's zeros, or most of them.
KEEP_ZEROS = ("round", "reshape", "transpose", "strided", "pool")


def mostly_zero(graph: Graph, value: str) -> bool:
    """Whether a value is known to be at least half zeros, as k-winners are."""
    made = {node.output: node for node in graph.nodes}
    while (node := made.get(value)) is not None and node.op in KEEP_ZEROS:
        value = node.inputs[0]
    if node is None or node.op != "winners":
        return False
    shape = graph.shapes[value]
    group = shape[1] if node.operation.local else math.prod(shape[1:])
    return bool(2 * node.operation.k <= group)


def _in_bytes(writer: Writer, node: AnyNode) -> bool:
    """Whether a layer computes its sums in integers."""
    return writer.type(node.inputs[0]) != "float"


def _weight(writer: Writer, node: AnyNode) -> Array:
    return whole(node) if _in_bytes(writer, node) else node.constants["weight"]


def _finished(writer: Writer, node: AnyNode, channel: str) -> list[str]:
    """Return C statements that turn ``v``, a channel's sum, into the layer's output."""
    name = writer.called(node)
    steps = node.constants["step"] * np.float32(input_step(writer.graph, node.inputs[0]))
    step = writer.tables.floats(f"{name}_step", steps)
    bias = writer.tables.floats(f"{name}_bias", node.constants["bias"])
    limits = clipped(node.operation.low, node.operation.high)
    inside = node.operation.rounded
    return [
        f"v = v * {step}[{channel}] + {bias}[{channel}];",
        *limits,
        *(rounding_steps(inside) if inside else []),
    ]


def _stored(writer: Writer, node: AnyNode) -> str:
    kind = writer.type(node.output)
    return "v" if kind == "float" else f"({kind})v"


def linear(writer: Writer, node: AnyNode) -> None:
    """Write a linear layer: each non-zero input adds its products to the outputs."""
    weight, name = _weight(writer, node), writer.called(node)
    outputs, inputs = weight.shape
    table = rows(writer.tables, name, weight.T)
    if _in_bytes(writer, node):
        writer.sums = max(writer.sums, outputs)
        sums, kind, zero, start = "sums", "int32_t", "0", "0"
        finish = "".join(f"        {step}\n" for step in _finished(writer, node, "e"))
        end = f"""    for (e = 0; e < {outputs}; ++e) {{
        float v = (float)sums[e];
{finish}        y[e] = {_stored(writer, node)};
    }}
"""
    else:
        bias = writer.tables.floats(f"{name}_bias", node.constants["bias"])
        sums, kind, zero, start = "y", "float", "0.0f", f"{bias}[e]"
        end = _clip(node, outputs)
    body = f"""
for (r = 0; r < {writer.size(node.output) // outputs}; ++r, x += {inputs}, y += {outputs}) {{
    for (e = 0; e < {outputs}; ++e) {sums}[e] = {start};
    for (i = 0; i < {inputs}; ++i) {{
        const {kind} input = x[i];
        if (input == {zero}) continue;
{table.loop("i", f"{sums}[{{o}}] += {{w}} * input;")}
    }}
{end}}}"""
    writer.function(node, "r, i, e", body)


def _clip(node: AnyNode, count: int, array: str = "y") -> str:
    """Return a C loop that clips an array, "" if the node has no limits."""
    steps = clipped(node.operation.low, node.operation.high)
    if not steps:
        return ""
    inner = "".join(f"        {step}\n" for step in steps)
    return (
        f"    for (e = 0; e < {count}; ++e) {{\n        float v = {array}[e];\n"
        f"{inner}        {array}[e] = v;\n    }}\n"
    )


def conv(writer: Writer, node: AnyNode) -> None:
    if mostly_zero(writer.graph, node.inputs[0]):
        _from_inputs(writer, node)
    else:
        _from_weights(writer, node)


def _planes(
    writer: Writer, node: AnyNode, sums: str, high: int, wide: int, channels: int, first: str
) -> str:
    """Return C that computes the layer's output from the ``sums`` of some channels.

    A max-pool is taken of the sums, also of integers, since steps are positive. ``first`` is the
    index of the first of these channels.
    """
    pool, (_, _, below, across) = node.operation.pool, writer.image(node.output)
    kind, larger = "float", "other > best || other != other"
    finish, result = "", "best"
    if _in_bytes(writer, node):
        kind, larger = "int32_t", "other > best"
        channel = f"{first} + c" if channels == 1 else "c"
        steps = ["v = (float)best;", *_finished(writer, node, channel)]
        finish, result = "".join(f"            {step}\n" for step in steps), _stored(writer, node)
    declared = "\n            float v;" if finish else ""
    take = ""
    if pool > 1:
        take = f"""
            for (e = 1; e < {pool * pool}; ++e) {{
                const {kind} other = square[e / {pool} * {wide} + e % {pool}];
                best = {larger} ? other : best;
            }}"""
    return f"""
for (c = 0; c < {channels}; ++c) {{
    for (i = 0; i < {below}; ++i) {{
        for (j = 0; j < {across}; ++j) {{
            const {kind} *square = {sums} + (c * {high} + i * {pool}) * {wide} + j * {pool};
            {kind} best = square[0];{declared}{take}
{finish}            y[(c * {below} + i) * {across} + j] = {result};
        }}
    }}
}}"""


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line if line else line for line in text.strip("\n").split("\n"))


def _from_inputs(writer: Writer, node: AnyNode) -> None:
    """Write a convolution: each non-zero input adds to the outputs it reaches, tap by tap."""
    weight, s, eight = _weight(writer, node), node.operation, _in_bytes(writer, node)
    outputs, per_group, kernel_high, kernel_wide = weight.shape
    groups, pool = s.groups, s.pool
    each = outputs // groups
    images, channels, in_high, in_wide = writer.image(node.inputs[0])
    high, wide = s.size((in_high, in_wide), (kernel_high, kernel_wide))
    plane = high * wide
    name = writer.called(node)
    by_input = weight.reshape(groups, each, per_group, kernel_high, kernel_wide)
    by_input = by_input.transpose(0, 2, 3, 4, 1).reshape(-1, each)
    table = rows(writer.tables, name, by_input)
    bias = "" if eight else writer.tables.floats(f"{name}_bias", node.constants["bias"])
    group = f" + c / {per_group} * {each * plane}" if groups > 1 else ""
    sums = "sums" if eight else "scratch" if pool > 1 else "y"
    kind, zero = ("int32_t", "0") if eight else ("float", "0.0f")
    start = "0" if eight else f"{bias}[e / {plane}]"

    def reached(to: str, at: str, axis: int, tap: str, size: int) -> str:
        """Return C for the output that a tap reaches along an axis; it skips taps without one."""
        text = f"{to} = {at} + {s.pads[axis]} - {tap} * {s.dilations[axis]};\n"
        step = s.strides[axis]
        if step > 1:
            text += f"if ({to} < 0 || {to} % {step} != 0) continue;\n{to} /= {step};\n"
            return text + f"if ({to} >= {size}) continue;"
        return text + f"if ({to} < 0 || {to} >= {size}) continue;"

    taps = f"""
for (ky = 0; ky < {kernel_high}; ++ky) {{
{_indented(reached("oy", "i", 0, "ky", high), 4)}
    for (kx = 0; kx < {kernel_wide}; ++kx) {{
        {kind} *to;
        int32_t row;
{_indented(reached("ox", "j", 1, "kx", wide), 8)}
        to = {sums}{group} + oy * {wide} + ox;
        row = (c * {kernel_high} + ky) * {kernel_wide} + kx;
{table.loop("row", f"to[{{o}} * {plane}] += {{w}} * input;")}
    }}
}}"""
    if eight:
        writer.sums = max(writer.sums, outputs * plane)
    end = "" if eight else _clip(node, outputs * plane, sums)
    if eight or pool > 1:
        end += _indented(_planes(writer, node, sums, high, wide, outputs, "0"), 4)
    body = f"""
for (n = 0; n < {images}; ++n) {{
    for (e = 0; e < {outputs * plane}; ++e) {sums}[e] = {start};
    for (c = 0; c < {channels}; ++c) {{
        for (i = 0; i < {in_high}; ++i) {{
            for (j = 0; j < {in_wide}; ++j) {{
                const {kind} input = x[(c * {in_high} + i) * {in_wide} + j];
                if (input == {zero}) continue;
{_indented(taps, 16)}
            }}
        }}
    }}
{end}
    x += {channels * in_high * in_wide};
    y += {writer.size(node.output) // images};
}}"""
    declared = "n, c, i, j, ky, kx, oy, ox, e"
    writer.function(node, declared, body, scratch=outputs * plane if pool > 1 and not eight else 0)


def _from_weights(writer: Writer, node: AnyNode) -> None:
    """Write a convolution: each non-zero weight adds a shifted plane of its input channel."""
    weight, s, eight = _weight(writer, node), node.operation, _in_bytes(writer, node)
    outputs, per_group, kernel_high, kernel_wide = weight.shape
    groups, pool = s.groups, s.pool
    images, channels, in_high, in_wide = writer.image(node.inputs[0])
    high, wide = s.size((in_high, in_wide), (kernel_high, kernel_wide))
    plane, taps = high * wide, kernel_high * kernel_wide
    name = writer.called(node)
    table = rows(writer.tables, name, weight.reshape(outputs, -1))
    bias = "" if eight else writer.tables.floats(f"{name}_bias", node.constants["bias"])
    group = f" + o / {outputs // groups} * {per_group}" if groups > 1 else ""
    sums = "sums" if eight else "scratch" if pool > 1 else "y"
    kind, start = ("int32_t", "0") if eight else ("float", f"{bias}[o]")
    down, across = s.strides
    element = writer.type(node.inputs[0])

    def span(first: str, last: str, tap: str, axis: int, size: int, out: int) -> str:
        """Return the outputs [first, last) along an axis whose input for a tap is in the image."""
        shift = f"{s.pads[axis]} - {tap} * {s.dilations[axis]}"
        step = s.strides[axis]
        return (
            f"{first} = {shift};\n"
            f"{last} = {first} + {size} <= 0 ? 0 : ({first} + {size - 1}) / {step} + 1;\n"
            f"if ({last} > {out}) {last} = {out};\n"
            f"{first} = {first} <= 0 ? 0 : ({first} + {step - 1}) / {step};"
        )

    add = f"""
const int32_t tap = {{o}};
const {kind} w = {{w}};
const int32_t ky = tap / {kernel_wide} % {kernel_high}, kx = tap % {kernel_wide};
const {element} *plane = x + (tap / {taps}{group}) * {in_high * in_wide};
{span("top", "bottom", "ky", 0, in_high, high)}
{span("left", "right", "kx", 1, in_wide, wide)}
for (i = top; i < bottom; ++i) {{{{
    const {element} *from = plane
        + (i * {down} + ky * {s.dilations[0]} - {s.pads[0]}) * {in_wide}
        + kx * {s.dilations[1]} - {s.pads[1]};
    {kind} *to = {sums} + i * {wide};
    for (j = left; j < right; ++j) to[j] += w * from[j * {across}];
}}}}""".strip()
    if eight:
        writer.sums = max(writer.sums, plane)
    end = "" if eight else _indented(_clip(node, plane, sums), 4) + "\n"
    if eight or pool > 1:
        end += _indented(_planes(writer, node, sums, high, wide, 1, "o"), 8) + "\n"
    count = writer.size(node.output) // images // outputs
    body = f"""
for (n = 0; n < {images}; ++n, x += {channels * in_high * in_wide}) {{
    for (o = 0; o < {outputs}; ++o, y += {count}) {{
        for (e = 0; e < {plane}; ++e) {sums}[e] = {start};
{table.loop("o", add)}
{end}    }}
}}"""
    declared = "n, o, e, i, j, top, bottom, left, right" + (", c" if pool > 1 or eight else "")
    writer.function(node, declared, body, scratch=plane if pool > 1 and not eight else 0)


def matmul(writer: Writer, node: AnyNode) -> None:
    *_, depth = writer.shape(node.inputs[0])
    *_, lines, columns = writer.shape(node.output)
    count = writer.size(node.output) // (lines * columns)
    body = f"""
for (n = 0; n < {count}; ++n, x1 += {depth * columns}) {{
    for (i = 0; i < {lines}; ++i, x += {depth}, y += {columns}) {{
        for (j = 0; j < {columns}; ++j) y[j] = 0.0f;
        for (d = 0; d < {depth}; ++d) {{
            const float *right = x1 + d * {columns};
            for (j = 0; j < {columns}; ++j) y[j] += x[d] * right[j];
        }}
    }}
}}"""
    writer.function(node, "n, i, j, d", body)


def finite(node: AnyNode) -> bool:
    """Whether all weights are finite, so that zeros may be skipped (0 times infinity is NaN)."""
    return all(bool(np.isfinite(constant).all()) for constant in node.constants.values())
