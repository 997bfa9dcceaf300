"""Everything between the layers with weights."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.runtime.c.tables import number
from gossamer.runtime.c.writer import Writer, clipped
from gossamer.runtime.graph import Array, Node, merged, repeating, strides


def expression(text: str, **parts: str) -> str:
    """An expression of the kernels' table with other texts for its variables, as float in C."""
    return re.sub(r"\b[abvw]\b", lambda match: parts[match[0]], text)


def unary(writer: Writer, node: Node) -> None:
    s = node.settings
    if s["kind"] == "clip":
        step = "\n    ".join(clipped(s["a"], s["b"]))
    else:
        a, b = (number(s.get(name, 0.0)) for name in "ab")
        step = f"v = {expression(UNARY[s['kind']], v='v', a=a, b=b)};"
    body = f"""
for (i = 0; i < {writer.size(node.output)}; ++i) {{
    float v = x[i];
    {step}
    y[i] = v;
}}"""
    writer.function(node, "i", body)


def rounded(s: dict[str, Any]) -> list[str]:
    """Statements that leave a float ``v`` the nearest whole number of steps, ties to even."""
    return [
        f"v /= {number(s['step'])};",
        f"if (!(v > {number(s['low'])})) v = {number(s['low'])};",  # NaN becomes the lowest
        *clipped(-math.inf, s["high"]),
        "v = (v + 12582912.0f) - 12582912.0f;",  # no room for a fraction beyond 2^23
    ]


def round_(writer: Writer, node: Node) -> None:
    steps, kind = rounded(node.settings), writer.type(node.output)
    if kind == "float":
        steps.append(f"v *= {number(node.settings['step'])};")
    step = "\n    ".join(steps)
    body = f"""
for (i = 0; i < {writer.size(node.output)}; ++i) {{
    float v = x[i];
    {step}
    y[i] = {"v" if kind == "float" else f"({kind})v"};
}}"""
    writer.function(node, "i", body)


def binary(writer: Writer, node: Node) -> None:
    """By strides over the result's item, where a repeated dimension has stride zero."""
    shape = writer.shape(node.output)[1:]
    constant = node.constants.get("right")
    left = writer.shape(node.inputs[0])[1:]
    right = constant.shape if constant is not None else writer.shape(node.inputs[1])[1:]
    operand = "x1"
    if constant is not None:
        operand = writer.tables.floats(f"{writer.called(node)}_right", constant)
    sizes, (from_left, from_right) = merged(shape, repeating(left, shape), repeating(right, shape))
    item = math.prod(shape)
    ahead = f", x += {math.prod(left)}"
    if constant is None:
        ahead += f", x1 += {math.prod(right)}"
    combined = expression(
        BINARY[node.settings["kind"]], v=f"x[{_at(from_left)}]", w=f"{operand}[{_at(from_right)}]"
    )
    inner = [f"y[{_at(strides(tuple(sizes)))}] = {combined};"]
    body = _loops(sizes, inner)
    writer.function(
        node,
        ", ".join(["n", *_names(sizes)]),
        f"for (n = 0; n < {writer.shape(node.output)[0]}; ++n{ahead}, y += {item}) {{\n"
        + "\n".join("    " + line for line in body)
        + "\n}",
    )


def _names(sizes: list[int]) -> list[str]:
    return [f"i{axis}" for axis in range(len(sizes))]


def _at(steps: list[int], start: int = 0) -> str:
    """An index by steps of the loops' variables."""
    terms = [f"i{axis} * {step}" if step != 1 else f"i{axis}"
             for axis, step in enumerate(steps) if step]  # fmt: skip
    return " + ".join([*terms, *([str(start)] if start or not terms else [])])


def _loops(sizes: list[int], inner: list[str]) -> list[str]:
    """Nested loops over all dimensions."""
    lines = inner
    for axis in reversed(range(len(sizes))):
        i = f"i{axis}"
        head = f"for ({i} = 0; {i} < {sizes[axis]}; ++{i}) {{"
        lines = [head, *("    " + line for line in lines), "}"]
    return lines


def _moved(
    writer: Writer, node: Node, sizes: list[int], source: list[int], target: list[int],
    *, start: int = 0, at: int = 0, clear: bool = False,
) -> None:  # fmt: skip
    """A copy by strides within each example."""
    count = writer.shape(node.output)[0]
    item_in, item = (writer.size(v) // count for v in (node.inputs[0], node.output))
    lines = _loops(sizes, [f"y[{_at(target, at)}] = x[{_at(source, start)}];"])
    if clear:
        lines = [f"for (i0 = 0; i0 < {item}; ++i0) y[i0] = 0.0f;", *lines]
    head = f"for (n = 0; n < {count}; ++n, x += {item_in}, y += {item}) {{"
    body = "\n".join([head, *("    " + line for line in lines), "}"])
    writer.function(node, ", ".join(["n", *_names(sizes)]), body)


def strided(writer: Writer, node: Node) -> None:
    s = node.settings
    _moved(writer, node, s["sizes"], s["source"], s["target"],
           start=s["start"], at=s["at"], clear=s["clear"])  # fmt: skip


def transpose(writer: Writer, node: Node) -> None:
    shape = writer.shape(node.output)[1:]
    steps = strides(writer.shape(node.inputs[0])[1:])
    source = [steps[axis - 1] for axis in node.settings["perm"][1:]]
    _moved(writer, node, list(shape), source, strides(shape))


def reshape(writer: Writer, node: Node) -> None:
    """Nothing to do but for the network's own outputs, which have their own place."""
    if node.output in writer.graph.outputs:
        writer.function(node, "i", f"for (i = 0; i < {writer.size(node.output)}; ++i) y[i] = x[i];")


def concat(writer: Writer, node: Node) -> None:
    axis = node.settings["axis"]
    shapes = [writer.shape(value) for value in node.inputs]
    lines = []
    for i, shape in enumerate(shapes):
        source, size = f"x{i}" if i else "x", math.prod(shape[axis:])
        lines.append(f"    for (i = 0; i < {size}; ++i) *y++ = *{source}++;")
    outer = math.prod(shapes[0][:axis])
    body = "\n".join([f"for (n = 0; n < {outer}; ++n) {{", *lines, "}"])
    writer.function(node, "n, i", body)


def pool(writer: Writer, node: Node) -> None:
    s = node.settings
    images, channels, in_high, in_wide = writer.image(node.inputs[0])
    _, _, high, wide = writer.image(node.output)
    (kernel_high, kernel_wide), (down, across), pads = s["kernel"], s["strides"], s["pads"]
    largest = s["kind"] == "max"
    scale = ""
    if s["kind"] == "average":
        scale = "best *= 1.0f / (float)((bottom - top) * (right - left));\n"
    elif s["kind"] == "average_padded":
        scale = (
            f"by = i * {down} + {kernel_high - pads[0]};\n"
            f"if (by > {in_high + pads[2]}) by = {in_high + pads[2]};\n"
            f"by -= i * {down} - {pads[0]};\n"
            f"bx = j * {across} + {kernel_wide - pads[1]};\n"
            f"if (bx > {in_wide + pads[3]}) bx = {in_wide + pads[3]};\n"
            f"bx -= j * {across} - {pads[1]};\n"
            "best *= 1.0f / (float)(by * bx);\n"
        )
    take = "best = v > best || v != v ? v : best;" if largest else "best += v;"
    scaled = "".join(f"            {line}\n" for line in scale.splitlines())
    body = f"""
for (n = 0; n < {images * channels}; ++n, x += {in_high * in_wide}) {{
    for (i = 0; i < {high}; ++i) {{
        for (j = 0; j < {wide}; ++j) {{
            float best = {"-INFINITY" if largest else "0.0f"};
            top = i * {down} - {pads[0]};
            left = j * {across} - {pads[1]};
            bottom = top + {kernel_high};
            right = left + {kernel_wide};
            if (top < 0) top = 0;
            if (left < 0) left = 0;
            if (bottom > {in_high}) bottom = {in_high};
            if (right > {in_wide}) right = {in_wide};
            for (a = top; a < bottom; ++a) {{
                for (b = left; b < right; ++b) {{
                    const float v = x[a * {in_wide} + b];
                    {take}
                }}
            }}
{scaled}            *y++ = best;
        }}
    }}
}}"""
    declared = "n, i, j, a, b, top, left, bottom, right"
    writer.function(node, declared + (", by, bx" if "by" in scale else ""), body)


def embed(writer: Writer, node: Node) -> None:
    table = node.constants["table"]
    rows, width = table.shape
    name = writer.tables.floats(f"{writer.called(node)}_table", table)
    body = f"""
for (i = 0; i < {writer.size(node.inputs[0])}; ++i) {{
    row = (int32_t)x[i];
    if (row < 0) row += {rows};
    for (j = 0; j < {width}; ++j) {{
        *y++ = row >= 0 && row < {rows} ? {name}[row * {width} + j] : NAN;
    }}
}}"""
    writer.function(node, "i, j, row", body)


def softmax(writer: Writer, node: Node) -> None:
    size = writer.shape(node.output)[-1]
    if node.settings["log"]:
        last = f"sum = logf(sum);\n    for (i = 0; i < {size}; ++i) y[i] = x[i] - top - sum;"
        store = "sum += expf(x[i] - top);"
    else:
        last = f"for (i = 0; i < {size}; ++i) y[i] /= sum;"
        store = "sum += y[i] = expf(x[i] - top);"
    body = f"""
for (r = 0; r < {writer.size(node.output) // size}; ++r, x += {size}, y += {size}) {{
    float top = x[0], sum = 0.0f;
    for (i = 1; i < {size}; ++i) top = x[i] > top ? x[i] : top;
    for (i = 0; i < {size}; ++i) {store}
    {last}
}}"""
    writer.function(node, "r, i", body)


def layer_norm(writer: Writer, node: Node) -> None:
    size, name = node.settings["size"], writer.called(node)
    scale = writer.tables.floats(f"{name}_scale", node.constants["scale"])
    bias = writer.tables.floats(f"{name}_bias", node.constants["bias"])
    channels = node.settings.get("channels", 0)
    at = f"r % {channels}" if channels else "i"
    body = f"""
for (r = 0; r < {writer.size(node.output) // size}; ++r, x += {size}, y += {size}) {{
    double sum = 0.0, squares = 0.0, mean;
    float factor, center;
    for (i = 0; i < {size}; ++i) sum += (double)x[i];
    mean = sum / {size}.0;
    for (i = 0; i < {size}; ++i) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    factor = (float)(1.0 / sqrt(squares / {size}.0 + (double){number(node.settings["epsilon"])}));
    center = (float)mean;
    for (i = 0; i < {size}; ++i) y[i] = (x[i] - center) * factor * {scale}[{at}] + {bias}[{at}];
}}"""
    writer.function(node, "r, i", body)


def _boost(writer: Writer, node: Node, pixels: int) -> tuple[str, int]:
    """The table of boosts (NULL where all are one), and for how many pixels each stands."""
    boost: Array | None = node.constants.get("boost")
    if boost is None:
        return "0", 1
    planes = boost.reshape(-1, pixels)
    same = bool(np.all(planes == planes[:, :1]))
    table = f"{writer.called(node)}_boost"
    return writer.tables.floats(table, planes[:, 0] if same else boost), pixels if same else 1


def winners(writer: Writer, node: Node) -> None:
    shape = writer.shape(node.output)
    channels, pixels = shape[1], math.prod(shape[2:])
    boost, each = _boost(writer, node, pixels)
    writer.helpers.add("winners")
    item, k = channels * pixels, node.settings["k"]
    select = f"{writer.name}_winners"
    if node.settings["local"]:
        body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    for (p = 0; p < {pixels}; ++p) {select}(x, {boost}, {each}, y, p, {pixels}, {item}, {k});
}}"""
        writer.function(node, "n, p", body)
    else:
        body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    {select}(x, {boost}, {each}, y, 0, 1, {item}, {k});
}}"""
        writer.function(node, "n", body)
