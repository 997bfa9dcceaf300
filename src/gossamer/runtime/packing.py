"""Weights packed in the orders in which the kernels read them (see ``kernels/*.h``)."""

from __future__ import annotations

import numpy as np

from gossamer.runtime.graph import Array

BLOCK = 16  # outputs are padded to a multiple of the widest vector


def by_count(bounds: Array, offset: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Return the rows of ``by_output`` sorted by length, and their original indices."""
    order = np.argsort(np.diff(bounds), kind="stable")
    pick = np.concatenate([np.arange(bounds[o], bounds[o + 1]) for o in order])
    ends = np.cumsum(np.diff(bounds)[order])
    sorted_bounds = np.concatenate([[0], ends]).astype(np.int32)
    return sorted_bounds, offset[pick], values[pick], order.astype(np.int32)


def limits(low: float, high: float) -> Array:
    return np.array([low, high], np.float32)


def padded(array: Array, size: int, axis: int = 0) -> Array:
    """Return the array with zeros appended along an axis up to ``size``."""
    length = array.shape[axis]
    if length == size:
        return array
    whole = np.zeros((*array.shape[:axis], size, *array.shape[axis + 1 :]), array.dtype)
    whole[(*[slice(None)] * axis, slice(length))] = array
    return whole


def up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def panels(weight: Array, width: int) -> Array:
    """Pack [outputs, depth] as [panel][depth][width]: the outputs of a panel are adjacent."""
    outputs, depth = weight.shape
    whole = padded(weight, up_to(outputs, width))
    return np.ascontiguousarray(whole.reshape(-1, width, depth).transpose(0, 2, 1))


def grouped_panels(weight: Array, width: int, group: int) -> Array:
    """Pack [outputs, runs, length] as [panel][groups][width][group]: groups of adjacent inputs.

    Each run is padded with zeros to whole groups.
    """
    outputs, runs, length = weight.shape
    whole = padded(padded(weight, up_to(length, group), axis=2), up_to(outputs, width))
    tall = whole.reshape(-1, width, runs * up_to(length, group) // group, group)
    return np.ascontiguousarray(tall.transpose(0, 2, 1, 3))


def by_output(weight: Array, offset: Array, together: int = 1) -> tuple[Array, Array, Array]:
    """Return the non-zeros of [outputs, depth] by output: (bounds, offsets, values).

    With ``together`` they are blocks of so many outputs of an input, ordered by block of outputs;
    values are [blocks, together].
    """
    values = there = weight
    if together > 1:
        whole = padded(weight, up_to(len(weight), together))
        values = whole.reshape(-1, together, weight.shape[1]).transpose(0, 2, 1)
        there = np.logical_or.reduce(values, axis=2)
    row, column = np.nonzero(there)
    bounds = np.searchsorted(row, np.arange(len(there) + 1)).astype(np.int32)
    return bounds, offset[column].astype(np.int32), values[row, column]


def sparse_panels(weight: Array, width: int, blocks: int = 1) -> tuple[Array, Array, Array]:
    """Pack [outputs, depth] as steps, each with one input for each block of a vector of outputs.

    A vector is ``width`` outputs and has so many blocks. Where the inputs of one block of a vector
    are fewer than those of another, weights of zero follow.

    Returns:
        The starts of the vectors, the inputs [steps, blocks], and the weights [steps, width].
    """
    together = width // blocks
    vectors = up_to(len(weight), width) // width
    bounds, inputs, values = by_output(
        padded(weight, vectors * width), np.arange(weight.shape[1]), together
    )
    counts = np.diff(bounds).reshape(vectors, blocks)
    starts = np.concatenate([[0], np.cumsum(counts.max(axis=1))]).astype(np.int32)
    block = np.repeat(np.arange(vectors * blocks), counts.ravel())
    step = starts[block // blocks] + np.arange(len(block)) - bounds[block]
    index = np.zeros((starts[-1], blocks), np.int32)
    index[step, block % blocks] = inputs
    lanes = np.zeros((starts[-1], blocks, together), weight.dtype)
    lanes[step, block % blocks] = values.reshape(-1, together)
    return starts, index, lanes.reshape(-1, width)


def longest_first(weight: Array, width: int, blocks: int) -> tuple[Array, Array, Array, Array]:
    """Return ``sparse_panels`` of blocks sorted by their numbers of inputs, and their outputs.

    Then the blocks of a vector, and neighboring vectors, have lists of about the same length.

    Returns:
        What ``sparse_panels`` returns, and the first output of each block [vectors, blocks]; one
        behind the last output is padding.
    """
    together = width // blocks
    whole = padded(weight, up_to(len(weight), width))
    tall = whole.reshape(-1, together, whole.shape[1])
    order = np.argsort(-tall.any(axis=1).sum(axis=1), kind="stable")
    panels = sparse_panels(tall[order].reshape(whole.shape), width, blocks)
    return *panels, (order * together).astype(np.int32).reshape(-1, blocks)


def by_chunk(weight: Array, offset: Array, chunk: int, together: int) -> tuple[Array, Array, Array]:
    """Return ``by_output`` in chunks of ``chunk`` inputs: bounds are [chunks][outputs + 1]."""
    depth = weight.shape[1]
    bounds, offsets, values = [], [], []
    start = 0
    for first in range(0, depth, chunk):
        some = slice(first, first + chunk)
        b, o, v = by_output(weight[:, some], offset[some], together)
        bounds.append(b + start)
        offsets.append(o)
        values.append(v)
        start += len(v)
    return np.stack(bounds).astype(np.int32), np.concatenate(offsets), np.concatenate(values)


def by_windows(weight: Array, width: int) -> tuple[Array, Array, Array, Array]:
    """Pack [outputs, depth] as steps, each with one weight for each of ``width`` outputs.

    All weights of a step multiply inputs of two blocks of ``width`` inputs. The blocks of a step
    are chosen greedily: those that serve most outputs, above all outputs with most weights left,
    so that few lanes are idle.

    Returns:
        The starts of the groups of outputs, the blocks [steps, 2], the position of each weight's
        input in the two blocks [steps, width], and the weights [steps, width].
    """
    outputs, depth = weight.shape
    groups = up_to(outputs, width) // width
    whole = padded(padded(weight, groups * width), up_to(depth, width), axis=1)
    parts = []
    for first in range(0, whole.shape[1], 64 * width):  # bounds the work of a step
        parts += _window_steps(whole[:, first : first + 64 * width], width, first // width)
    group, block, index, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    counts = np.bincount(group, minlength=groups)
    missing = np.flatnonzero(counts % 2)  # steps go in pairs
    idle = len(missing), width
    order = np.argsort(np.concatenate([group, missing]), kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts + counts % 2)]).astype(np.int32)
    return (
        starts,
        np.concatenate([block, np.zeros((idle[0], 2), np.uint16)])[order],
        np.concatenate([index, np.zeros(idle, np.uint8)])[order],
        np.concatenate([values, np.zeros(idle, values.dtype)])[order],
    )


def _window_steps(weight: Array, width: int, first: int) -> list[tuple[Array, Array, Array, Array]]:
    """Yield steps until no group has weights left, one step of every such group at a time."""
    groups, blocks = len(weight) // width, weight.shape[1] // width
    row, column = np.nonzero(weight)
    values = np.append(weight[row, column], weight.dtype.type(0))
    inside = np.append(column % width, 0).astype(np.uint8)
    tall = weight.reshape(groups, width, blocks, width)
    left = np.count_nonzero(tall, axis=3).transpose(0, 2, 1).astype(np.int32)  # [g, block, lane]
    ends = np.cumsum(left.transpose(0, 2, 1).ravel())
    at = (ends - left.transpose(0, 2, 1).ravel()).reshape(groups, width, blocks).transpose(0, 2, 1)
    at = at.copy()
    steps = [(np.zeros(0, np.int64), np.zeros((0, 2), np.uint16),
              np.zeros((0, width), np.uint8), np.zeros((0, width), weight.dtype))]  # fmt: skip
    g = np.arange(groups)
    while True:
        remaining = left.sum(axis=1)
        busy = remaining.any(axis=1)
        if not busy.all():
            g, left, at, remaining = g[busy], left[busy], at[busy], remaining[busy]
        if not len(g):
            return steps
        here, lane = np.arange(len(g)), np.arange(width)
        there = left > 0
        worth = remaining.astype(np.float32)[:, None] ** 2
        one = (there * worth).sum(axis=2).argmax(axis=1)
        second = (there & ~there[here, one][:, None]) * worth
        two = second.sum(axis=2).argmax(axis=1)
        from_two = left[here, two] > left[here, one]
        source = np.where(from_two, two[:, None], one[:, None])
        taken = left[here[:, None], source, lane] > 0
        place = np.where(taken, at[here[:, None], source, lane], len(values) - 1)
        left[here[:, None], source, lane] -= taken
        at[here[:, None], source, lane] += taken
        index = np.where(taken, inside[place] + width * from_two, 0).astype(np.uint8)
        pair = np.stack([one + first, two + first], axis=1).astype(np.uint16)
        steps.append((g.copy(), pair, index, values[place]))


class InputMajor:
    """Weights ordered by input, for the ``active`` kernels.

    Args:
        weight: [inputs, rows, columns, outputs]: the taps of a kernel, in the order in memory of
            the outputs that they reach.
        shift: distance, in positions, of a tap's output from that of the first tap; broadcasts
            to [inputs, rows, columns].
        tiles: number of slices of the outputs, each packed separately.
    """

    def __init__(self, weight: Array, shift: Array, tiles: int) -> None:
        inputs, rows, columns, outputs = weight.shape
        self.outputs = up_to(outputs, BLOCK * tiles)
        self.slice = self.outputs // tiles
        whole = padded(weight, self.outputs, axis=3)
        # [tile, input, row, column, slice]
        self.weight = np.ascontiguousarray(
            np.moveaxis(whole.reshape(inputs, rows, columns, tiles, self.slice), 3, 0)
        )
        self.base = np.broadcast_to(shift, (inputs, rows, columns)).astype(np.int64) * self.slice
        self.tiles, self.inputs, self.rows, self.columns = tiles, inputs, rows, columns
        self.none = np.zeros(0, np.int32)

    def _bounds(self, counts: Array) -> Array:
        """Return starts [tile, input, rows + 1] for counts [tile, input, row]."""
        ends = np.cumsum(counts.reshape(-1)).reshape(counts.shape)
        starts = ends - counts
        return np.concatenate([starts, ends[:, :, -1:]], axis=2).astype(np.int32)

    def scatter(self) -> tuple[Array, Array, Array, Array]:
        _, c, y, x, o = there = np.nonzero(self.weight)
        counts = np.count_nonzero(self.weight, axis=(3, 4))
        if self.rows == self.columns == 1 and not self.base.any():
            return self._scatter_in_eights(counts, o, self.weight[there])
        offset: Array = (self.base[c, y, x] + o).astype(np.int16)
        return self._bounds(counts), offset, self.weight[there], self.none

    def _scatter_in_eights(
        self, counts: Array, output: Array, values: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Return each input's weights padded to a multiple of eight, as the kernel reads them.

        The padding is zeros, added to the eight places after the outputs.
        """
        filled = -(-counts // 8) * 8
        bounds = self._bounds(filled)
        first = np.repeat(bounds[:, :, 0].ravel(), counts.ravel())
        ends = np.cumsum(counts.ravel())
        rank = np.arange(len(output)) - np.repeat(ends - counts.ravel(), counts.ravel())
        total = int(filled.sum())
        offset: Array = (self.slice + np.arange(total) % 8).astype(np.int16)
        weight = np.zeros(total, values.dtype)
        offset[first + rank], weight[first + rank] = output, values
        return bounds, offset, weight, self.none

    def block(self, size: int) -> tuple[Array, Array, Array, Array]:
        """Return the weights as blocks of ``size`` outputs."""
        blocks = self.weight.reshape(*self.weight.shape[:4], -1, size)
        there = blocks.any(axis=5)
        _, c, y, x, b = where = np.nonzero(there)
        offset = (self.base[c, y, x] + b * size).astype(np.int32)
        return self._bounds(there.sum(axis=(3, 4))), offset, blocks[where], self.none

    def strips(self, size: int) -> tuple[Array, Array, Array, Array]:
        """Return the weights as strips: up to four blocks of ``size`` outputs of an input and row.

        Rows are sorted by their number of blocks in all tiles, blocks of a row have descending
        taps, in the order in which their inputs pass an output. So an output's sum has the same
        order in any tile, and strips of equal length are consecutive.

        Returns:
            The first strip and first block of each tile [tiles + 1, 2], offsets, weights, and for
            each strip input * rows + row and its number of blocks.
        """
        blocks = self.weight.reshape(*self.weight.shape[:4], -1, size)[:, :, :, ::-1]
        tile, c, y, x, b = where = np.nonzero(blocks.any(axis=5))
        offset = (self.base[c, y, self.columns - 1 - x] + b * size).astype(np.int32)
        row = c * self.rows + y
        of_row = np.bincount(row, minlength=self.inputs * self.rows)
        order = np.lexsort((row, -of_row[row], tile))  # stable
        tile, row, count = tile[order], row[order], np.arange(len(order))
        new = np.diff(row, prepend=-1) | np.diff(tile, prepend=-1)
        rank = count - np.maximum.accumulate(np.where(new, count, 0))
        head = np.flatnonzero(rank % 4 == 0)
        ends = np.append(head, len(order))
        first = np.searchsorted(tile[head], np.arange(self.tiles + 1))
        starts = np.stack([first, ends[first]], axis=1).astype(np.int32)
        strip = np.stack([row[head], np.diff(ends)], axis=1).astype(np.int32)
        return starts, offset[order], blocks[where][order], strip

    def dense(self, width: int) -> tuple[Array, Array, Array, Array]:
        blocks = self.slice // width
        counts = np.full(self.weight.shape[:3], self.columns * blocks)
        offset: Array = self.base[..., None] + np.arange(blocks) * width
        each = np.broadcast_to(offset, (self.tiles, *offset.shape)).astype(np.int32)
        return self._bounds(counts), each.reshape(-1).copy(), self.weight, self.none

    def expand(self) -> tuple[Array, Array, Array, Array]:
        bounds, offset, values, _ = self.block(16)
        there = values != 0
        mask = (there.astype(np.int32) << np.arange(16)).sum(axis=1)
        start = np.concatenate([[0], np.cumsum(there.sum(axis=1))[:-1]]) if len(mask) else mask
        more = np.stack([mask, start], axis=1).astype(np.int32)
        return bounds, offset, values[there], more
