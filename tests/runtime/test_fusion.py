"""Activations that a file spells out: one node, with ONNX Runtime's result."""

from __future__ import annotations

import math
from typing import Any

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.runtime import Engine
from gossamer.runtime.importer import read

# Steps of a chain: operator and operands, numbers for constants, "x" for the input, a position
# for an earlier step's result.
Step = tuple[str, *tuple[Any, ...]]
ERF: list[Step] = [("Div", "x", math.sqrt(2)), ("Erf", 0), ("Add", 1, 1.0)]
CUBE: list[Step] = [
    ("Pow", "x", 3.0), ("Mul", 0, 0.044715), ("Add", "x", 1), ("Mul", 2, 0.7978846), ("Tanh", 3),
    ("Add", 4, 1.0),
]  # fmt: skip
CHAINS: dict[str, tuple[str, list[Step]]] = {
    "silu": ("silu", [("Sigmoid", "x"), ("Mul", "x", 0)]),
    "silu, the gate first": ("silu", [("Sigmoid", "x"), ("Mul", 0, "x")]),
    "hard swish": ("hard_swish", [("HardSigmoid", "x"), ("Mul", "x", 0)]),
    "hard swish, clipped": (
        "hard_swish", [("Add", "x", 3.0), ("Clip", 0, 0.0, 6.0), ("Mul", "x", 1), ("Div", 2, 6.0)],
    ),
    "hard swish, gate divided": (
        "hard_swish", [("Add", "x", 3.0), ("Clip", 0, 0.0, 6.0), ("Div", 1, 6.0), ("Mul", "x", 2)],
    ),
    "hard sigmoid": ("hard_sigmoid", [("Add", "x", 3.0), ("Clip", 0, 0.0, 6.0), ("Div", 1, 6.0)]),
    "mish": ("mish", [("Softplus", "x"), ("Tanh", 0), ("Mul", "x", 1)]),
    "gelu, torch": ("gelu", [*ERF, ("Mul", "x", 2), ("Mul", 3, 0.5)]),
    "gelu, half of x": (
        "gelu", [("Mul", "x", 0.70710678), *ERF[1:], ("Mul", "x", 0.5), ("Mul", 3, 2)],
    ),
    "gelu, half of the sum": ("gelu", [*ERF, ("Mul", 2, 0.5), ("Mul", "x", 3)]),
    "gelu by tanh": ("gelu_tanh", [*CUBE, ("Mul", "x", 5), ("Mul", 6, 0.5)]),
    "gelu by tanh, products": (
        "gelu_tanh",
        [("Mul", "x", "x"), ("Mul", 0, 0.044715), ("Add", 1, 1.0), ("Mul", "x", 2),
         ("Mul", 3, 0.7978846), ("Tanh", 4), ("Add", 5, 1.0), ("Mul", "x", 0.5), ("Mul", 7, 6)],
    ),
}  # fmt: skip
OTHERS: dict[str, list[Step]] = {
    "another factor": [("Div", "x", 1.5), ("Erf", 0), ("Add", 1, 1.0), ("Mul", "x", 2),
                       ("Mul", 3, 0.5)],
    "another value": [("Sigmoid", "x"), ("Neg", "x"), ("Mul", 1, 0)],
    "another clip": [("Add", "x", 3.0), ("Clip", 0, 0.0, 5.0), ("Mul", "x", 1), ("Div", 2, 6.0)],
    "not halved": [*ERF, ("Mul", "x", 2)],
}  # fmt: skip


def written(steps: list[Step]) -> bytes:
    b = Builder(4, 9)
    results: list[str] = []
    for op, *operands in steps:
        values = [
            o if isinstance(o, str) else results[o] if isinstance(o, int) else np.float32(o)
            for o in operands
        ]
        results.append(b.add(op, *values))
    return b.model(opset=18)


def agree(model: bytes) -> None:
    x = 3 * np.random.default_rng(0).standard_normal((2, 4, 9)).astype(np.float32)
    wanted = networks.reference(model, x)
    np.testing.assert_allclose(Engine(model, threads=1)(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_one_node(name: str) -> None:
    kind, steps = CHAINS[name]
    model = written(steps)
    (node,) = read(model).nodes
    assert (node.op, node.operation.kind) == ("unary", kind)
    agree(model)


@pytest.mark.parametrize("name", OTHERS)
def test_what_computes_something_else_stays(name: str) -> None:
    model = written(OTHERS[name])
    assert len(read(model).nodes) == len(OTHERS[name])
    agree(model)


def test_what_else_reads_a_step_still_gets_it() -> None:
    b = Builder(4, 9)
    gate = b.add("Sigmoid", "x")
    b.add("Add", b.add("Mul", "x", gate), gate)
    assert [node.operation.kind for node in read(b.model()).nodes] == ["sigmoid", "silu", "add"]
    agree(b.model())


def test_a_norm_of_bands_keeps_the_image() -> None:
    """Sub-spectral norm: a batch norm of every channel's bands, between two reshapes."""
    b = Builder(4, 9)
    b.add("Reshape", "x", np.array([-1, 4, 9, 1]))
    b.add("Conv", b.last, networks.sparse(np.random.default_rng(0), 4, 1, 3, 1), group=4,
          pads=[1, 0, 1, 0])  # fmt: skip
    b.add("Reshape", b.last, np.array([-1, 12, 3, 1]))
    b.add("BatchNormalization", b.last, *networks.norm(np.random.default_rng(0), 12))
    b.add("Relu", b.last)
    b.add("Reshape", b.last, np.array([-1, 4, 9, 1]))
    nodes = read(b.model()).nodes
    assert [node.op for node in nodes] == ["reshape", "conv", "binary", "binary", "unary"]
    assert nodes[2].constants["right"].shape == (4, 9, 1)
    agree(b.model())
