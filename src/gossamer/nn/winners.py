"""Selection of k winners by the runtime's kernel in training on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.kernels._training import pick_winners
from gossamer.kernels.registry import training_isa
from gossamer.sparsity.packed_layers import plain_needed
from gossamer.sparsity.sparse_weight import call_kernel
from gossamer.sparsity.topk import without_gaps


def pickable(x: Tensor, k: int, n: int) -> bool:
    """Return whether the kernel takes ``x``, whose rows are contiguous in memory.

    For other types and devices, and in tracing, torch computes the same.
    """
    return 0 < k < n and without_gaps(x) and not plain_needed(x)


class _Pick(torch.autograd.Function):
    """The selection, with gradients for winners only.

    The node in torch's graph has an attribute ``zeros_lose``: whether no winner is zero. If so,
    layers that read the values need not compute the gradient of zeros.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, boost: Tensor, k: int, order: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        y, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
        n, threads = len(boost), torch.get_num_threads()
        counts = torch.zeros(threads, n + 2)
        rows, tensors = x.numel() // n, (x, boost, y, mask, counts)
        call_kernel(pick_winners, rows, n, k, order, *tensors, threads, training_isa())
        ctx.save_for_backward(mask)
        counts = counts.sum(0)
        ctx.zeros_lose = not counts[n]
        ctx.mark_non_differentiable(counts)
        return y, counts

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (mask,) = ctx.saved_tensors
        return torch.where(mask, gradient, 0.0), None, None, None


def pick(x: Tensor, boost: Tensor, k: int, inner: int = 1) -> tuple[Tensor, Tensor | None]:
    """Set all but the ``k`` largest boosted values of each row of ``n`` to zero.

    Args:
        x: float32 that :func:`pickable` accepts; each ``n`` consecutive values in memory are
            a row.
        boost: ``[n]``, factors of the values for the comparison.
        k: winners of a row, above 0 and below n. NaN counts as infinity.
        inner: ties go to the lowest ``i % inner * (n // inner) + i // inner``: the order of
            ``[channels, positions]`` where the memory holds ``[positions, channels]``.

    Returns:
        ``y``, of the shape of ``x``; and ``[n]``, the number of winners above zero at each
        place, or None if a row has NaN.
    """
    y, counts = _Pick.apply(  # type: ignore[no-untyped-call]
        x, boost.detach().contiguous(), k, (inner, len(boost) // inner)
    )
    return y, None if counts[-1] else counts[: len(boost)]
