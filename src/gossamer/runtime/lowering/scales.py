"""A product and a sum by channel as one step, as of a batch norm that no layer can take."""

from __future__ import annotations

import math
from dataclasses import replace

from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.kernels.registry import find
from gossamer.runtime.packing import limits
from gossamer.runtime.program import Link, Step

MUL, ADD, CLIP = list(BINARY).index("mul"), list(BINARY).index("add"), list(UNARY).index("clip")


def scale_shape(outer: int, channels: int, inner: int) -> dict[str, int]:
    """Return the fields of the kernel's shape for an output without gaps between the channels."""
    return {"outer": outer, "channels": channels, "inner": inner, "out_plane": inner}


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
