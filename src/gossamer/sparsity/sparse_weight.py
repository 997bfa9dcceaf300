"""The non-zeros of one layer's weight, and the compiled kernels that compute with them alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.kernels._training import SparseLayer
from gossamer.kernels.registry import training_isa
from gossamer.sparsity.active import zeros_are_silent

BLOCKS = (16, 8)  # outputs that may share an input, the widest first

Pair = tuple[int, int]


def block_of(mask: Tensor) -> int:
    """Return the number of consecutive outputs that share all their inputs: 16, 8 or 1."""
    outputs = mask.shape[0]
    for block in BLOCKS:
        if outputs % block == 0:
            blocks = mask.reshape(outputs // block, block, -1)
            if bool((blocks == blocks[:, :1]).all()):
                return block
    return 1


def _conv_padding(layer: nn.Conv2d) -> Pair | None:
    """Return rows and columns of padding, None if they differ between two sides."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        sides = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return None if any(side % 2 for side in sides) else (sides[0] // 2, sides[1] // 2)
    return (int(layer.padding[0]), int(layer.padding[1]))


def supported(layer: nn.Module) -> bool:
    """Whether there are kernels for the layer: ``Linear``, and ``Conv2d`` in one group.

    Subclasses and parametrized layers are not supported, because they may compute something else.
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
    outputs share. It has two dimensions so that the usual rule "no weight decay for vectors" does
    not exclude it.
    """

    kernels: SparseLayer
    positions: Tensor  # of the values within the flattened weight
    shape: torch.Size  # of the weight
    block: int

    @classmethod
    def of(cls, layer: nn.Module, mask: Tensor, isa: str | None = None) -> Self:
        """Return the non-zeros that ``mask`` allows a supported ``layer``, on the CPU."""
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
        """Return the values ``[entries, block]`` of a tensor of the weight's shape."""
        return dense.reshape(-1)[self.positions.to(dense.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """Return a tensor of the weight's shape with the values and zeros; differentiable."""
        flat = values.new_zeros(self.shape.numel())
        return flat.index_put((self.positions.to(values.device),), values).view(self.shape)

    def forward(
        self, x: Tensor, values: Tensor, bias: Tensor | None, *, active: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Compute the outputs.

        Args:
            x: contiguous ``[batch, inputs]`` or ``[batch, channels, height, width]``.
            values: ``[entries, block]``, contiguous.
            bias: ``[outputs]`` or None.
            active: work from lists of the inputs that are not zero.

        Returns:
            The outputs, and what :meth:`backward` needs: the packed inputs or, if ``active``, the
            lists with the values by input.
        """
        n, size = len(x), _size(x.shape)
        floats = (
            sum(self.kernels.active(n, size)[:2]) if active else self.kernels.packed(n, size)[0]
        )
        out = self.kernels.output_size(size) if x.ndim == 4 else ()
        saved, y = torch.empty(floats), torch.empty(n, self.shape[0], *out)
        kernel = self.kernels.active_forward if active else self.kernels.forward
        call_kernel(kernel, n, size, x, values, bias, saved, y, torch.get_num_threads())
        return y, saved

    def backward(
        self,
        gradient: Tensor,
        values: Tensor,
        saved: Tensor,
        x_shape: torch.Size,
        wanted: tuple[bool, bool, bool],
        *,
        active: bool = False,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Compute the gradients of the input, the values and the bias.

        Args:
            gradient: of the outputs, contiguous.
            values: as for :meth:`forward`.
            saved: by :meth:`forward`, with the same ``active``; not read for the input alone.
            x_shape: of the input.
            wanted: whether to compute each of the three gradients; the others are None.
            active: the input's gradient is computed where the input is not zero; 0 elsewhere.
        """
        n, size = x_shape[0], _size(x_shape)
        of_x = torch.empty(x_shape) if wanted[0] else None
        of_values = torch.empty_like(values) if wanted[1] else None
        of_bias = torch.empty(self.shape[0]) if wanted[2] else None
        floats = self.kernels.active(n, size)[2] if active else self.kernels.packed(n, size)[1]
        read = (gradient, saved) if active else (gradient, values, saved)
        scratch, threads = torch.empty(floats), torch.get_num_threads()
        kernel = self.kernels.active_backward if active else self.kernels.backward
        call_kernel(kernel, n, size, *read, scratch, of_x, of_values, of_bias, threads)
        return of_x, of_values, of_bias


def call_kernel(kernel: Callable[..., None], *arguments: Any) -> None:
    """Call a compiled kernel with the addresses of tensors, 0 for None."""
    kernel(*(a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in arguments))


def _size(shape: torch.Size) -> Pair:
    return (1, 1) if len(shape) == 2 else (shape[2], shape[3])


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        nonzeros: SparseWeight,
        active: bool,
        silent: bool,
    ) -> Tensor:
        y, saved = nonzeros.forward(x, values, bias, active=active)
        ctx.save_for_backward(values, saved)
        ctx.nonzeros, ctx.x_shape, ctx.active, ctx.silent = nonzeros, x.shape, active, silent
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, saved = ctx.saved_tensors
        nonzeros: SparseWeight = ctx.nonzeros
        known = gradient.contiguous(), values, saved, ctx.x_shape
        of_x, of_values, of_bias = ctx.needs_input_grad[:3]
        apart = of_x and ctx.active and not ctx.silent  # zeros of x have a gradient too
        wanted = of_x and not apart, of_values, of_bias
        gradients = nonzeros.backward(*known, wanted, active=ctx.active)
        if apart:
            gradients = nonzeros.backward(*known, (True, False, False))[0], *gradients[1:]
        return (*gradients, None, None, None)


def apply_sparse(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    nonzeros: SparseWeight,
    *,
    active: bool = False,
) -> Tensor:
    """Return the layer's outputs from its non-zeros; differentiable once.

    Args:
        x: float32 on the CPU, ``[batch, inputs]`` or ``[batch, channels, height, width]``.
        values: ``[entries, block]`` as :meth:`SparseWeight.gather` returns them.
        bias: ``[outputs]`` or None.
        nonzeros: of the layer.
        active: visit the non-zeros at active inputs only: less work for zeros of ``x``. The
            gradient by ``x`` skips them too where :func:`~.active.zeros_are_silent`.
    """
    silent = active and zeros_are_silent(x)
    x, values = x.contiguous(), values.contiguous()
    needed = (x, values) if bias is None else (x, values, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in needed):
        y: Tensor = _Apply.apply(x, values, bias, nonzeros, active, silent)  # type: ignore[no-untyped-call]
        return y
    return nonzeros.forward(x, values, bias, active=active)[0]
