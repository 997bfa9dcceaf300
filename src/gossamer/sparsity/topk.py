"""The largest of many scores, with ties broken by the lowest index, and zeros for the others."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.kernels._training import pick_winners, zero_masked
from gossamer.kernels.registry import training_isa

# Selections among fewer scores are left to torch.
SMALL = 4096


def _picked(scores: Tensor, k: int) -> Tensor:
    """The same by the runtime's selection, in about a fifth of the time."""
    rows, columns = scores.shape
    mask = torch.empty_like(scores, dtype=torch.bool)
    equal = torch.ones(columns)  # scores are compared as they are
    pick_winners(
        rows,
        columns,
        k,
        (1, columns),
        scores.data_ptr(),
        equal.data_ptr(),
        0,
        mask.data_ptr(),
        0,
        min(rows, torch.get_num_threads()),
        training_isa(),
    )
    return mask


def without_gaps(x: Tensor) -> bool:
    """Whether the numbers lie one after the other in memory, in torch's order of dimensions or
    with the channels last."""
    return x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )


def zero_outside(weight: Tensor, mask: Tensor) -> bool:
    """Sets what lies outside the mask to zero in place; False where torch must do it.

    Args:
        weight: float32 on the CPU, without gaps in memory.
        mask: boolean, laid out in memory as the weight is.
    """
    here = weight.dtype == torch.float32 and weight.device.type == mask.device.type == "cpu"
    alike = without_gaps(weight) and weight.stride() == mask.stride()
    if not (here and alike) or torch.compiler.is_compiling():
        return False
    zero_masked(
        weight.numel(),
        weight.data_ptr(),
        mask.data_ptr(),
        torch.get_num_threads(),
        training_isa(),
    )
    torch.autograd.graph.increment_version(weight)  # as torch's own operations in place do
    return True


def top_k(scores: Tensor, k: int) -> Tensor:
    """Marks the ``k`` largest of each row; among equal scores the lowest index is taken.

    A selection (linear time) and not a sort: masks may be chosen again after every step.

    Args:
        scores: ``[rows, columns]`` without NaN; infinity is allowed.
        k: from 0 to the number of columns.

    Returns:
        Boolean ``[rows, columns]`` with exactly ``k`` true entries in each row.
    """
    columns = scores.shape[1]
    if k >= columns:
        return torch.ones_like(scores, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if scores.dtype == torch.float32 and scores.device.type == "cpu" and scores.numel() > SMALL:
        return _picked(scores.detach().contiguous(), k)
    threshold = scores.kthvalue(columns - k + 1, dim=1, keepdim=True).values
    mask = scores >= threshold
    # More than k only where several scores equal the threshold: of those the first ones.
    if int(mask.sum()) > k * len(scores):
        above = scores > threshold
        equal = scores == threshold
        wanted = k - above.sum(dim=1, keepdim=True)
        mask = above | (equal & (equal.cumsum(dim=1) <= wanted))
    return mask
