"""A convolution to lower: its sizes, and the step that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gossamer.kernels.registry import Kernel
from gossamer.runtime.graph import AnyNode, Array, Node
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.packing import limits
from gossamer.runtime.program import Buffer

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv


class Convolution:
    """A node of a convolution, with what all its kernels need of it.

    Attributes:
        value: its input.
        size: channels, height and width of the input.
        out: height and width of the output before the max-pool.
        settings: strides, dilations, pads, groups and the max-pool.
        dense_macs: multiply-adds of the dense layer for one example.
    """

    def __init__(self, lowering: Lowering, node: Node[Conv]) -> None:
        self.lowering, self.node, self.settings = lowering, node, node.operation
        self.weight: Array = node.constants["weight"]
        self.bias: Array = node.constants["bias"]
        self.clip = limits(node.operation.low, node.operation.high)
        self.value, self.size = lowering.image(node)
        self.out = node.operation.size(self.size[1:], self.weight.shape[2:])
        self.pixels = self.value.items * self.out[0] * self.out[1]
        self.dense_macs = float(self.weight.size * self.pixels)

    def shape(self, kernel: Kernel) -> dict[str, int]:
        """Return the fields of a kernel's shape that are sizes and settings of the convolution."""
        s, sizes = self.settings, {"outputs": len(self.weight)}
        sizes["channels"], sizes["in_height"], sizes["in_width"] = self.size
        sizes["height"], sizes["width"] = self.out
        sizes["out_plane"] = self.out[0] * self.out[1]
        sizes["kernel_height"], sizes["kernel_width"] = self.weight.shape[2:]
        sizes["stride_height"], sizes["stride_width"] = s.strides
        sizes["dilation_height"], sizes["dilation_width"] = s.dilations
        sizes["top"], sizes["left"] = s.pads[:2]
        sizes["pool"] = 2 if s.pool == 2 else 1
        return {name: sizes[name] for name, _ in kernel.fields if name in sizes}

    def padded_image(self, plain: str) -> Buffer:
        """Return the buffer of the input with its padding, in form "dense" or "last"."""
        return self.lowering.padded_image(self.value, self.size, self.settings.pads, plain)

    def output(self, form: str, *, pooled: bool = False) -> tuple[Buffer, Callable[[], None]]:
        """Return the buffer that kernels write, and the function that adds the max-pool.

        The function does nothing if there is no max-pool, or the kernel has ``pooled`` already.
        """
        lowering, side = self.lowering, self.settings.pool
        result = lowering.value(self.node.output)
        if side == 1 or pooled:
            return lowering.new(result, form, result.item), lambda: None
        before = Buffer(f"{result.name}|before pool", self.pixels * result.channels)
        sides = (side, side)
        size, none = (result.channels, *self.out), (0, 0, 0, 0)
        return before, partial(
            add_pool, lowering, self.node, before, result, form, size, "max", sides, sides, none
        )

    def add(
        self,
        kernel: Kernel,
        source: Buffer,
        target: Buffer,
        shape: Mapping[str, int],
        data: Sequence[Array],
        macs: float,
        dense_macs: float | None = None,
        scratch: int = 0,
    ) -> None:
        """Add a step; ``shape`` are the fields of the kernel's that `Convolution.shape` lacks."""
        self.lowering.add(
            self.node.name,
            kernel,
            (source,),
            target,
            {**self.shape(kernel), **shape},
            data=data,
            scratch=scratch,
            items=self.value.items,
            macs=macs,
            dense_macs=self.dense_macs if dense_macs is None else dense_macs,
        )


def add_pool(
    lowering: Lowering,
    node: AnyNode,
    source: Buffer,
    result: Value,
    form: str,
    size: tuple[int, int, int],
    kind: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> None:
    """Add the step of a pool of an image of a size, to a result in the same form."""
    channels, in_height, in_width = size
    *_, high, wide = (1, *result.shape[2:])
    side_by_side = kernel[0] == 1 and tuple(kernel) == tuple(strides) and not any(pads)
    if side_by_side and form != "last" and in_width == wide * kernel[1]:
        in_height, in_width, high, wide = 1, in_height * in_width, 1, high * wide  # one long row
    shape = {
        "channels": channels,
        "in_height": in_height,
        "in_width": in_width,
        "height": high,
        "width": wide,
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride_height": strides[0],
        "stride_width": strides[1],
        "top": pads[0],
        "left": pads[1],
        "kind": ("max", "average", "average_padded", "sum").index(kind),
        "channels_last": form == "last",
        "below": pads[2],
        "right": pads[3],
    }
    target = lowering.new(result, form, result.item)
    lowering.add(node.name, lowering.kernel("pool"), (source,), target, shape, items=result.items)
