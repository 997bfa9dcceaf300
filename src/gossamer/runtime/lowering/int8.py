"""Layers whose weights are held in 8 bits, and rounding.

The kernels are those of 32 bits with whole numbers for weights: they add up products with weights
of one byte, expanded in registers, without bias and limits. Then every sum is multiplied by the
step of its output, in place; a max-pool may come before that, since steps are positive. Where
inputs are rounded too, dense layers may be computed in whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from gossamer.runtime.graph import Node, whole
from gossamer.runtime.lowering.integer_gemm import integer_gemm
from gossamer.runtime.lowering.layouts import Candidate, Forms
from gossamer.runtime.packing import limits
from gossamer.runtime.program import LIST_HEADER

Choices = Callable[[Forms, Node], Iterator[Candidate]]


def in_8_bits(forms: Forms, node: Node, choices: Choices) -> Iterator[Candidate]:
    """The candidates of a layer whose weights have steps."""
    constants = {"weight": whole(node), "bias": np.zeros_like(node.constants["bias"])}
    settings = {**node.settings, "low": -math.inf, "high": math.inf}
    sums = replace(node, settings=settings, constants=constants)
    for candidate in choices(forms, sums):
        yield Candidate(candidate.name, partial(_scaled, forms, node, candidate))
    yield from integer_gemm(forms, node)


def _scaled(forms: Forms, node: Node, candidate: Candidate) -> None:
    candidate.emit()
    result = forms.values[node.output]
    ((form, buffer),) = result.forms.items()
    channels = len(node.constants["bias"])
    inner = 1 if node.op == "linear" or form == "last" else result.item // channels
    c = node.constants
    forms.add(
        node.name,
        forms.kernel("scale"),
        (buffer,),
        buffer,
        {"outer": result.item // channels // inner, "channels": channels, "inner": inner},
        data=[c["step"], c["bias"], limits(node.settings["low"], node.settings["high"])],
        lead=result.lead,
    )


def round_(forms: Forms, node: Node) -> None:
    """To multiples of a step; of a list its values alone."""
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    result.channels, result.pixels = value.channels, value.pixels
    result.density = min(result.density, value.density)
    listed = [form for form in ("list", "list last") if form in value.forms]
    form = listed[0] if listed else forms.layout(value)
    source = forms.form(value, form)
    floats = source.floats // value.lead
    capacity = (floats - LIST_HEADER) // 2 if listed else 0
    s = node.settings
    grid = np.array([s["step"], s["low"], s["high"]], np.float32)
    forms.add(
        node.name,
        forms.kernel("round"),
        (source,),
        forms.new(result, form, floats),
        {"size": value.item, "capacity": capacity},
        data=[grid],
        lead=value.lead,
    )
