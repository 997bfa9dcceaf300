"""C loops and expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode


def expression(text: str, **parts: str) -> str:
    """Return an expression of the kernels' table in C floats, with its variables replaced."""
    return re.sub(r"\b[abvw]\b", lambda match: parts[match[0]], text)


def names(sizes: Sequence[int]) -> list[str]:
    return [f"i{axis}" for axis in range(len(sizes))]


def index(steps: Sequence[int], start: int = 0) -> str:
    """Return a C index: the sum of the loop variables times their strides."""
    terms = [f"i{axis} * {step}" if step != 1 else f"i{axis}"
             for axis, step in enumerate(steps) if step]  # fmt: skip
    return " + ".join([*terms, *([str(start)] if start or not terms else [])])


def nested(sizes: Sequence[int], inner: list[str]) -> list[str]:
    """Return the lines of nested loops over all dimensions around ``inner``."""
    lines = inner
    for axis in reversed(range(len(sizes))):
        i = f"i{axis}"
        head = f"for ({i} = 0; {i} < {sizes[axis]}; ++{i}) {{"
        lines = [head, *("    " + line for line in lines), "}"]
    return lines


def moved(
    writer: Writer, node: AnyNode,
    sizes: Sequence[int], source: Sequence[int], target: Sequence[int],
    *, start: int = 0, at: int = 0, clear: bool = False,
) -> None:  # fmt: skip
    """Write a strided copy within each example."""
    count = writer.shape(node.output)[0]
    item_in, item = (writer.size(v) // count for v in (node.inputs[0], node.output))
    lines = nested(sizes, [f"y[{index(target, at)}] = x[{index(source, start)}];"])
    if clear:
        lines = [f"for (i0 = 0; i0 < {item}; ++i0) y[i0] = 0.0f;", *lines]
    head = f"for (n = 0; n < {count}; ++n, x += {item_in}, y += {item}) {{"
    body = "\n".join([head, *("    " + line for line in lines), "}"])
    writer.function(node, ", ".join(["n", *names(sizes)]), body)
