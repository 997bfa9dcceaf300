"""A check of whether layers that visit active inputs only may skip the gradient of zeros."""

from __future__ import annotations

from torch import Tensor

# Nodes of the autograd graph whose gradient of a zero ends where the zero came from.
_PASSING = frozenset(
    f"{name}Backward0"
    for name in (
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Transpose",
        "T",
        "Permute",
        "Squeeze",
        "Unsqueeze",
        "Clone",
        "MaxPool2DWithIndices",
    )
)


def zeros_are_silent(x: Tensor) -> bool:
    """Return whether the operation that made ``x`` discards the gradient of all its zeros.

    True after ReLU, and after k-winners unless a winner is zero. False where this cannot be
    determined, or where a hook or ``retain_grad`` reads the gradient itself.
    """
    if x.retains_grad or x._backward_hooks:
        return False
    node = x.grad_fn
    while node is not None and node.name() in _PASSING:
        node = node.next_functions[0][0]
    if node is None:
        return False
    return node.name() == "ReluBackward0" or bool(getattr(node, "zeros_lose", False))
