"""Modeled energy against dense: the speech network and a transformer's block.

    python benchmarks/energy.py --out docs/results/energy

Builds the networks with random weights (the counts depend on the places of zeros, not on values),
exports them, lets the engine plan them for single examples on this machine, counts the work of its
plan and prices it with `gossamer.energy.EnergyModel`. Where the machine has counters
(RAPL, and zeus installed), the joules per inference of both networks are measured as well.
Writes ``OUT.json`` and ``OUT.md``. Takes about a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from results import write
from torch import nn

import gossamer as gs
from gossamer.energy import COSTS, MEMORIES, EnergyMeter, EnergyModel, Work, count_work
from gossamer.errors import UserError
from gossamer.models import speech_cnn
from gossamer.runtime import machine

SPEECH = (1, 32, 32)
SECONDS = 2.0  # of a measurement by counters
COUNTS = ("macs", "operations", "stored", "values", "repeats")  # that are summed over layers


def pruned(model: nn.Module, densities: dict[str, float], block: int = 1) -> nn.Module:
    """Zeroes random weights, ``block`` consecutive outputs together, exactly so many per input."""
    generator = torch.Generator().manual_seed(0)
    for name, density in densities.items():
        weight = model.get_submodule(name).weight
        outputs = weight.shape[0] // block
        places = weight.numel() // weight.shape[0]
        count = round(outputs * density)
        if count == 0:
            raise SystemExit(f"{name}: no weights left at density {density}")
        order = torch.rand(outputs, places, generator=generator).argsort(dim=0)
        mask = (order < count).repeat_interleave(block, dim=0).reshape(weight.shape)
        with torch.no_grad():
            weight *= mask
    return model


def speech(
    hidden: int, density: dict[str, float], block: int = 1, winners: bool = True
) -> nn.Module:
    shares = (0.095, 0.125, 0.10) if winners else (1.0, 1.0, 1.0)
    return pruned(speech_cnn(12, hidden=hidden, activation_density=shares), density, block)


def feed_forward(density: float, block: int) -> nn.Module:
    """A transformer's feed-forward block of 768 units, k-winners in place of its activation."""
    layers = {
        "up": nn.Linear(768, 3072),
        "winners": gs.KWinners(3072, 0.10),
        "down": nn.Linear(3072, 768),
    }
    model = nn.Sequential(OrderedDict(layers))
    return pruned(model, {"up": density, "down": density}, block)


_BLOCKS = {"conv1": 0.5, "conv2": 0.125, "linear1": 0.05}
_PUBLISHED = {"conv1": 0.5, "conv2": 0.2, "linear1": 0.1}
_BLOCKS_NAME = "speech, 95 % x 10 %, blocks of 8"
_DENSE_8 = "speech, dense, in 8 bits"
NETWORKS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "speech, sparse": (lambda: speech(1000, _PUBLISHED), SPEECH, 32),
    "speech, super-sparse": (lambda: speech(1500, {**_PUBLISHED, "linear1": 0.05}), SPEECH, 32),
    _BLOCKS_NAME: (
        lambda: speech(1504, _BLOCKS, block=8),
        SPEECH,
        32,
    ),
    f"{_BLOCKS_NAME}, in 8 bits": (
        lambda: speech(1504, _BLOCKS, block=8),
        SPEECH,
        8,
    ),
    _DENSE_8: (
        lambda: speech(1504, {}, winners=False),
        SPEECH,
        8,
    ),
    "feed-forward, 90 % x 10 %": (lambda: feed_forward(0.1, 1), (768,), 32),
    "feed-forward, 90 % x 10 %, blocks of 8": (lambda: feed_forward(0.1, 8), (768,), 32),
    "feed-forward, 95 % x 10 %, blocks of 8": (lambda: feed_forward(0.05, 8), (768,), 32),
}


def named(works: Sequence[Work], names: dict[str, str]) -> list[Work]:
    """The layers under the network's own names instead of the exporter's."""
    return [dataclasses.replace(work, layer=names.get(work.layer, work.layer)) for work in works]


def examples(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(16, *shape, generator=torch.Generator().manual_seed(1))


def planned(model: nn.Module, shape: tuple[int, ...], bits: int, folder: Path) -> gs.Engine:
    path = folder / "model.onnx"
    sample = examples(shape)
    # Batch norm as after training: it sees what the network makes of its inputs.
    with torch.no_grad():
        model.train()(sample)
    model.eval()
    if bits == 8:
        gs.quantize(model, sample)
    gs.export(model, sample[:2], path)
    return gs.Engine(path, threads=1, sample=sample.numpy())


def joules(engine: gs.Engine) -> tuple[float, str] | None:
    """Joules per inference and how measured; None without counters."""
    try:
        meter = EnergyMeter()
    except UserError:
        return None
    (x,) = engine.noise()
    calls, start = 0, time.monotonic()
    with meter:
        while time.monotonic() - start < SECONDS:
            engine(x)
            calls += 1
    return sum(meter.reading.joules.values()) / calls, meter.reading.provenance


def measure(name: str, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    build, shape, bits = NETWORKS[name]
    network = build()
    engine = planned(network, shape, bits, folder)
    own, dense = count_work(engine)
    layers = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    names = dict(zip((work.layer for work in dense if work.macs), layers, strict=True))
    own, dense = named(own, names), named(dense, names)
    model = EnergyModel()
    # Selecting winners is charged to the layers that profit from it.
    met = {work.layer for work in own if work.kind in ("both", "winners")}
    both, before = ([work for work in side if work.layer in met] for side in (own, dense))
    result: dict[str, Any] = {
        "network": name,
        "own": [work.as_dict() for work in own],
        "dense": [work.as_dict() for work in dense],
        "ratios": {},
        "shares": shares(model, own),
        "joules": joules(engine),
    }
    for memory in MEMORIES:
        pairs = {"whole": (dense, own), "both": (before, both)}
        for layer in dict.fromkeys(work.layer for work in own if work.macs):
            # Scaling the sums is part of a layer in 8 bits.
            pairs[layer] = tuple([w for w in side if w.layer == layer] for side in (dense, own))
        result["ratios"][memory] = {
            part: [ratio.low, ratio.high]
            for part, (first, second) in pairs.items()
            if second
            for ratio in [model.ratio(first, second, memory)]
        }
    return result


def shares(model: EnergyModel, own: Sequence[Work]) -> dict[str, dict[str, float]]:
    """Each layer's share of the sparse network's energy (45 nm, no reuse of registers)."""
    ranges = {}
    for memory in MEMORIES:
        each = [model.energy([w], memory, costs=COSTS[0], reuse=False) for w in own]
        ranges[memory] = {
            f"{work.layer} ({work.kind})": energy / sum(each)
            for work, energy in zip(own, each, strict=True)
        }
    return ranges


def _range(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.3g} – {bounds[1]:.3g}×"


def eight_bits(results: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of the sparse network in 8 bits against the dense one in 8 bits, both as planned."""
    named = {result["network"]: result for result in results}
    sparse, dense = named[f"{_BLOCKS_NAME}, in 8 bits"], named[_DENSE_8]
    works = [[Work(**work) for work in result["own"]] for result in (dense, sparse)]
    macs = [sum(work.macs for work in side) for side in works]
    ratios = {memory: EnergyModel().ratio(*works, memory) for memory in MEMORIES}
    return [
        f"| {sparse['network']}, against dense in 8 bits | {memory} | {macs[0]:,.0f} / "
        f"{macs[1]:,.0f} | – | {_range([ratio.low, ratio.high])} |"
        for memory, ratio in ratios.items()
    ]


def page(results: Sequence[dict[str, Any]], command: str, planned_on: str) -> str:
    lines = [
        "# Energy, modeled: how many times less than dense",
        "",
        "*Modeled*, no joules: work that is *counted* from the engine's plan for one example, "
        "times published energies, compared with the same network dense, in 32-bit floats and "
        "with ReLU. 8 bits alone take 3.9 to 7.5 times less, so the network in 8 bits is also "
        "compared with the dense one in 8 bits. A range spans two tables of "
        "costs, both ends of DRAM's, and register reuse: ideal for both networks, none for both, "
        "and (the low end, mostly) none only where zeros are skipped. The plan depends on "
        "measured times: a busy machine may choose other kernels. "
        "*Both* are the layers in which sparse weights meet sparse activations, the "
        "selection of their winners included. What the model leaves out is in "
        "[energy.md](../explanation/energy.md).",
        "",
        "| network | weights in | multiply-adds, dense / done | both sparsities | whole network |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        macs = [sum(work["macs"] for work in result[side]) for side in ("dense", "own")]
        for memory, ratios in result["ratios"].items():
            both = _range(ratios["both"]) if "both" in ratios else "–"
            lines.append(
                f"| {result['network']} | {memory} | {macs[0]:,.0f} / {macs[1]:,.0f} "
                f"| {both} | {_range(ratios['whole'])} |"
            )
    lines += eight_bits(results)
    lines += ["", "What limits the whole network: shares of the sparse network's energy", ""]
    lines += ["(45 nm, no register reuse), the three largest.", ""]
    lines += ["| network | weights in | shares |", "|---|---|---|"]
    for result in results:
        for memory, parts in result["shares"].items():
            largest = sorted(parts.items(), key=lambda item: -item[1])[:3]
            written = ", ".join(f"{layer} {share:.0%}" for layer, share in largest)
            lines.append(f"| {result['network']} | {memory} | {written} |")
    lines += ["", "Layer by layer:", "", "| network | layer | L1 | L2 | DRAM |"]
    lines += ["|---|---|---|---|---|"]
    for result in results:
        kinds = {work["layer"]: work["kind"] for work in result["own"] if work["macs"]}
        for layer in result["ratios"]["L1"]:
            if layer not in ("whole", "both"):
                cells = " | ".join(_range(result["ratios"][m][layer]) for m in MEMORIES)
                lines.append(f"| {result['network']} | {layer} ({kinds[layer]}) | {cells} |")
    measured = [r for r in results if r["joules"]]
    lines += [
        "",
        "Joules: "
        + (
            "; ".join(f"{r['network']} {r['joules'][0]:.3g} J ({r['joules'][1]})" for r in measured)
            if measured
            else "none, since this machine has no energy counter."
        ),
    ]
    lines += [
        "",
        "Costs, picojoules: float addition / multiplication; 32-bit whole addition / 8-bit "
        "multiplication; per byte in L1, L2, DRAM",
    ]
    lines += [""]
    for costs in COSTS:
        access = ", ".join(
            f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
            for low, high in costs.access.values()
        )
        lines.append(
            f"- {costs.name}: {costs.add} / {costs.multiply}; {costs.add_whole} / "
            f"{costs.multiply_whole}; {access} ({costs.source})"
        )
    lines += ["", f"Command: `{command}`  ", f"Machine (for the plan): {planned_on}, one thread"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/energy"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            results.append(measure(name, Path(folder)))
            print(f"{name}: {results[-1]['ratios']['L2']['whole']}", file=sys.stderr, flush=True)
    command = "python " + shlex.join(sys.argv)
    whole = {"command": command, "machine": machine(), "networks": results}
    whole["totals"] = {
        r["network"]: {
            side: {name: sum(work[name] for work in r[side]) for name in COUNTS}
            for side in ("dense", "own")
        }
        for r in results
    }
    text = page(results, command, machine())
    write(arguments.out, whole, text)
    print(text)


if __name__ == "__main__":
    main()
