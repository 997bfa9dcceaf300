"""Selection of the largest scores, with ties broken by the lowest index."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gossamer.kernels._training import pick_winners, zero_masked
from gossamer.kernels.registry import training_isa
from gossamer.sparsity.packed_layers import plain_needed
from gossamer.sparsity.sparse_weight import call_kernel

# Selections among fewer scores are left to torch.
SMALL = 4096


def _picked(scores: Tensor, k: int) -> Tensor:
    """Compute `top_k` of ``[rows, columns]`` by the runtime's kernel, in a fifth of the time."""
    rows, columns = scores.shape
    mask = torch.empty_like(scores, dtype=torch.bool)
    equal = torch.ones(columns)  # scores are compared as they are
    order, threads = (1, columns), min(rows, torch.get_num_threads())
    tensors = scores, equal, None, mask, None
    call_kernel(pick_winners, rows, columns, k, order, *tensors, threads, training_isa())
    return mask


def without_gaps(x: Tensor) -> bool:
    """Return whether the tensor is contiguous, in torch's order or with channels last."""
    return x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )


def zero_outside(weight: Tensor, mask: Tensor) -> bool:
    """Set entries outside the mask to zero in place; return False if torch must do it.

    Args:
        weight: float32 on the CPU, without gaps in memory.
        mask: boolean, in the weight's memory layout.
    """
    here = weight.dtype == torch.float32 and weight.device.type == mask.device.type == "cpu"
    alike = without_gaps(weight) and weight.stride() == mask.stride()
    if not (here and alike) or torch.compiler.is_compiling():
        return False
    call_kernel(zero_masked, weight.numel(), weight, mask, torch.get_num_threads(), training_isa())
    torch.autograd.graph.increment_version(weight)  # as torch's own operations in place do
    return True


def top_k(scores: Tensor, k: int) -> Tensor:
    """Mark the ``k`` largest entries along the last dimension; ties go to the lowest index.

    This is a selection in linear time and not a sort, because masks may change after every step.

    Args:
        scores: ``[..., n]``. NaN counts as infinity.
        k: number of entries to mark.

    Returns:
        Boolean ``[..., n]`` with exactly ``min(k, n)`` entries true along the last dimension.
    """
    n = scores.shape[-1]
    if k >= n:
        return torch.ones_like(scores, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if scores.numel() > SMALL and not plain_needed(scores):
        rows = scores.detach().reshape(-1, n).contiguous()
        return _picked(rows, k).view(scores.shape)
    scores = scores.nan_to_num(math.inf, math.inf, -math.inf)
    # torch.topk breaks ties arbitrarily, so it only supplies the k-th largest score. All
    # above it are taken; of those equal to it, the first ones fill up the remaining places.
    largest = torch.topk(scores, k, dim=-1, sorted=False).values
    kth = largest.amin(dim=-1, keepdim=True)
    # Float32 counts exactly up to 2**24, many times faster than integers do.
    count = torch.float32 if n < 2**24 else torch.int64
    places = k - (largest > kth).to(count).sum(dim=-1, keepdim=True)
    tied = scores == kth
    return (scores > kth) | (tied & (tied.to(count).cumsum(dim=-1) <= places))
