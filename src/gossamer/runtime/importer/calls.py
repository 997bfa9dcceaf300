"""Expansion of one operator into several calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context


class Calls:
    """The calls that replace one call of a file, in order."""

    def __init__(self, context: Context, call: Call) -> None:
        self.context, self.call = context, call
        self.all: list[Call] = []

    def add(self, operator: str, *inputs: Any, **attributes: Any) -> str:
        """Add a call and return its output; numbers among the inputs become constants."""
        names = [i if isinstance(i, str) else self.constant(np.array(i)) for i in inputs]
        output = f"{self.call.output} step {len(self.all)}"
        self.all.append(Call(operator, self.call.name, names, [output], attributes))
        return output

    def split(self, value: str, sizes: list[int]) -> list[str]:
        outputs = [f"{value} part {i}" for i in range(len(sizes))]
        inputs = [value, self.constant(np.array(sizes))]
        self.all.append(Call("Split", self.call.name, inputs, outputs, {"axis": 1}))
        return outputs

    def constant(self, array: Any) -> str:
        name = f"{self.call.output} constant {len(self.context.values)}"
        self.context.add_constant(name, array)
        return name

    def result(self, operator: str, value: str, output: str, **attributes: Any) -> None:
        """Add the call that computes an output of the replaced call, if that has a name."""
        if output:
            self.all.append(Call(operator, self.call.name, [value], [output], attributes))
