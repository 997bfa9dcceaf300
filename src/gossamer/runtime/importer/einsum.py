"""Einsum as matrix products of two operands at a time, after transposes and reshapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gossamer.runtime.importer.calls import Calls
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.unsupported import Unsupported

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # stand for the dimensions of an ellipsis


def einsum(context: Context, opset: int, call: Call) -> list[Call]:
    """Return the calls that compute an Einsum; one of constants only is folded."""
    if all(context.is_constant(value) for value in call.inputs):
        return [call]
    shapes = [context.shape(value) for value in call.inputs]
    terms, result = letters(str(call.attributes["equation"]), [len(shape) for shape in shapes])
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise Unsupported(f"{letter!r} is {sizes[letter]} and {size} in its equation")
    if any(len(set(term)) < len(term) for term in (*terms, result)):
        raise Unsupported("it takes a diagonal; export without")
    calls = Calls(context, call)
    operands = list(zip(call.inputs, terms, strict=True))
    operands.sort(key=lambda operand: context.is_constant(operand[0]))  # constants last
    value, term = operands.pop(0)
    while operands:
        other, others = operands.pop(0)
        wanted = set(result).union(*(rest for _, rest in operands))
        value, term = _product(calls, (value, term), (other, others), wanted, sizes)
    value, term = _summed(calls, value, term, set(result))
    calls.result("Transpose", value, call.output, perm=[term.index(i) for i in result])
    return calls.all


def letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result; an ellipsis gets new letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise Unsupported(f"its equation {equation!r} is for {len(terms)} inputs")
    wide = 0
    for i, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        if "..." in term:
            more = rank - len(term.replace("...", ""))
            wide = max(wide, more)
            terms[i] = term.replace("...", LETTERS[len(LETTERS) - more :] if more > 0 else "")
        if len(terms[i]) != rank:
            raise Unsupported(f"its equation {equation!r} does not fit its inputs")
    every = LETTERS[len(LETTERS) - wide :] if wide else ""
    if arrow:
        result = right.replace("...", every)
    else:
        plain = sorted(set("".join(terms)) - set(every))
        result = every + "".join(i for i in plain if "".join(terms).count(i) == 1)
    if not set(result) <= set("".join(terms)):
        raise Unsupported(f"its equation {equation!r} has letters in its result that no input has")
    return terms, result


def _summed(calls: Calls, value: str, term: str, wanted: set[str]) -> tuple[str, str]:
    """Sum over the letters that neither the other operands nor the result have."""
    axes = [i for i, letter in enumerate(term) if letter not in wanted]
    if not axes:
        return value, term
    value = calls.add("ReduceSum", value, axes, keepdims=0)
    return value, "".join(letter for letter in term if letter in wanted)


def _product(
    calls: Calls,
    left: tuple[str, str],
    right: tuple[str, str],
    wanted: set[str],
    sizes: dict[str, int],
) -> tuple[str, str]:
    """Multiply [both, left, summed] by [both, summed, right]; each stands for several letters."""
    (value, term), (other, others) = left, right
    value, term = _summed(calls, value, term, wanted | set(others))
    other, others = _summed(calls, other, others, wanted | set(term))
    both = "".join(i for i in term if i in others and i in wanted)
    inner = "".join(i for i in term if i in others and i not in wanted)
    rows = "".join(i for i in term if i not in others)
    columns = "".join(i for i in others if i not in term)

    def ordered(name: str, own: str, groups: Sequence[str]) -> str:
        order = [own.index(i) for i in "".join(groups)]
        if order != sorted(order):
            name = calls.add("Transpose", name, perm=order)
        if all(len(group) == 1 for group in groups[1:]):
            return name
        shape = [sizes[i] for i in groups[0]]
        return calls.add("Reshape", name, [*shape, *(_size(g, sizes) for g in groups[1:])])

    if not inner:  # each number with each one
        value = ordered(value, term, (both, rows, ""))
        other = ordered(other, others, (both, "", columns))
        product = calls.add("Mul", value, other)
    else:
        weight = calls.context.is_constant(other) and not both
        if not weight or len(rows) == 0:
            value = ordered(value, term, (both, rows, inner))
        else:  # a layer: over the last dimension, however many are before
            value = ordered(value, term, (rows, inner))
        other = ordered(other, others, (both, inner, columns))
        product = calls.add("MatMul", value, other)
    shape = [sizes[i] for i in both + rows + columns]
    return calls.add("Reshape", product, shape), both + rows + columns


def _size(group: str, sizes: dict[str, int]) -> int:
    return math.prod(sizes[i] for i in group)
