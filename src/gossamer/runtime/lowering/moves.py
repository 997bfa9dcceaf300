"""Copies that need not be: numbers that would move twice move once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from gossamer.runtime.lowering.layouts import COPY_LOOPS, copy_loops, copy_shape
from gossamer.runtime.program import Buffer, Step


def compose(steps: Sequence[Step], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps without copies that only other copies read: those read what was copied."""
    readers: dict[Buffer, list[int]] = {}
    writers: dict[Buffer, list[int]] = {}
    for i, step in enumerate(steps):
        for buffer in dict.fromkeys(step.inputs):
            if buffer is not None:
                readers.setdefault(buffer, []).append(i)
        for buffer in step.outputs:
            writers.setdefault(buffer, []).append(i)
    result: list[Step | None] = list(steps)
    for i in range(len(steps)):
        first = cast(Step, result[i])
        target = first.outputs[0]
        if target in outputs or writers[target] != [i] or target not in readers:
            continue
        composed = [_composed(first, cast(Step, result[j])) for j in readers[target]]
        if all(step is not None for step in composed):
            source = cast(Buffer, first.inputs[0])
            for j, copied in zip(readers[target], composed, strict=True):
                result[j] = copied
            readers[source] = sorted({*readers[source], *readers[target]} - {i})
            result[i] = None
    return [step for step in result if step is not None]


def spread(steps: Sequence[Step], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps without copies whose only purpose are gaps between the channels.

    Kernels whose shape has ``out_plane`` write the gaps themselves.
    """
    readers = Counter(buffer for step in steps for buffer in step.inputs)
    readers.update(outputs)
    writers = Counter(buffer for step in steps for buffer in step.outputs)
    made: dict[Buffer | None, int] = {}
    result: list[Step] = []
    for step in steps:
        source = step.inputs[0] if step.inputs else None
        at = made.get(source)
        plane = None if at is None else _spread_plane(result[at], step)
        if at is not None and plane is not None and writers[step.outputs[0]] == 1:
            shape = {**result[at].shape, "out_plane": plane}
            result[at] = replace(result[at], outputs=step.outputs, shape=shape)
            continue
        target = step.outputs[0]
        alone = readers[target] == writers[target] == 1
        if "out_plane" in step.shape and alone and not any(link.binary for link in step.epilogue):
            made[target] = len(result)
        result.append(step)
    return result


def _spread_plane(first: Step, second: Step) -> int | None:
    """Return the floats between the channels where a copy spreads those that the first writes."""
    shape, inner = second.shape, first.shape["out_plane"]
    if second.kernel.operation != "copy" or second.items != first.items or second.epilogue:
        return None
    if shape["clear"] or shape["in_offset"] or shape["out_offset"]:
        return None
    rows = first.outputs[0].floats // first.items // cast(int, inner)
    loops = copy_loops(second)
    if len(loops) != 2 or loops[0][:2] != (rows, inner) or loops[1] != (inner, 1, 1):
        return None
    return loops[0][2]


def _composed(first: Step, second: Step) -> Step | None:
    """Return a copy from what the first copies to where the second does; None if it is no copy."""
    if any(step.kernel.operation != "copy" or step.epilogue for step in (first, second)):
        return None
    one, two = first.shape, second.shape
    buffer = first.outputs[0]
    places = sorted((to, size, step) for size, step, to in copy_loops(first))
    if first.items != second.items or one["out_offset"] or not _fills(places, buffer, first.items):
        return None
    turns, start, rest = list[int](), cast(int, one["in_offset"]), cast(int, two["in_offset"])
    for apart, _, step in reversed(places):
        turns.insert(0, rest // apart)
        start, rest = start + rest // apart * step, rest % apart
    loops = []
    for size, apart, to in copy_loops(second):
        parts = _split(size, apart, places)
        if parts is None:
            return None
        inner = math.prod(count for count, _, _ in parts)
        for count, level, step in parts:
            inner //= count
            turns[level] += (count - 1) * step
            loops.append((count, step * places[level][2], inner * to))
    if any(last >= place[1] for last, place in zip(turns, places, strict=True)):
        return None  # a loop would run on into the next turn of another
    pixels = two["pixels"] if any(loop[:2] == (two["pixels"], 1) for loop in loops) else 0
    shape = copy_shape(
        *([loop[i] for loop in loops] for i in range(3)),
        start=start,
        at=cast(int, two["out_offset"]),
        clear=cast(int, two["clear"]),
        clear_at=cast(int, two["clear_offset"]),
        pixels=cast(int, pixels),
    )
    composed = replace(second, inputs=first.inputs, shape=shape)
    return composed if len(shape["sizes"]) == COPY_LOOPS and _fast(composed) else None


def _fills(places: Sequence[tuple[int, int, int]], buffer: Buffer, items: int) -> bool:
    """Return whether loops write each number of a buffer once; ``places`` are in its order."""
    end = 1
    for apart, size, _ in places:
        if apart != end:
            return False
        end *= size
    return end == buffer.floats // items


def _split(
    size: int, apart: int, places: Sequence[tuple[int, int, int]]
) -> list[tuple[int, int, int]] | None:
    """Return a loop over numbers so far apart as loops over the places of a copy's output.

    Each has a size, the position of a loop in ``places``, and the turns of that between two of its
    own; the outermost is first. None if there are no such loops.
    """
    parts: list[tuple[int, int, int]] = []
    while size > 1:
        level = max((i for i, place in enumerate(places) if place[0] <= apart), default=-1)
        if level < 0 or apart % places[level][0]:
            return None
        step, turns = apart // places[level][0], places[level][1]
        count = size
        if size * step > turns and level + 1 < len(places):
            count = turns // step
            if turns % step or size % count:
                return None
        parts.insert(0, (count, level, step))
        size, apart = size // count, apart * count
    return parts


def _fast(step: Step) -> bool:
    """Return whether the kernel moves whole vectors; single numbers take longer than two copies."""
    loops = copy_loops(step)
    return any(to == 1 for _, _, to in loops) and any(apart in (1, 2) for _, apart, _ in loops)
