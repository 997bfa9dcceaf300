"""The record that defines an ONNX operator.

An operator is converted to nodes of a few operations (``graph.Operation``). Each module here
defines one family: its operations with their attributes, kernels and C text, and for each operator
its conversion, its folding of constants, and its rule for a batch that is not first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gossamer.runtime.graph import Array
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context

# Makes nodes of a call.
Convert = Callable[[Context, Call], None]

# The result of constants, and how many numbers at most that is.
Fold = Callable[[list[Array], Attributes], Array]
Size = Callable[[list[Array], Attributes], int]

# As Convert, where the batch is not the first dimension of an input.
Turned = Callable[[Context, Convert, Call], None]

# What an operator does to a constant that is stored once for all examples: it treats every number
# alike, or those of several inputs together; it moves them; it works within an example; it may
# join examples, which is refused; or it is looked at by its name.
Shared = Literal["pointwise", "elementwise", "view", "joins", ""]


@dataclass(frozen=True)
class Operator:
    """One ONNX operator.

    Attributes:
        convert: emits its nodes; None if it runs on constants only.
        fold: computes it from constants; None if that is not supported.
        size: upper bound of the number of elements that ``fold`` returns; None for as many as
            the first input has.
        shared: its handling of constants that are stored once for all examples.
        turned: converts it where the batch is not the first dimension; None if that is refused.
    """

    convert: Convert | None = None
    fold: Fold | None = None
    size: Size | None = None
    shared: Shared = ""
    turned: Turned | None = None


Operators = dict[str, Operator]
