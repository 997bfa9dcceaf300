"""Fusion of the chains of nodes by which exporters write activations.

Exporters write SiLU, GELU, HardSwish and Mish as chains of up to eight operators. Each chain
that computes one of them becomes one node, whatever the order of its factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gossamer.runtime.graph import AnyNode, Array, Node, Shape
from gossamer.runtime.operators.elementwise import Unary

Match = tuple[str, str, float, float]  # a value, the kind of its function, and its numbers
CLOSE = 1e-4  # constants are float32, some of them rounded to four digits


class Chains:
    """The producer of each value, to follow chains of nodes backwards."""

    def __init__(self, nodes: Sequence[AnyNode]) -> None:
        self.made = {node.output: node for node in nodes}

    def unary(self, value: str, kind: str) -> str | None:
        """Return the input of a value that is this function of it, else None."""
        node = self.made.get(value)
        if node is None or node.op != "unary" or node.operation.kind != kind:
            return None
        return node.inputs[0]

    def clip(self, value: str, low: float, high: float) -> str | None:
        source = self.unary(value, "clip")
        if source is None:
            return None
        s = self.made[value].operation
        return source if near(s.a, low) and near(s.b, high) else None

    def number(self, value: str, kind: str, wanted: float) -> str | None:
        """Return x of a value that is x plus (``add``) or times (``mul``) this number."""
        node = self.made.get(value)
        if node is None or node.op != "binary" or "right" not in node.constants:
            return None
        right = node.constants["right"]
        if right.size != 1:
            return None
        number, operation = float(right.reshape(())), node.operation.kind
        if operation == "div" and number:
            number, operation = 1 / number, "mul"
        elif operation == "sub":
            number, operation = -number, "add"
        return node.inputs[0] if operation == kind and near(number, wanted) else None

    def operands(self, value: str, kind: str) -> Iterator[tuple[str, str]]:
        """Yield the two operands of a sum (``add``) or product (``mul``), in both orders."""
        node = self.made.get(value)
        if node is None or node.op != "binary" or node.operation.kind != kind:
            return
        if len(node.inputs) == 2:
            yield node.inputs[0], node.inputs[1]
            yield node.inputs[1], node.inputs[0]

    def factors(self, value: str) -> Iterator[tuple[str, str]]:
        return self.operands(value, "mul")

    def halves(self, value: str) -> Iterator[tuple[str, str]]:
        """Yield the two factors of a value that is half their product, in both orders."""
        product = self.number(value, "mul", 0.5)
        if product is not None:
            yield from self.factors(product)
        for left, right in self.factors(value):
            half = self.number(left, "mul", 0.5)
            if half is not None:
                yield half, right
                yield right, half


def near(number: float, wanted: float) -> bool:
    return number == wanted or abs(number - wanted) <= CLOSE * abs(wanted)


def _gated(chains: Chains, value: str) -> Match | None:
    """x times a function of x: SiLU, HardSwish, Mish."""
    for x, gate in chains.factors(value):
        if chains.unary(gate, "sigmoid") == x:
            return x, "silu", 0.0, 0.0
        if chains.unary(gate, "hard_sigmoid") == x:
            s = chains.made[gate].operation
            return x, "hard_swish", s.a, s.b
        soft = chains.unary(gate, "tanh")
        if soft is not None and chains.unary(soft, "softplus") == x:
            return x, "mish", 0.0, 0.0
    return None


def _clipped(chains: Chains, value: str) -> str | None:
    """x of clip(x + 3, 0, 6)."""
    shifted = chains.clip(value, 0.0, 6.0)
    return chains.number(shifted, "add", 3.0) if shifted is not None else None


def _hard_sigmoid(chains: Chains, value: str) -> Match | None:
    sixfold = chains.number(value, "mul", 1 / 6)
    x = _clipped(chains, sixfold) if sixfold is not None else None
    return (x, "hard_sigmoid", 1 / 6, 0.5) if x is not None else None


def _hard_swish(chains: Chains, value: str) -> Match | None:
    """x * clip(x + 3, 0, 6) / 6; where the gate is divided, it is a hard sigmoid already."""
    product = chains.number(value, "mul", 1 / 6)
    for x, gate in chains.factors(product) if product is not None else ():
        if _clipped(chains, gate) == x:
            return x, "hard_swish", 1 / 6, 0.5
    return None


def _gelu(chains: Chains, value: str) -> Match | None:
    """x / 2 * (1 + erf(x / sqrt 2)), or with tanh."""
    for x, sum_ in chains.halves(value):
        function = chains.number(sum_, "add", 1.0)
        if function is None:
            continue
        scaled = chains.unary(function, "erf")
        if scaled is not None and chains.number(scaled, "mul", math.sqrt(0.5)) == x:
            return x, "gelu", 0.0, 0.0
        scaled = chains.unary(function, "tanh")
        inner = chains.number(scaled, "mul", math.sqrt(2 / math.pi)) if scaled is not None else None
        if inner is not None and _with_cube(chains, inner) == x:
            return x, "gelu_tanh", 0.0, 0.0
    return None


def _with_cube(chains: Chains, value: str) -> str | None:
    """x of x + 0.044715 x^3, or of x (1 + 0.044715 x^2)."""
    for x, term in chains.operands(value, "add"):
        cube = chains.number(term, "mul", 0.044715)
        if cube is not None and _is_cube(chains, cube, x):
            return x
    for x, sum_ in chains.factors(value):
        addend = chains.number(sum_, "add", 1.0)
        square = chains.number(addend, "mul", 0.044715) if addend is not None else None
        if square is not None and _is_square(chains, square, x):
            return x
    return None


def _is_square(chains: Chains, value: str, x: str) -> bool:
    return (x, x) in chains.factors(value)


def _is_cube(chains: Chains, value: str, x: str) -> bool:
    node = chains.made.get(value)
    if node is not None and node.op == "binary" and node.operation.kind == "power":
        right = node.constants.get("right")
        return node.inputs == (x,) and right is not None and right.size == 1 and right.item() == 3
    return any(one == x and _is_square(chains, two, x) for one, two in chains.factors(value))


PATTERNS: tuple[Callable[[Chains, str], Match | None], ...] = (
    _gated,
    _hard_sigmoid,
    _hard_swish,
    _gelu,
)


def _unshaped(chains: Chains, node: AnyNode, shapes: Mapping[str, Shape]) -> list[AnyNode] | None:
    """Return a chain of elementwise nodes between two opposite reshapes, without the reshapes.

    ``node`` is the second reshape. The constants are spread over the first shape. None if there is
    no such chain. Sub-spectral norm has one.
    """
    steps: list[AnyNode] = []
    value = node.inputs[0]
    while (step := chains.made.get(value)) is not None and len(step.inputs) == 1:
        if step.op == "reshape":
            break
        if step.op not in ("unary", "binary") or shapes[value] != shapes[step.inputs[0]]:
            return None
        steps.append(step)
        value = step.inputs[0]
    if step is None or step.op != "reshape" or shapes[step.inputs[0]] != shapes[node.output]:
        return None
    if shapes[step.output][0] != shapes[node.output][0]:
        return None
    source, new = step.inputs[0], []
    for left, old in enumerate(reversed(steps), start=1 - len(steps)):
        output = f"{node.output} {-left} before" if left else node.output
        constants = dict(old.constants)
        if "right" in constants:
            constants["right"] = _spread(
                constants["right"], shapes[old.output], shapes[node.output]
            )
        new.append(Node(old.operation, old.name, (source,), output, constants))
        source = output
    return new


def _spread(constant: Array, shape: Shape, wanted: Shape) -> Array:
    """Return a constant that broadcasts to items of one shape, for the same items reshaped."""
    whole = np.broadcast_to(constant, shape[1:]).reshape(wanted[1:])
    for axis in range(whole.ndim):
        first = whole.take([0], axis)
        if (whole == first).all():
            whole = first
    return whole.copy()


def fuse(nodes: Sequence[AnyNode], shapes: dict[str, Shape]) -> list[AnyNode]:
    """Return the nodes with the last node of each chain replaced; the others may be unused."""
    chains = Chains(nodes)
    fused: list[AnyNode] = []
    for node in nodes:
        if node.op == "reshape" and (moved := _unshaped(chains, node, shapes)):
            for each in moved:
                chains.made[each.output] = each
                shapes[each.output] = shapes[node.output]
            fused += moved
            continue
        matches = (pattern(chains, node.output) for pattern in PATTERNS)
        match = next((match for match in matches if match is not None), None)
        if match is not None and shapes[match[0]] == shapes[node.output]:
            x, kind, a, b = match
            node = Node(Unary(kind, a, b), node.name, (x,), node.output)
            chains.made[node.output] = node
        fused.append(node)
    return fused
