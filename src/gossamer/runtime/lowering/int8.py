"""Lowering of layers with 8-bit weights.

The float kernels run with weights of one byte, converted in registers, without bias and limits.
A second step multiplies each sum in place by the step of its output; a max-pool may precede it,
since steps are positive. If inputs are rounded too, dense layers may use integer arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gossamer.runtime.graph import AnyNode, Candidate, whole
from gossamer.runtime.lowering.integer_gemm import integer_gemm
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.lowering.scales import scale_shape
from gossamer.runtime.packing import limits

Choices = Callable[[Lowering, Any], Iterator[Candidate]]


def in_8_bits(lowering: Lowering, node: AnyNode, choices: Choices) -> Iterator[Candidate]:
    """Yield the candidates of a layer whose weights have steps."""
    constants = {"weight": whole(node), "bias": np.zeros_like(node.constants["bias"])}
    operation = replace(node.operation, low=-math.inf, high=math.inf)
    sums = replace(node, operation=operation, constants=constants)
    for candidate in choices(lowering, sums):
        yield Candidate(candidate.name, partial(_scaled, lowering, node, candidate))
    yield from integer_gemm(lowering, node)


def _scaled(lowering: Lowering, node: AnyNode, candidate: Candidate) -> None:
    candidate.emit()
    result = lowering.values[node.output]
    ((form, buffer),) = result.forms.items()
    channels = len(node.constants["bias"])
    inner = 1 if node.op == "linear" or form == "last" else result.item // channels
    c = node.constants
    lowering.add(
        node.name,
        lowering.kernel("scale"),
        (buffer,),
        buffer,
        scale_shape(result.item // channels // inner, channels, inner),
        data=[c["step"], c["bias"], limits(node.operation.low, node.operation.high)],
        items=result.items,
    )
