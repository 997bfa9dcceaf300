"""k-winners."""

from __future__ import annotations

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.lowering.layouts import Forms
from gossamer.runtime.packing import (
    BLOCK,
)
from gossamer.runtime.program import LIST_HEADER


def winners(forms: Forms, node: Node) -> None:
    value = forms.values[node.inputs[0]]
    result = forms.value(node.output)
    result.channels, result.pixels = value.channels, value.pixels
    k, local = node.settings["k"], node.settings["local"]
    plain = "last" if local and value.pixels > 1 else forms.layout(value)
    source = forms.form(value, plain)
    size, groups = (value.channels, value.pixels) if local else (value.item, 1)
    last = plain == "last"
    inner, outer = (value.channels, value.pixels) if last and not local else (1, 1)
    capacity = k * groups
    buffer = forms.new(result, "list last" if last else "list", LIST_HEADER + 2 * capacity)
    boost = node.constants.get("boost")
    data: Array = np.zeros(1, np.float32)
    if boost is not None:
        data = boost.reshape(value.channels, value.pixels)
        data = (data.T if last else data).reshape(-1).copy()
    forms.add(
        node.name,
        forms.kernel("winners"),
        (source,),
        buffer,
        {
            "size": size,
            "k": k,
            "groups": groups,
            "capacity": capacity,
            "inner": inner,
            "outer": outer,
            "boosted": boost is not None,
        },
        data=[data],
        lead=value.lead,
        scratch=3 * (size + 2 * BLOCK),
    )
    result.density = min(result.density, capacity / value.item)
