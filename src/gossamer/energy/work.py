"""Work of one inference, counted layer by layer from the engine's plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from gossamer.runtime import Engine, LayerProfile
from gossamer.runtime.graph import AnyNode, Graph

_FLOAT = 4  # bytes, of a 32-bit sum of whole numbers too
_INDEX = 4  # bytes of an entry's index in a list of values; the value is extra
_PASSES = 2  # of the selection of winners over its values, see kernels/kwinners.h

Kind = Literal["dense", "weights", "activations", "both", "winners", "other"]
_SKIPPED: dict[tuple[bool, bool], Kind] = {
    (False, False): "dense",
    (True, False): "weights",
    (False, True): "activations",
    (True, True): "both",
}


@dataclass(frozen=True)
class Work:
    """One layer's work in one inference at batch 1.

    Attributes:
        layer: the node's name in the network.
        kind: ``dense`` (nothing is skipped), or the skipped zeros: ``weights``, ``activations``,
            ``both``; or the selection of ``winners``, or anything ``other``.
        macs: number of multiply-adds.
        operations: number of other additions and comparisons.
        stored: bytes of weights and indices, each read once from the weights' memory.
        values: bytes of activations read and written, each once.
        repeats: further bytes read and written if no register is reused between multiply-adds:
            the highest traffic with the nearest cache.
        bits: bits of each operand of the multiply-adds: 32 (floats) or 8 (integers, summed in
            32 bits).
    """

    layer: str
    kind: Kind
    macs: float = 0.0
    operations: float = 0.0
    stored: float = 0.0
    values: float = 0.0
    repeats: float = 0.0
    bits: int = 32

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def gathered(
    layer: str,
    kind: Kind,
    macs: float,
    stored: float,
    entry: float,
    ins: int,
    outs: int,
    bits: int = 32,
) -> Work:
    """Return the work of a layer whose kernel sums each output's products in a register.

    Without reuse each multiply-add reads its weight (``entry`` bytes with its index) and its
    activation.
    """
    value = bits / 8
    again = max(0.0, macs * entry - stored) + max(0.0, value * (macs - ins))
    return Work(layer, kind, macs, 0.0, stored, value * ins + _FLOAT * outs, again, bits)


def scattered(
    layer: str,
    kind: Kind,
    macs: float,
    stored: float,
    entry: float,
    active: float,
    outs: int,
    bits: int = 32,
) -> Work:
    """Return the work of a layer whose kernel adds each active input's products to outputs.

    The inputs are a list of index and value. Without reuse each multiply-add reads its weight
    with its index, and reads and writes its output's sum.
    """
    again = max(0.0, macs * entry - stored) + 2 * _FLOAT * macs
    values = (_INDEX + bits / 8) * active + _FLOAT * outs
    return Work(layer, kind, macs, 0.0, stored, values, again, bits)


def selected(layer: str, values: int, winners: float) -> Work:
    """Return the work of k-winners: two passes that compare all values, and the list of winners."""
    passes = float(_PASSES * values)
    return Work(
        layer, "winners", operations=passes, values=_FLOAT * passes + (_INDEX + _FLOAT) * winners
    )


def count_work(engine: Engine) -> tuple[list[Work], list[Work]]:
    """Count the work of the network with its plan, and the work of its dense counterpart.

    The counterpart has the same layers in 32-bit floats with every weight and every activation,
    ReLU (in the kernel of the layer before) in place of k-winners. Densities of activations are
    those of the engine's ``sample``, so pass it real examples.

    A dense convolution by minimal filtering (Winograd) counts as a plain one in both networks, and
    products of two values (attention) are in both.

    In 8-bit layers, integer multiply-adds and inputs of one byte are counted, even if the engine
    expands them to floats.

    Returns:
        The network's work by kernel call, and the counterpart's work by node.
    """
    graph = engine.graph
    # By value, since all steps of a recurrent layer have its name.
    nodes = {node.output: node for node in graph.nodes}
    rows = engine.profile(*engine.noise(), repeats=1)
    own = [_own(row, nodes.get(row.value), engine) for row in rows]
    macs: dict[str, float] = {}
    for row in rows:
        macs[row.value] = macs.get(row.value, 0.0) + row.dense_macs
    dense = [
        _dense(node, graph, macs.get(node.output, 0.0))
        for node in graph.nodes
        if node.op != "round"
    ]
    return own, dense


def _sizes(node: AnyNode, graph: Graph) -> tuple[int, int]:
    return sum(graph.item(name) for name in node.inputs), graph.item(node.output)


def _own(row: LayerProfile, node: AnyNode | None, engine: Engine) -> Work:
    graph = engine.graph
    operation = row.kernel.split()[0]
    if node is not None and operation == "winners":
        values, outs = _sizes(node, graph)
        return selected(row.node, values, outs * engine.plan.densities.get(node.output, 1.0))
    if node is None or not row.macs:
        moved = row.moved
        if node is not None and node.op == "round":
            # Its outputs are bytes.
            written = graph.item(node.output) * engine.plan.densities.get(node.output, 1.0)
            moved = max(0.0, moved - (_FLOAT - 1) * written)
        return Work(row.node, "other", operations=row.moved / (2 * _FLOAT), values=moved)
    if "weight" not in node.constants or operation == "winograd":
        # Products of two values skip nothing. Nor does minimal filtering: its fewer products, for
        # further additions, are open to the dense counterpart too.
        return _dense(node, graph, row.dense_macs)
    ins, outs = _sizes(node, graph)
    # Layers multiply whole numbers where both weight and input are whole.
    bits = 8 if "step" in node.constants and graph.rounding(node.inputs[0]) is not None else 32
    listed = operation == "active"
    density = engine.plan.densities.get(node.inputs[0], 1.0) if listed else 1.0
    # How often each weight is used for a dense input, and with it the stored entries.
    uses = row.dense_macs / node.constants["weight"].size
    entries = row.macs / (uses * density) if density else 0.0
    entry = row.bytes / entries if entries else 0.0
    kind = _SKIPPED[row.macs < 0.999 * density * row.dense_macs, density < 1.0]
    if listed:
        # An input's weights are read if it is active. A channel of an image nearly always has an
        # active pixel.
        needed = row.bytes * (density if node.op == "linear" else 1.0)
        return scattered(row.node, kind, row.macs, needed, entry, ins * density, outs, bits)
    return gathered(row.node, kind, row.macs, row.bytes, entry, ins, outs, bits)


def _dense(node: AnyNode, graph: Graph, macs: float) -> Work:
    ins, outs = _sizes(node, graph)
    if macs:
        weight = node.constants.get("weight")
        stored = 0.0 if weight is None else float(_FLOAT * weight.size)
        return gathered(node.name, "dense", macs, stored, _FLOAT, ins, outs)
    if node.op == "winners":
        return Work(node.name, "other", operations=float(ins))
    return Work(node.name, "other", operations=float(outs), values=float(_FLOAT * (ins + outs)))
