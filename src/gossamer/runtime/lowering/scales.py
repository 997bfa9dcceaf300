"""A product and a sum by channel as one step, as of a batch norm that no layer can take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.kernels.registry import find
from gossamer.runtime.packing import limits
from gossamer.runtime.program import Buffer, Link, Step

MUL, ADD, CLIP = list(BINARY).index("mul"), list(BINARY).index("add"), list(UNARY).index("clip")


def scale_shape(outer: int, channels: int, inner: int) -> dict[str, int]:
    """Return the fields of the kernel's shape for an output without gaps between the channels."""
    return {"outer": outer, "channels": channels, "inner": inner, "pitch": inner}


def as_scale(step: Step, product: Link | None) -> Step:
    """Return a product by channel followed by such a sum, and by limits, as one kernel call.

    Args:
        step: with its epilogue.
        product: the step itself as an epilogue's operation, None if it is none.
    """
    if product is None or not step.epilogue or not product.binary or product.kind != MUL:
        return step
    total, *rest = step.epilogue
    alike = (product.repeat, product.count) == (total.repeat, total.count)
    by_channel = product.count > 1 and product.other is None and total.other is None
    if not (total.binary and total.kind == ADD and alike and by_channel):
        return step
    clip = limits(-math.inf, math.inf)
    if rest and not rest[0].binary and rest[0].kind == CLIP:
        clip = rest.pop(0).data
    channels, inner = product.count, product.repeat
    return replace(
        step,
        kernel=find(step.kernel.isa, "scale")[0],
        inputs=tuple(buffer for buffer in step.inputs if buffer is not None),
        shape=scale_shape(product.size // channels // inner, channels, inner),
        data=[product.data, total.data, clip],
        epilogue=tuple(rest),
    )


def spread(steps: Sequence[Step], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps without copies whose only purpose are gaps between a scale's channels."""
    readers = Counter(buffer for step in steps for buffer in step.inputs)
    readers.update(outputs)
    writers = Counter(buffer for step in steps for buffer in step.outputs)
    scales: dict[Buffer | None, int] = {}
    result: list[Step] = []
    for step in steps:
        source = step.inputs[0] if step.inputs else None
        at = scales.get(source)
        pitch = None if at is None or source is None else _pitch(step, result[at])
        once = readers[source] == 1 and source is not None and writers[source] == 1
        if at is not None and pitch is not None and once and writers[step.outputs[0]] == 1:
            shape = {**result[at].shape, "pitch": pitch}
            result[at] = replace(result[at], outputs=step.outputs, shape=shape)
            continue
        if step.kernel.operation == "scale" and all(not link.binary for link in step.epilogue):
            scales[step.outputs[0]] = len(result)
        result.append(step)
    return result


def _pitch(step: Step, scale: Step) -> int | None:
    """Return the floats between the channels where a step spreads those of a scale."""
    shape = step.shape
    if step.kernel.operation != "copy" or step.items != scale.items:
        return None
    if shape["clear"] or shape["in_offset"] or shape["out_offset"]:
        return None
    sizes, *strides = (
        cast(Sequence[int], shape[k]) for k in ("sizes", "in_strides", "out_strides")
    )
    inner = cast(int, scale.shape["inner"])
    rows = cast(int, scale.shape["outer"]) * cast(int, scale.shape["channels"])
    loops = [loop for loop in zip(sizes, *strides, strict=True) if loop[0] > 1]
    if len(loops) != 2 or loops[0][:2] != (rows, inner) or loops[1] != (inner, 1, 1):
        return None
    return int(loops[0][2])
