"""Layers that visit their non-zeros at active inputs only: both sparsities multiply."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.sparsity.sparse_weight import SparseWeight

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
    """Whether the gradient of every zero of ``x`` is discarded by what made it.

    So it is behind ReLU, and behind k-winners unless a winner is zero. Where nobody can tell,
    or where someone looks at the gradient itself, it is not.
    """
    if x.retains_grad or x._backward_hooks:
        return False
    node = x.grad_fn
    while node is not None and node.name() in _PASSING:
        node = node.next_functions[0][0]
    if node is None:
        return False
    return node.name() == "ReluBackward0" or bool(getattr(node, "zeros_lose", False))


class _ApplyActive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        nonzeros: SparseWeight,
        silent: bool,
    ) -> Tensor:
        y, saved = nonzeros.active_forward(x, values, bias)
        ctx.save_for_backward(values, saved)
        ctx.nonzeros, ctx.x_shape, ctx.silent = nonzeros, x.shape, silent
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, saved = ctx.saved_tensors
        nonzeros: SparseWeight = ctx.nonzeros
        of_x, of_values, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous()
        active = of_x and ctx.silent, of_values, of_bias
        gradients = nonzeros.active_backward(gradient, values, saved, ctx.x_shape, active)
        if of_x and not ctx.silent:
            only_x = (True, False, False)
            whole = nonzeros.backward(gradient, values, saved, ctx.x_shape, only_x)[0]
            gradients = (whole, *gradients[1:])
        return (*gradients, None, None)


def apply_active(x: Tensor, values: Tensor, bias: Tensor | None, nonzeros: SparseWeight) -> Tensor:
    """The result of :func:`apply_sparse`, with less work for zeros of ``x``.

    The gradient by ``x`` is computed at its non-zeros only where :func:`zeros_are_silent`.

    Args:
        x: float32 on the CPU, ``[batch, inputs]`` or ``[batch, channels, height, width]``.
        values: ``[entries, block]`` as :meth:`SparseWeight.gather` gives them.
        bias: ``[outputs]`` or None.
        nonzeros: of the layer.
    """
    silent = zeros_are_silent(x)
    x, values = x.contiguous(), values.contiguous()
    needed = (x, values) if bias is None else (x, values, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in needed):
        y: Tensor = _ApplyActive.apply(x, values, bias, nonzeros, silent)  # type: ignore[no-untyped-call]
        return y
    return nonzeros.active_forward(x, values, bias)[0]
