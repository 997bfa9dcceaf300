"""Fusion of elementwise operations into the kernel call before them, as its epilogue.

An activation, a scale by channel or the sum with a second value then works on a layer's outputs
while they are in a cache, and a chain of such operations passes over its values once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import cast

from gossamer.kernels._kernels import MOST_INPUTS
from gossamer.runtime.graph import strides
from gossamer.runtime.lowering.scales import as_scale
from gossamer.runtime.program import Buffer, Link, Step


def fuse(steps: Sequence[Step], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps with each elementwise step fused into the only producer of its input."""
    readers = Counter(buffer for step in steps for buffer in step.inputs)
    readers.update(outputs)
    writers = Counter(buffer for step in steps for buffer in step.outputs)
    fused: list[Step] = []
    maker: dict[Buffer | None, int] = {}  # buffer -> its last step in ``fused``
    for step in steps:
        for side, source in enumerate(step.inputs[: 2 if step.kernel.operation == "binary" else 1]):
            at = maker.get(source)
            if at is None or source is None or readers[source] > 1 or writers[source] > 1:
                continue
            before, link = fused[at], _link(step, side)
            if link is None or not _takes(before) or source.floats != step.outputs[0].floats:
                continue
            inputs = before.inputs
            if link.other is not None and link.other not in inputs:
                if maker.get(link.other, -1) >= at or len(inputs) >= MOST_INPUTS:
                    continue
                inputs = (*inputs, link.other)
            fused[at] = both = copy(before)
            both.inputs, both.outputs = inputs, step.outputs
            both.epilogue = (*before.epilogue, link)
            maker[step.outputs[0]] = at
            break
        else:
            maker.update(dict.fromkeys(step.outputs, len(fused)))
            fused.append(step)
    return [as_scale(step, _link(replace(step, epilogue=()), 0)) for step in fused]


def _takes(step: Step) -> bool:
    """Whether a call can have an epilogue; one that writes a list of non-zeros cannot."""
    listed = step.kernel.operation == "unary" and bool(step.shape["capacity"])
    return step.kernel.epilogue and not listed


def _link(step: Step, side: int) -> Link | None:
    """Return the epilogue of an elementwise step on its input ``side``, None if it is none."""
    shape = step.shape
    if step.kernel.operation == "unary" and not shape["capacity"] and not step.epilogue:
        return Link(False, cast(int, shape["kind"]), step.data[0])
    if step.kernel.operation != "binary" or step.epilogue:
        return None
    sizes, *steps = (cast(Sequence[int], shape[name]) for name in ("sizes", "left", "right"))
    size = math.prod(sizes)
    own, other = (_repeated(sizes, each) for each in (steps[side], steps[1 - side]))
    if own != (1, size) or other is None:
        return None
    value = step.inputs[1 - side]
    if value is not None and value.floats != step.items * other[1]:
        return None
    kind = cast(int, shape["kind"])
    return Link(True, kind, step.data[0], value, side == 1, size, *other)


def _repeated(sizes: Sequence[int], steps: Sequence[int]) -> tuple[int, int] | None:
    """Return how often each number of an operand is repeated in a row, and their number.

    None if the operand's dimensions are not adjacent, so that repeats differ.
    """
    loops = [(n, step) for n, step in zip(sizes, steps, strict=True) if n > 1]
    there = [i for i, (_, step) in enumerate(loops) if step]
    if not there:
        return math.prod(sizes), 1
    own = loops[there[0] : there[-1] + 1]
    shape = tuple(n for n, _ in own)
    if [step for _, step in own] != strides(shape):
        return None
    return math.prod(n for n, _ in loops[there[-1] + 1 :]), math.prod(shape)
