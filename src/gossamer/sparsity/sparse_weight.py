"""The non-zeros of one layer's weight, and the compiled kernels that compute with them alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.kernels._training import SparseLayer
from gossamer.kernels.registry import training_isa

BLOCKS = (16, 8)  # outputs that may share an input, the widest first

Pair = tuple[int, int]


def block_of(mask: Tensor) -> int:
    """The number of consecutive outputs that share all their inputs: 16, 8 or 1."""
    outputs = mask.shape[0]
    for block in BLOCKS:
        if outputs % block == 0:
            blocks = mask.reshape(outputs // block, block, -1)
            if bool((blocks == blocks[:, :1]).all()):
                return block
    return 1


def _conv_padding(layer: nn.Conv2d) -> Pair | None:
    """Rows and columns of padding, the same on both sides; None where they are not."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        sides = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return None if any(side % 2 for side in sides) else (sides[0] // 2, sides[1] // 2)
    return (int(layer.padding[0]), int(layer.padding[1]))


def supported(layer: nn.Module) -> bool:
    """Whether there are kernels for the layer: ``Linear``, and ``Conv2d`` in one group.

    Subclasses and parametrized layers compute something of their own and are left alone.
    """
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and _conv_padding(layer) is not None
    )


@dataclass(frozen=True)
class SparseWeight:
    """Positions of a weight's non-zeros, in the order in which the kernels read them.

    Values are a matrix ``[entries, block]``: one entry is an input that ``block`` consecutive
    outputs share. It has two dimensions so that optimizers set up by the habit "no weight
    decay for vectors" treat it as the weight that it is.
    """

    kernels: SparseLayer
    positions: Tensor  # of the values within the flattened weight
    shape: torch.Size  # of the weight
    block: int

    @classmethod
    def of(cls, layer: nn.Module, mask: Tensor, isa: str | None = None) -> Self:
        """The non-zeros that ``mask`` allows ``layer``, a supported one, on the CPU."""
        mask = mask.detach().cpu()
        outputs, block = mask.shape[0], block_of(mask)
        rows = mask.reshape(outputs // block, block, -1)[:, 0]
        row, column = rows.nonzero(as_tuple=True)
        start = np.zeros(rows.shape[0] + 1, np.int32)
        start[1:] = rows.sum(1).cumsum(0).numpy()
        one: Pair = (1, 1)
        kernel, stride, padding, dilation = one, one, (0, 0), one
        if isinstance(layer, nn.Conv2d):
            kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation  # type: ignore[assignment]
            padding = _conv_padding(layer) or (0, 0)
        kernels = SparseLayer(
            outputs,
            mask.shape[1],
            kernel,
            stride,
            padding,
            dilation,
            block,
            start,
            column.to(torch.int32).numpy(),
            isa or training_isa(),
        )
        of_block = (row * block)[:, None] + torch.arange(block)
        positions = of_block * rows.shape[1] + column[:, None]
        return cls(kernels, positions, mask.shape, block)

    @property
    def count(self) -> int:
        return self.positions.numel()

    def gather(self, dense: Tensor) -> Tensor:
        """The values ``[entries, block]`` of a tensor of the weight's shape."""
        return dense.reshape(-1)[self.positions.to(dense.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """A tensor of the weight's shape with the values and zeros; differentiable."""
        flat = values.new_zeros(self.shape.numel())
        return flat.index_put((self.positions.to(values.device),), values).view(self.shape)

    def forward(self, x: Tensor, values: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of ``x``, contiguous ``[batch, inputs]`` or ``[batch, channels, height,
        width]``, and the packed inputs that :meth:`backward` needs."""
        size = _size(x.shape)
        packed = torch.empty(self.kernels.packed(len(x), size)[0])
        y = self._output(x)
        self.kernels.forward(
            len(x),
            size,
            x.data_ptr(),
            values.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            packed.data_ptr(),
            y.data_ptr(),
            torch.get_num_threads(),
        )
        return y, packed

    def backward(
        self,
        gradient: Tensor,
        values: Tensor,
        packed: Tensor,
        x_shape: torch.Size,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of the input, the values and the bias, those that are ``wanted``."""
        size = _size(x_shape)
        gradient = gradient.contiguous()
        of_x = torch.empty(x_shape) if wanted[0] else None
        of_values = torch.empty_like(values) if wanted[1] else None
        of_bias = torch.empty(self.shape[0]) if wanted[2] else None
        packed_gradient = torch.empty(self.kernels.packed(x_shape[0], size)[1])
        self.kernels.backward(
            x_shape[0],
            size,
            gradient.data_ptr(),
            values.data_ptr(),
            packed.data_ptr(),
            packed_gradient.data_ptr(),
            0 if of_x is None else of_x.data_ptr(),
            0 if of_values is None else of_values.data_ptr(),
            0 if of_bias is None else of_bias.data_ptr(),
            torch.get_num_threads(),
        )
        return of_x, of_values, of_bias

    def _output(self, x: Tensor) -> Tensor:
        out = self.kernels.output_size(_size(x.shape)) if x.ndim == 4 else ()
        return torch.empty(len(x), self.shape[0], *out)

    def active_forward(
        self, x: Tensor, values: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, from lists of the inputs that are not zero.

        :meth:`active_backward` needs what comes second: the lists, and the values by input.
        """
        size = _size(x.shape)
        saved = torch.empty(sum(self.kernels.active(len(x), size)[:2]))
        y = self._output(x)
        self.kernels.active_forward(
            len(x),
            size,
            x.data_ptr(),
            values.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            saved.data_ptr(),
            y.data_ptr(),
            torch.get_num_threads(),
        )
        return y, saved

    def active_backward(
        self,
        gradient: Tensor,
        values: Tensor,
        saved: Tensor,
        x_shape: torch.Size,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """As :meth:`backward`, the input's gradient at its non-zeros only and zero elsewhere."""
        size = _size(x_shape)
        of_x = torch.empty(x_shape) if wanted[0] else None
        of_values = torch.empty_like(values) if wanted[1] else None
        of_bias = torch.empty(self.shape[0]) if wanted[2] else None
        spread = torch.empty(self.kernels.active(len(gradient), size)[2])
        self.kernels.active_backward(
            len(gradient),
            size,
            gradient.data_ptr(),
            saved.data_ptr(),
            spread.data_ptr(),
            0 if of_x is None else of_x.data_ptr(),
            0 if of_values is None else of_values.data_ptr(),
            0 if of_bias is None else of_bias.data_ptr(),
            torch.get_num_threads(),
        )
        return of_x, of_values, of_bias


def _size(shape: torch.Size) -> Pair:
    return (1, 1) if len(shape) == 2 else (shape[2], shape[3])


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, nonzeros: SparseWeight
    ) -> Tensor:
        y, packed = nonzeros.forward(x, values, bias)
        ctx.save_for_backward(values, packed)
        ctx.nonzeros, ctx.x_shape = nonzeros, x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, packed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        return (*ctx.nonzeros.backward(gradient, values, packed, ctx.x_shape, wanted), None)


def apply_sparse(x: Tensor, values: Tensor, bias: Tensor | None, nonzeros: SparseWeight) -> Tensor:
    """The layer's outputs from its non-zeros; differentiable once.

    Args:
        x: float32 on the CPU, ``[batch, inputs]`` or ``[batch, channels, height, width]``.
        values: ``[entries, block]`` as :meth:`SparseWeight.gather` gives them.
        bias: ``[outputs]`` or None.
        nonzeros: of the layer.
    """
    x, values = x.contiguous(), values.contiguous()
    needed = (x, values) if bias is None else (x, values, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in needed):
        y: Tensor = _Apply.apply(x, values, bias, nonzeros)  # type: ignore[no-untyped-call]
        return y
    return nonzeros.forward(x, values, bias)[0]
