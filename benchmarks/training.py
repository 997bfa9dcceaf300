"""A step of sparse training beside dense, masked dense and sparselab, in one process.

A step is forward, backward, optimizer (SGD with momentum and weight decay) and masks. The
contestants of a case take turns, one step each; the result is the 20th percentile over the turns
and the ratio to dense torch. With one thread the time is the processor time of the process,
which other programs on the machine hardly disturb; with several it is wall time, and
idle threads of OpenMP sleep instead of spinning, since sparselab brings a second OpenMP.

    python benchmarks/training.py [--cases mlp speech ...] [--sparsity 0.8 0.9 0.95 0.98]
                                  [--threads 1] [--turns 30] [--out docs/results/training]

    dense            torch, all weights
    masked           the same under a Sparsifier: masked weights are zeros that torch multiplies
    gossamer         with accelerate_sparse, equally many non-zeros in every output (FanIn)
    gossamer, blocks the same with blocks of 8 outputs
    sparselab        its SparseLinear in place of every sparse Linear; convolutions stay masked.
                     Left out where it is not installed (pip install --no-deps sparselab)

The MLP is 1024 - 4 x 1024 - 10 at batch 128, its last layer dense; the transformer block has 512
features, 8 heads and 2048 hidden units, on 8 x 64 tokens, all six layers sparse; the speech
network is that of the models room with ReLU at batch 64, first and last layer dense. In the
cases with winners 10 % of the units stay active (the published 9.5, 12.5 and 10 % in the speech
network), by k-winners in place of ReLU or GELU, in all contestants; gossamer may then visit active
inputs only. The convolution alone is 64 -> 64, 5x5, on 14x14 inputs at batch 64, with k-winners
before it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.files import write_text
from gossamer.runtime import machine

WINNERS = 0.1
FIXED = {"allocation": gs.sparsity.Uniform(), "rule": gs.sparsity.Static()}
PHASES = ("forward", "backward", "optimizer", "masks")


class TransformerBlock(nn.Module):
    """Attention and feed-forward of 512 features, 8 heads; pre-norm."""

    def __init__(
        self, features: int = 512, heads: int = 8, hidden: int = 2048, winners: bool = False
    ) -> None:
        super().__init__()
        self.active = gs.nn.KWinners(hidden, WINNERS) if winners else nn.GELU()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(features), nn.LayerNorm(features)])
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)
        self.up = nn.Linear(features, hidden)
        self.down = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(self.active(self.up(self.norms[1](x))))


def mlp(winners: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(4):
        active = gs.nn.KWinners(1024, WINNERS) if winners else nn.ReLU()
        layers += [nn.Linear(1024, 1024), active]
    return nn.Sequential(*layers, nn.Linear(1024, 10))


@dataclass
class Case:
    model: Callable[[], nn.Module]
    batch: Callable[[], Tensor]
    exclude: tuple[str, ...] = ()


CASES = {
    "mlp": Case(mlp, lambda: torch.randn(128, 1024), ("last",)),
    "mlp, winners": Case(lambda: mlp(True), lambda: torch.randn(128, 1024), ("last",)),
    "transformer": Case(TransformerBlock, lambda: torch.randn(8, 64, 512)),
    "transformer, winners": Case(
        lambda: TransformerBlock(winners=True), lambda: torch.randn(8, 64, 512)
    ),
    "speech": Case(gs.models.speech_cnn, lambda: torch.randn(64, 1, 32, 32), ("first", "last")),
    "speech, winners": Case(
        lambda: gs.models.speech_cnn(activation_density=(0.095, 0.125, 0.1)),
        lambda: torch.randn(64, 1, 32, 32),
        ("first", "last"),
    ),
    "convolution, winners": Case(
        lambda: nn.Sequential(gs.nn.KWinners2d(64, WINNERS), nn.Conv2d(64, 64, 5)),
        lambda: torch.randn(64, 64, 14, 14, requires_grad=True),
    ),
}


def with_sparselab(model: nn.Module, sparsifier: gs.Sparsifier, sparsity: float) -> bool:
    """Replace every sparse Linear by sparselab's layer; False where it is not installed."""
    try:
        import sparselab
    except ImportError:
        return False
    linear = {n: w.module for n, w in sparsifier.weights.items() if isinstance(w.module, nn.Linear)}
    for name, layer in linear.items():
        owner, _, own = name.rpartition(".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch: sparse CSR is in beta
            sparse = sparselab.SparseLinear(
                layer.in_features, layer.out_features, sparsity=sparsity
            )
        setattr(model.get_submodule(owner), own, sparse)
    return True


class Contestant:
    """One model with its optimizer; :meth:`step` gives the seconds of each phase."""

    def __init__(self, kind: str, case: Case, sparsity: float, clock: Callable[[], float]) -> None:
        torch.manual_seed(0)
        self.model = case.model()
        self.x = case.batch()
        self.clock = clock
        self.available = True
        self.sparsifier: gs.Sparsifier | None = None
        self.accelerator: Any = None
        if kind != "dense":
            pattern = gs.Block(8) if "blocks" in kind else gs.sparsity.FanIn()
            self.sparsifier = gs.Sparsifier(
                self.model, 1.0 - sparsity, pattern=pattern, exclude=case.exclude, **FIXED
            )
        if kind == "sparselab":
            assert self.sparsifier is not None
            self.available = with_sparselab(self.model, self.sparsifier, sparsity)
            convolutions = [
                w.module
                for w in self.sparsifier.weights.values()
                if isinstance(w.module, nn.Conv2d)
            ]
            self.sparsifier = None
            if convolutions:
                self.sparsifier = gs.Sparsifier(
                    self.model,
                    1.0 - sparsity,
                    pattern=gs.sparsity.FanIn(),
                    exclude=case.exclude,
                    **FIXED,
                )
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4
        )
        if kind.startswith("gossamer"):
            assert self.sparsifier is not None
            self.accelerator = gs.accelerate_sparse(self.model, self.sparsifier, self.optimizer)

    def step(self) -> list[float]:
        times = [self.clock()]
        loss = self.model(self.x).square().mean()
        times.append(self.clock())
        loss.backward()
        times.append(self.clock())
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.x.grad = None
        times.append(self.clock())
        if self.sparsifier is not None:
            self.sparsifier.step()
        times.append(self.clock())
        return [after - before for before, after in itertools.pairwise(times)]

    def sparse_layers(self) -> str:
        if self.accelerator is None:
            return ""
        choices = self.accelerator.choices.values()
        active = sum(choice.active for choice in choices)
        listed = f", {active} at active inputs" if active else ""
        return f"{sum(choice.sparse for choice in choices)} of {len(choices)}{listed}"


def measure(name: str, sparsity: float, turns: int, threads: int) -> dict[str, Any]:
    clock = time.process_time if threads == 1 else time.perf_counter
    kinds = ("dense", "masked", "gossamer", "gossamer, blocks", "sparselab")
    contestants = {kind: Contestant(kind, CASES[name], sparsity, clock) for kind in kinds}
    contestants = {kind: c for kind, c in contestants.items() if c.available}
    steps: dict[str, list[list[float]]] = {kind: [] for kind in contestants}
    for turn in range(turns + 3):
        for kind, contestant in contestants.items():
            seconds = contestant.step()
            if turn >= 3:  # the first steps choose layers and warm caches
                steps[kind].append(seconds)
    result: dict[str, Any] = {"case": name, "sparsity": sparsity, "threads": threads, "steps": {}}
    for kind, contestant in contestants.items():
        table = np.array(steps[kind])
        result["steps"][kind] = {
            "seconds": float(np.quantile(table.sum(1), 0.2)),
            **{p: float(np.quantile(table[:, i], 0.2)) for i, p in enumerate(PHASES)},
            "sparse_layers": contestant.sparse_layers(),
        }
    return result


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| case | sparsity | threads | contestant | step, ms | against dense | forward | backward "
        "| optimizer | masks | layers chosen |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        dense = result["steps"]["dense"]["seconds"]
        for kind, row in result["steps"].items():
            phases = " | ".join(f"{row[phase] * 1e3:.2f}" for phase in PHASES)
            lines.append(
                f"| {result['case']} | {result['sparsity']:.0%} | {result['threads']} | {kind} | "
                f"{row['seconds'] * 1e3:.2f} | {dense / row['seconds']:.2f}x | {phases} | "
                f"{row['sparse_layers']} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--sparsity", nargs="*", type=float, default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md, row by row")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(arguments.threads):
        # sparselab brings an OpenMP of its own, which reads this when it is loaded. Were the
        # threads of the two to wait by spinning, each would hold the cores that the other needs.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(arguments.threads)
    head = f"{machine()}; torch {torch.__version__}; 20th percentile of {arguments.turns} turns"
    print(head + "\n", flush=True)
    results = []
    for name in arguments.cases:
        for sparsity in arguments.sparsity:
            results.append(measure(name, sparsity, arguments.turns, arguments.threads))
            rows = table(results).splitlines()
            new = len(results[-1]["steps"])
            print("\n".join(rows if len(results) == 1 else rows[-new:]), flush=True)
            if arguments.out:
                command = "python benchmarks/training.py " + " ".join(sys.argv[1:])
                summary = {"machine": head, "command": command, "results": results}
                write_text(arguments.out.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")
                text = f"# A step of sparse training\n\nMade by `{command}`. All times are measured"
                text += f", in milliseconds.\n\n{head}\n\n{table(results)}\n"
                write_text(arguments.out.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
