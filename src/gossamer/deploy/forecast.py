"""Forecast of the speedup that zeros bring on this machine, before any training.

For each choice of zeros, a copy in memory is pruned to the pattern by magnitude, planned, and timed
in turns with the dense network. Its outputs are meaningless, but its time is that of a network
trained to such zeros.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gossamer.deploy.bench import examples_of, inputs_of_calls, take_turns
from gossamer.deploy.dense import SPARSE, dense_file
from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, LayerProfile, machine, planner
from gossamer.runtime.graph import AnyNode, Array, Graph, Node
from gossamer.runtime.importer import read
from gossamer.runtime.operators.kwinners import Winners

ACTIVE = 0.1  # share of a layer's inputs that win
PROFILE_SECONDS = 0.05
TURNS = 6


@dataclass(frozen=True)
class Choice:
    """A share of ``zeros``, as single weights or in blocks of ``block`` outputs.

    With ``winners``, only the largest tenth of a layer's inputs are active, if they come from
    another layer.
    """

    zeros: float
    block: int = 1
    winners: bool = False


#: Every choice that is measured, those without winners first.
CHOICES = tuple(
    Choice(zeros, block, winners)
    for winners in (False, True)
    for block in (1, 8, 16)
    for zeros in (0.8, 0.9, 0.95)
)


@dataclass(frozen=True)
class LayerForecast:
    """One layer, or another node, which cannot be sparse.

    Attributes:
        name: its name in the file.
        operation: its operation in the engine.
        share: its share of the dense network's kernel time.
        dense: why it stays dense; empty if it can be sparse.
        faster: dense time over sparse time for each choice, measured; None if the outputs do not
            divide into the blocks, and for what stays dense.
    """

    name: str
    operation: str
    share: float
    dense: str
    faster: tuple[float | None, ...]


@dataclass(frozen=True)
class Forecast:
    """The gain of each choice over the dense network, layer by layer and as a whole.

    Attributes:
        model: the file.
        machine, threads, batch: conditions of the measurement.
        seconds: time of a call of the dense network.
        choices: the measured choices.
        layers: in the order of the network.
        faster: dense time over sparse time of the whole network for each choice, measured in
            turns.
    """

    model: str
    machine: str
    threads: int
    batch: int
    seconds: float
    choices: tuple[Choice, ...]
    layers: tuple[LayerForecast, ...]
    faster: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def forecast(
    model: str | os.PathLike[str],
    *,
    batch: int | None = None,
    threads: int | None = None,
    inputs: Sequence[Array] | Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, Any] | None = None,
    choices: Sequence[Choice] = CHOICES,
    on_choice: Callable[[int, int], None] = lambda done, total: None,
) -> Forecast:
    """Measure a network's speedup by zeros in the engine; no file is written.

    A sparse network is replaced by its dense form first
    (:func:`gossamer.deploy.dense.dense_network`).

    Args:
        model: an ONNX file that the engine runs.
        batch: examples in a call; by default all ``inputs``, or one example of random noise.
        threads: threads of the engine; by default all usable cores.
        inputs: examples for each input, or the ``.npy`` or ``.npz`` file that holds them; by
            default normal noise.
        shapes, values: see :class:`gossamer.runtime.Engine`.
        choices: the choices to measure.
        on_choice: called after each choice with the number of choices done and of all.

    Raises:
        UserError: the file cannot be run, or no layer of it can be sparse.
    """
    path = Path(model)
    graph = read(path, shapes, values)
    examples = examples_of(inputs, graph)
    with tempfile.TemporaryDirectory() as folder:
        dense = dense_file(onnx.load(path), Path(folder))
        if dense is not None:
            graph = read(dense, shapes, values)
        return _measure(str(path), graph, batch, threads, examples, tuple(choices), on_choice)


def _measure(
    model: str,
    graph: Graph,
    batch: int | None,
    threads: int | None,
    inputs: Sequence[Array] | None,
    choices: tuple[Choice, ...],
    on_choice: Callable[[int, int], None],
) -> Forecast:
    names = {node.output: node.name or node.output for node in graph.nodes}
    reasons = {node.output: reason_dense(node) for node in graph.nodes}
    if all(reasons.values()):
        raise UserError(f"{model}: no layer of it can be sparse; it has nothing to forecast")
    items = graph.input_items[0]
    several = (batch or (items if inputs is None else len(inputs[0]))) > items

    def engine(network: Graph) -> Engine:
        plan = planner.make(network, chosen_isa(None), inputs, batches=several)
        return Engine(network, threads=threads, plan=plan)

    dense = engine(_named(graph))
    calls_on = inputs_of_calls(dense, inputs, batch)
    spent: list[dict[str, float]] = []
    seconds: list[float] = []
    whole: list[float] = []
    gains: list[dict[str, float]] = []
    for choice in choices:
        sparse = engine(pruned(graph, choice))
        times = take_turns(
            {"dense": partial(_call, dense), "sparse": partial(_call, sparse)},
            calls_on,
            turns=TURNS,
            threads=dense.threads,
        )
        took = times["dense"].seconds
        repeats = max(3, min(50, int(PROFILE_SECONDS / took)))
        before, after = (
            layer_seconds(each.profile(*calls_on[0], repeats=repeats)) for each in (dense, sparse)
        )
        spent.append(before)
        seconds.append(took)
        whole.append(took / times["sparse"].seconds)
        gains.append({n: before[n] / max(after[n], 1e-9) for n in before if n in after})
        on_choice(len(whole), len(choices))
    mean = {name: float(np.mean([each[name] for each in spent])) for name in spent[0]}
    total = sum(mean.values()) or 1.0
    layers = []
    for node in graph.nodes:
        reason = reasons[node.output]
        if node.output in mean:
            faster = tuple(
                None if reason or not _divides(node, choice) else gain[node.output]
                for choice, gain in zip(choices, gains, strict=True)
            )
            share = mean[node.output] / total
            layers.append(LayerForecast(names[node.output], node.op, share, reason, faster))
    if "" in mean:  # conversions of the outputs
        nothing = (None,) * len(choices)
        reason = "it has no weights"
        layers.append(LayerForecast("(form)", "form", mean[""] / total, reason, nothing))
    examples = len(np.atleast_1d(calls_on[0][0]))
    return Forecast(
        model,
        machine(),
        dense.threads,
        examples,
        float(np.median(seconds)),
        choices,
        tuple(layers),
        tuple(whole),
    )


def _call(engine: Engine, inputs: Sequence[Array]) -> Any:
    return engine(*inputs)


def reason_dense(node: AnyNode) -> str:
    """Return why a node stays dense; empty if its weights can be sparse."""
    if node.op not in ("linear", "conv"):
        return "it has no weights"
    if node.op == "conv" and node.operation.groups > 1:
        return "a grouped convolution"
    weight = node.constants["weight"]
    if not np.isfinite(weight).all():
        return "its weights are not finite"
    if np.count_nonzero(weight) < (1 - SPARSE) * weight.size:  # as of a resized image
        return "its zeros are fixed"
    return ""


def layer_seconds(rows: Iterable[LayerProfile]) -> dict[str, float]:
    """Return the seconds per example by layer, in order.

    A conversion of a layout counts toward the layer that needs it; conversions of the outputs are
    under the empty name.
    """
    spent: dict[str, float] = {}
    waiting = 0.0
    for row in rows:
        waiting += row.seconds
        if row.node != "(form)":
            spent[row.node] = spent.get(row.node, 0.0) + waiting
            waiting = 0.0
    return spent | ({"": waiting} if waiting else {})


def _divides(node: AnyNode, choice: Choice) -> bool:
    return len(node.constants["weight"]) % choice.block == 0


def _named(graph: Graph) -> Graph:
    """Return the graph with each node named after its output, which is unique."""
    return replace(graph, nodes=[replace(n, name=n.output) for n in graph.nodes])


def pruned(graph: Graph, choice: Choice) -> Graph:
    """Return a copy with the zeros of a choice, its nodes named after their outputs.

    Layers whose outputs do not divide into the blocks stay dense, as in training. The time of
    winners counts toward the first layer that reads them.
    """
    shapes = dict(graph.shapes)
    nodes: list[AnyNode] = []
    data = set(graph.inputs)  # and what is computed from them without a layer
    winning: dict[str, str] = {}
    for node in _named(graph).nodes:
        if node.op not in ("linear", "conv") and set(node.inputs) <= data:
            data.add(node.output)
        if reason_dense(node):
            nodes.append(node)
            continue
        value, constants = node.inputs[0], dict(node.constants)
        if choice.winners and value not in data and graph.rounding(value) is None:
            if value not in winning:
                winning[value] = f"{value} winners"
                shapes[winning[value]] = shapes[value]
                winners = Winners(max(1, round(ACTIVE * graph.item(value))), False)
                nodes.append(Node(winners, node.name, (value,), winning[value]))
            value = winning[value]
        if _divides(node, choice):
            constants["weight"] = prune(constants["weight"], 1 - choice.zeros, choice.block)
        inputs = (value, *node.inputs[1:])
        nodes.append(Node(node.operation, node.name, inputs, node.output, constants))
    return replace(graph, nodes=nodes, shapes=shapes)


def prune(weight: Array, density: float, block: int) -> Array:
    """Return a weight ``[outputs, ...]`` with all but its largest entries set to zero.

    ``block`` neighboring outputs have the same non-zero positions, at least one each.
    """
    rows = np.abs(weight).reshape(len(weight) // block, block, -1).sum(axis=1)
    scores = rows.copy()
    np.put_along_axis(scores, rows.argmax(axis=1)[:, None], np.inf, axis=1)
    keep = max(len(rows), round(density * rows.size))
    mask = np.zeros(rows.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:keep]] = True
    wide = np.repeat(mask.reshape(rows.shape), block, axis=0).reshape(weight.shape)
    return np.where(wide, weight, 0).astype(weight.dtype)
