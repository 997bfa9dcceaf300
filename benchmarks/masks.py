"""The cost of masks: a training step with a sparsifier beside the same step without.

    python benchmarks/masks.py --out docs/results/masks

The two steps are interleaved in one process; figures are medians. A rule's cost is that of its
update, spread over its interval of 100 steps (1 for top-k).
"""

from __future__ import annotations

import argparse
import copy
import shlex
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from results import write
from torch import nn
from torch.nn import functional

from gossamer.models import speech_cnn
from gossamer.runtime import machine
from gossamer.sparsity import RULES, SparsitySettings

DENSITY = 0.05
INTERVAL = 100


def mlp() -> nn.Module:
    units = [1024] * 4
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(units):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 16))


# By name: the network, the shape of an example, the batch.
CASES: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "MLP, 1,024 units, batch 128": (mlp, (1024,), 128),
    "speech CNN, batch 32": (lambda: speech_cnn(16), (1, 32, 32), 32),
    "speech CNN, batch 128": (lambda: speech_cnn(16), (1, 32, 32), 128),
}


class Step:
    """One training step, with or without masks."""

    def __init__(self, model: nn.Module, sparse: SparsitySettings | None) -> None:
        self.model = model
        self.sparsifier = sparse.sparsifier(model, DENSITY) if sparse is not None else None
        if self.sparsifier is not None:
            self.sparsifier.total_steps = 10**9
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> float:
        started = time.perf_counter()
        loss = functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.sparsifier is not None:
            self.sparsifier.step(self.optimizer)
        return time.perf_counter() - started


def measure(case: str, turns: int) -> dict[str, Any]:
    """Milliseconds of a dense step, of masking, and of one update of each rule."""
    make, shape, batch = CASES[case]
    torch.manual_seed(0)
    model = make()
    x, y = torch.randn(batch, *shape), torch.randint(16, (batch,))
    dense = Step(copy.deepcopy(model), None)
    masked = Step(copy.deepcopy(model), SparsitySettings(rule="static"))
    pairs, masking = [], []
    for turn in range(turns + 3):
        # Whoever goes second finds the caches in another state: take turns at that as well.
        both = [masked, dense] if turn % 2 else [dense, masked]
        took = {id(step): step(x, y) for step in both}
        pair = took[id(dense)], took[id(masked)]
        assert masked.sparsifier is not None
        started = time.perf_counter()
        masked.sparsifier.step(masked.optimizer)
        apart = time.perf_counter() - started
        if turn >= 3:
            pairs.append(pair)
            masking.append(apart)
    base = statistics.median(one for one, _ in pairs)
    line = {
        "case": case,
        "weights": sum(p.numel() for p in model.parameters() if p.dim() > 1),
        "dense_ms": 1e3 * base,
        "masked_ratio": statistics.median(two / one for one, two in pairs),
        "masking_ms": 1e3 * statistics.median(masking),
        "updates_ms": {},
    }
    for rule in RULES:
        if rule == "static":
            continue
        step = Step(
            copy.deepcopy(model),
            SparsitySettings(rule=rule, density_schedule="constant", mask_interval=1),
        )
        step(x, y)
        assert step.sparsifier is not None
        sparsifier, times = step.sparsifier, []
        for _ in range(5):
            started = time.perf_counter()
            # Between phases ACDC and gradual pruning do the same work; here it is forced.
            with torch.no_grad():
                sparsifier._update(step.optimizer)
            times.append(time.perf_counter() - started)
        line["updates_ms"][rule] = 1e3 * statistics.median(times)
    return line


def page(lines: list[dict[str, Any]], command: str) -> str:
    rules = list(lines[0]["updates_ms"])
    text = [
        "# The cost of masks",
        "",
        "*Measured*: medians of interleaved steps in one process, one thread. *Masking* sets "
        "masked weights to zero again, in every step. An *update* changes the masks, every "
        f"{INTERVAL} steps by default, with top-k in every step.",
        "",
        "| network | weights | dense step ms | masking ms | masking / dense step "
        "| whole masked step / dense step |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        text.append(
            f"| {line['case']} | {line['weights']:,} | {line['dense_ms']:.1f} "
            f"| {line['masking_ms']:.2f} | {line['masking_ms'] / line['dense_ms']:.1%} "
            f"| {line['masked_ratio']:.3f} |"
        )
    text += ["", f"| one update, ms | {' | '.join(rules)} |", "|---|" + "---|" * len(rules)]
    for line in lines:
        shown = " | ".join(f"{line['updates_ms'][rule]:.0f}" for rule in rules)
        text.append(f"| {line['case']} | {shown} |")
    text += ["", f"| update / dense step, spread over its interval | {' | '.join(rules)} |"]
    text += ["|---|" + "---|" * len(rules)]
    for line in lines:
        shares = [
            line["updates_ms"][rule] / line["dense_ms"] / (1 if rule == "top_k" else INTERVAL)
            for rule in rules
        ]
        text.append(f"| {line['case']} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join([*text, "", f"Command: `{command}`  ", f"Machine: {machine()}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("docs/results/masks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [measure(case, arguments.turns) for case in CASES]
    command = "python " + shlex.join(sys.argv)
    text = page(lines, command)
    write(arguments.out, {"command": command, "machine": machine(), "lines": lines}, text)
    print(text)


if __name__ == "__main__":
    main()
