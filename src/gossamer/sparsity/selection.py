"""The largest of many scores, with ties broken by the lowest index."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k(scores: Tensor, k: int) -> Tensor:
    """Marks the ``k`` largest of each row; among equal scores the lowest index is taken.

    A selection (linear time) and not a sort: masks may be chosen anew after every step.

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
    threshold = scores.kthvalue(columns - k + 1, dim=1, keepdim=True).values
    mask = scores >= threshold
    # More than k only where several scores equal the threshold: of those the first ones.
    if int(mask.sum()) > k * len(scores):
        above = scores > threshold
        equal = scores == threshold
        wanted = k - above.sum(dim=1, keepdim=True)
        mask = above | (equal & (equal.cumsum(dim=1) <= wanted))
    return mask
