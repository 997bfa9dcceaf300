"""Conversion of a torch module to an engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.nn import to_onnx
from gossamer.nn.onnx import forward_arguments
from gossamer.runtime import Engine, Plan


def compile(
    model: nn.Module,
    example: Tensor | Sequence[Any],
    *,
    threads: int | None = None,
    plan: str | os.PathLike[str] | Plan | None = None,
    isa: str | None = None,
) -> Engine:
    """Compile a torch module: export it in memory and plan an engine on the example.

    The engine takes the module's tensor inputs as numpy arrays with any batch size and returns
    the module's output, or a list of its outputs. The module does not change; later changes of
    its weights have no effect on the engine.

    Args:
        model: any network that ``torch.export`` takes, dense or sparse, k-winners included.
        example: an input ``[batch, ...]``, or the arguments of ``forward`` in order: tensors
            with the same batch size, and bools or numbers, which become constants. Kernels are
            timed on these values, so real data lead to better choices than noise.
        threads, plan, isa: see :class:`gossamer.runtime.Engine`.

    Raises:
        UserError: torch cannot export the module, an input is float16 or the like, or the network
            has an operator that the engine lacks; the message says which.
    """
    tensors = [value for value in forward_arguments(example) if isinstance(value, Tensor)]
    for position, tensor in enumerate(tensors, start=1):
        if tensor.dtype != torch.float32 and (tensor.is_floating_point() or tensor.is_complex()):
            raise UserError(
                f"input {position} is {tensor.dtype}; the engine takes float32, integers and "
                "booleans: convert it"
            )
    proto = to_onnx(model, example)
    sample = [tensor.detach().cpu().numpy() for tensor in tensors]
    return Engine(proto.SerializeToString(), threads=threads, plan=plan, isa=isa, sample=sample)
