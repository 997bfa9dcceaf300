"""Operations that only move values."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.lowering.layouts import Forms


def concat(forms: Forms, node: Node) -> None:
    values = [forms.values[name] for name in node.inputs]
    result = forms.value(node.output)
    axis = node.settings["axis"]
    outer = math.prod(result.shape[1:axis])
    inner = math.prod(result.shape[axis + 1 :])
    sources = [forms.form(value, "dense") for value in values]
    buffer = forms.new(result, "dense", result.item)
    at, whole = 0, result.shape[axis] * inner
    for value, source in zip(values, sources, strict=True):
        part = value.shape[axis] * inner
        forms.copy(source, buffer, value.lead, [outer, part], [part, 1], [whole, 1], at=at)
        at += part


def reshape(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    # A flattened value keeps all its forms; any other shape only the plain one.
    if (len(result.shape) == 2 and result.lead == value.lead) or result.shape == value.shape:
        result.channels, result.pixels = value.channels, value.pixels
        if not any(form in value.forms for form in ("dense", "last", "list", "list last")):
            forms.form(value, "dense")
        result.forms = {
            f: b for f, b in value.forms.items() if f in ("dense", "last", "list", "list last")
        }
        return
    result.forms["dense"] = forms.form(value, "dense")


def transpose(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    perm = node.settings["perm"]
    sizes = [value.shape[p] for p in perm[1:]]
    steps = np.cumprod([1, *value.shape[:1:-1]])[::-1].tolist()
    out = np.cumprod([1, *sizes[:0:-1]])[::-1].tolist() if sizes else []
    forms.copy(
        forms.form(value, "dense"),
        forms.new(result, "dense", result.item),
        value.lead,
        sizes,
        [steps[p - 1] for p in perm[1:]],
        out,
    )


def strided(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    s = node.settings
    forms.copy(
        forms.form(value, "dense"),
        forms.new(result, "dense", result.item),
        value.lead,
        s["sizes"],
        s["source"],
        s["target"],
        start=s["start"],
        at=s["at"],
        clear=result.item if s["clear"] else 0,
    )
