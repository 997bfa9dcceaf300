"""Every function of numbers, on every instruction set, against torch in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.kernels.registry import ISAS
from gossamer.runtime.graph import Array, Graph, Node
from gossamer.runtime.lowering import Lowering
from gossamer.runtime.operators.binary import Binary
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.program import Buffer, assemble

A, B = 0.25, 0.5
SPECIAL = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-39, -1.1e-38, 1.2e-38, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38,
     1.0, -1.0, 88.7, 88.8, -87.3, -87.4, -103.9, -104.1, 0.5, 1.5, 2.5, -0.5, 8388609.0, 0.9, -0.9]
).astype(np.float32)  # fmt: skip

# Kind -> oracle, and how many units in the last place a kernel may be off.
Oracle = Callable[[Tensor], Tensor]
EXACT = 0.5001
FUNCTIONS: dict[str, tuple[Oracle, float]] = {
    "clip": (lambda x: x.clip(A, B), EXACT),
    "sigmoid": (torch.sigmoid, 3),
    "tanh": (torch.tanh, 3),
    "erf": (torch.erf, 2),
    "exp": (torch.exp, 2),
    "log": (torch.log, 2),
    "leaky_relu": (lambda x: functional.leaky_relu(x, A), EXACT),
    "silu": (lambda x: x / (1 + torch.exp(-x)), 4),
    "sqrt": (torch.sqrt, EXACT),
    "neg": (torch.neg, EXACT),
    "reciprocal": (torch.reciprocal, EXACT),
    "abs": (torch.abs, EXACT),
    "truncate": (torch.trunc, EXACT),
    "floor": (torch.floor, EXACT),
    "ceil": (torch.ceil, EXACT),
    "round": (torch.round, EXACT),
    "sign": (lambda x: torch.where(x.isnan(), x, x.sign()), EXACT),
    "sin": (torch.sin, 2),
    "cos": (torch.cos, 2),
    "elu": (lambda x: torch.where(x < 0, A * torch.expm1(x), x), 4),
    "softplus": (lambda x: torch.where(x > 20, x, torch.log1p(torch.exp(x))), 4),
    "is_nan": (lambda x: x.isnan().double(), EXACT),
    "hard_sigmoid": (lambda x: (A * x + B).clip(0, 1), 2),
    "hard_swish": (lambda x: torch.where(x < -B / A, 0 * x, x * (A * x + B).clip(max=1)), 3),
    "mish": (lambda x: x * torch.tanh(torch.log1p(torch.exp(x.clip(max=700)))), 6),
}
# 1 + erf and 1 + tanh cancel left of zero: a share of the argument is all that float32 leaves.
CANCELLING: dict[str, Oracle] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


def arguments() -> Array:
    """Special values, and numbers of all sizes of both signs."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(-60, 25, 4000))
    near = rng.uniform(0, 110, 4000)
    return np.concatenate([SPECIAL, *(sign * x for x in (sizes, near) for sign in (1, -1))]).astype(
        np.float32
    )


def flushed(x: Array) -> Array:
    """Denormal numbers as zeros, as the engine sees them."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def computed(isa: str, node: Node, *inputs: Array) -> Array:
    """What the kernels of an instruction set make of one node."""
    shapes = {name: (1, x.size) for name, x in zip(node.inputs, inputs, strict=True)}
    graph = Graph(list(node.inputs), ["y"], [node], {**shapes, "y": (1, inputs[0].size)}, True)
    lowering = Lowering(graph, isa)
    lowering.candidates(node)[0].emit()
    sources = [Buffer(name, x.size) for name, x in zip(node.inputs, inputs, strict=True)]
    outputs = [lowering.form(lowering.values["y"], "dense")]
    program = assemble(lowering.steps, sources, outputs, list(shapes.values()), [shapes["x"]])
    return program.run([x[None] for x in inputs], False)[0]


def agree(found: Array, x: Array, wanted: Tensor, units: float, share: Array | float = 0.0) -> None:
    """NaN, infinities and signs of zero alike; else so many units in the last place apart."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        exact = wanted.numpy()
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded) & np.isfinite(found)
        size = np.maximum(np.abs(rounded), np.abs(share).astype(np.float32))
        unit = np.spacing(np.where(finite, size, 0)).astype(np.float64)
        # denormal results are lost; where e^x is, so are its multiples, x e^x
        unit = np.maximum(unit, (2e-36 if units > 1 else 1.2e-38) / units)
        error = np.abs(np.where(finite, found - exact, 0)) / unit
    worst = int(error.argmax())
    about = f"{error[worst]:.2f} units at {x[worst]!r}: {found[worst]!r}, not {rounded[worst]!r}"
    assert error[worst] <= units, about
    # beyond float32 by less than the error: either side may be taken
    edge = np.abs(np.abs(exact) / np.finfo(np.float32).max - 1) < 1e-6
    np.testing.assert_array_equal(found[~finite & ~edge], rounded[~finite & ~edge])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", UNARY)
def test_functions_of_a_number(kind: str, isa: str) -> None:
    x = arguments()
    node = Node(Unary(kind, A, B), "f", ("x",), "y")
    found, argument = computed(isa, node, x), torch.from_numpy(flushed(x)).double()
    if kind in CANCELLING:
        ordinary = np.isfinite(x)  # 0 times infinity elsewhere, as in ONNX Runtime
        wanted = CANCELLING[kind](argument)[ordinary]
        agree(found[ordinary], x[ordinary], wanted, 3, x[ordinary])
        assert np.isnan(found[np.isnan(x)]).all()
        return
    oracle, units = FUNCTIONS[kind]
    agree(found, x, oracle(argument), units)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "kind", ["neg", "sqrt", "erf", "tanh", "truncate", "floor", "round", "abs"]
)
def test_zero_keeps_its_sign(kind: str, isa: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    found = computed(isa, Node(Unary(kind), "f", ("x",), "y"), zeros)
    wanted = {"neg": [True, False], "abs": [False, False]}.get(kind, [False, True])
    np.testing.assert_array_equal(np.signbit(found), wanted)


COMPARISONS = {
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal,
}  # fmt: skip
PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "min": np.minimum, "max": np.maximum,
    "gate": lambda v, w: np.where(v != 0, w, 0), "gate_not": lambda v, w: np.where(v == 0, w, 0),
    "gated": lambda v, w: np.where(w != 0, v, 0), "gated_not": lambda v, w: np.where(w == 0, v, 0),
    "power": lambda v, w: np.power(v.astype(np.float64), w).astype(np.float32),
    **COMPARISONS,
}  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", BINARY)
def test_functions_of_two_numbers(kind: str, isa: str) -> None:
    values = SPECIAL if kind != "power" else SPECIAL[flushed(SPECIAL) == SPECIAL]  # C's own
    left, right = (side.ravel() for side in np.meshgrid(values, values))
    found = computed(isa, Node(Binary(kind), "f", ("x", "x1"), "y"), left, right)
    with np.errstate(all="ignore"):
        wanted = PAIRS[kind](flushed(left), flushed(right)).astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=1.2e-38)
