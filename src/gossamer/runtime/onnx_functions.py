"""The engine's own operators as ONNX functions, whose bodies use standard operators.

Every ONNX runtime can therefore compute a network that contains them. Each body is in the module
of its operator, in ONNX's text form.
"""

from __future__ import annotations

import onnx.parser

from gossamer.runtime import sparse_file
from gossamer.runtime.operators import kwinners

DOMAIN = sparse_file.DOMAIN
OPSET = 18


def _function(text: str, doc: str) -> onnx.FunctionProto:
    head = f'<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>'
    function: onnx.FunctionProto = onnx.parser.parse_function(head + text)
    function.doc_string = doc
    return function


def k_winners_functions() -> list[onnx.FunctionProto]:
    """Return ``KWinners`` (a whole sample competes) and ``KWinnersLocal`` (axis 1 competes)."""
    doc = (
        "X at the k largest entries of X * boost {}, ties to the lowest index, zero elsewhere. "
        "Ahmad & Scheinkman 2019, arXiv 1903.11257."
    )
    return [
        _function(kwinners.WHOLE, doc.format("over all dimensions but the first")),
        _function(kwinners.LOCAL, doc.format("over axis 1 at each position")),
    ]


def sparse_function() -> onnx.FunctionProto:
    """Return ``gossamer.Sparse(values, gaps; shape) -> weight`` in standard operators."""
    return _function(
        sparse_file.BODY, "A weight from its non-zeros and the number of zeros before each."
    )


def own_functions() -> list[onnx.FunctionProto]:
    """Return every function that the engine has an operator for."""
    return [*k_winners_functions(), sparse_function()]
