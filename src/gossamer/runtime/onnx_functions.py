"""Operators of the engine as ONNX functions: what they compute, in standard operators.

Every ONNX runtime can therefore compute a network that has them. ``KWinners`` and
``KWinnersLocal`` take ``X`` and ``boost``, ``Sparse`` is described in ``sparse_file``.
"""

from __future__ import annotations

import math
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from gossamer.runtime import sparse_file

DOMAIN = sparse_file.DOMAIN
OPSET = 18


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def _constant(output: str, values: list[int]) -> onnx.NodeProto:
    tensor = helper.make_tensor(output, TensorProto.INT64, [len(values)], values)
    return _node("Constant", [], output, value=tensor)


def _filled(shape: str, output: str, value: float) -> onnx.NodeProto:
    tensor = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
    return _node("ConstantOfShape", [shape], output, value=tensor)


def _of_attribute(output: str, name: str, kind: str) -> onnx.NodeProto:
    """The function's own attribute as a constant; ``kind`` is ``INT`` or ``INTS``."""
    node = _node("Constant", [], output)
    node.attribute.append(
        AttributeProto(name=f"value_{kind.lower()}", ref_attr_name=name, type=kind)
    )
    return node


def _function(
    name: str,
    inputs: list[str],
    output: str,
    attribute: str,
    nodes: list[onnx.NodeProto],
    doc: str,
) -> onnx.FunctionProto:
    return helper.make_function(
        DOMAIN,
        name,
        inputs=inputs,
        outputs=[output],
        nodes=nodes,
        opset_imports=[helper.make_opsetid("", OPSET)],
        attributes=[attribute],
        doc_string=doc,
    )


def _winners(x: str, boosted: str, output: str) -> list[onnx.NodeProto]:
    """Keep ``x`` where ``boosted`` is among the k largest along axis 1, zero elsewhere.

    ONNX's TopK puts the lower index first among equal values, which is the rule here too. Where
    it puts NaN is not specified, so NaN becomes infinity first.
    """
    return [
        _of_attribute("k_scalar", "k", "INT"),
        _constant("one", [1]),
        _node("Reshape", ["k_scalar", "one"], "k"),  # the one-element tensor that TopK wants
        _node("Constant", [], "infinity", value_float=math.inf),
        _node("IsNaN", [boosted], "is_nan"),
        _node("Where", ["is_nan", "infinity", boosted], "keys"),
        helper.make_node("TopK", ["keys", "k"], ["best", "index"], axis=1, largest=1, sorted=1),
        _node("Shape", [x], "shape_of_x"),
        _filled("shape_of_x", "losers", 0.0),
        _node("Shape", ["index"], "shape_of_index"),
        _filled("shape_of_index", "winners", 1.0),
        _node("ScatterElements", ["losers", "index", "winners"], "marked", axis=1),
        _node("Cast", ["marked"], "mask", to=TensorProto.BOOL),
        # Where, not Mul: a loser may be infinite.
        _node("Where", ["mask", x, "losers"], output),
    ]


def k_winners_functions() -> list[onnx.FunctionProto]:
    """``KWinners`` (a whole sample competes) and ``KWinnersLocal`` (axis 1 competes)."""
    whole = [
        _node("Mul", ["X", "boost"], "boosted"),
        _node("Flatten", ["X"], "flat", axis=1),
        _node("Flatten", ["boosted"], "flat_boosted", axis=1),
        *_winners("flat", "flat_boosted", "flat_y"),
        _node("Shape", ["X"], "shape"),
        _node("Reshape", ["flat_y", "shape"], "Y"),
    ]
    local = [_node("Mul", ["X", "boost"], "boosted"), *_winners("X", "boosted", "Y")]
    doc = (
        "X at the k largest entries of X * boost {}, ties to the lowest index, zero elsewhere. "
        "Ahmad & Scheinkman 2019, arXiv 1903.11257."
    )
    return [
        _function(name, ["X", "boost"], "Y", "k", nodes, doc.format(where))
        for name, nodes, where in (
            ("KWinners", whole, "over all dimensions but the first"),
            ("KWinnersLocal", local, "over axis 1 at each position"),
        )
    ]


def sparse_function() -> onnx.FunctionProto:
    """``gossamer.Sparse(values, gaps; shape) -> weight`` in standard operators."""
    body = [
        _of_attribute("shape", "shape", "INTS"),
        _node("Constant", [], "one", value_int=1),
        _node("Constant", [], "first", value_int=0),
        _node("Cast", ["gaps"], "zeros_before", to=TensorProto.INT64),
        _node("Add", ["zeros_before", "one"], "steps"),
        _node("CumSum", ["steps", "first"], "after"),
        _node("Sub", ["after", "one"], "index"),
        _node("ReduceProd", ["shape"], "size", keepdims=1),
        _node("ConstantOfShape", ["size"], "zeros"),
        _node("CastLike", ["zeros", "values"], "empty"),
        _node("ScatterElements", ["empty", "index", "values"], "flat", axis=0),
        _node("Reshape", ["flat", "shape"], "weight"),
    ]
    doc = "A weight from its non-zeros and the number of zeros before each."
    return _function(sparse_file.NAME, ["values", "gaps"], "weight", "shape", body, doc)


def own_functions() -> list[onnx.FunctionProto]:
    """Every function that the engine has an operator for."""
    return [*k_winners_functions(), sparse_function()]
