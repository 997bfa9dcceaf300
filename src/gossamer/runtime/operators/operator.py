"""An ONNX operator as the engine sees it: one record, which its home defines.

An operator becomes nodes of a few operations (``graph.Operation``). A module here is the home of
one family: the attributes, kernels and C text of its operations, and of each operator how it is
converted, computed of constants, and what it does where the batch is not the first dimension.
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
    """One operator of ONNX.

    Attributes:
        convert: makes nodes of it; None where it runs on constants only.
        fold: computes it of constants; None where that is not offered.
        size: how many numbers ``fold`` makes at most; as many as the first input has, if None.
        shared: what it does to constants that are stored once for all examples.
        turned: converts it where the batch is not the first dimension; None where that is refused.
    """

    convert: Convert | None = None
    fold: Fold | None = None
    size: Size | None = None
    shared: Shared = ""
    turned: Turned | None = None


Operators = dict[str, Operator]
