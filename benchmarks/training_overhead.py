"""What `fit` costs beside a plain torch loop with the same network, data and augmentation.

    python benchmarks/training_overhead.py --out docs/results/training_overhead

The two train epoch by epoch in turns, in one process and one thread, and are timed in processor
time, so that other programs on the machine count for neither. Both draw the same augmentation,
take the same optimizer and schedule, and end each epoch with the accuracy on validation data.
Data are random: only their shape costs time.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import write
from torch import nn
from torch.nn import functional

import gossamer as gs
from gossamer.data import Augmentation, Task, arrays
from gossamer.runtime import machine
from gossamer.training import Epoch, TrainingConfig, fit
from gossamer.training.config import PRECISIONS

BATCH = 64
SPECAUGMENT = {"shift": 4, "time_mask": 6, "frequency_mask": 3}


@dataclass(frozen=True)
class Case:
    """A network and the examples of an epoch."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    examples: int
    augmentation: dict[str, Any]


CASES = {
    "mlp, no augmentation": Case(
        lambda: gs.models.mlp(12, input_shape=(1, 32, 32), hidden=64), (32, 32), 6400, {}
    ),
    "speech_cnn": Case(
        lambda: gs.models.speech_cnn(12, input_shape=(1, 32, 32)), (32, 32), 640, SPECAUGMENT
    ),
    "tc_resnet": Case(
        lambda: gs.models.tc_resnet(12, input_shape=(1, 40, 101)), (40, 101), 640, SPECAUGMENT
    ),
    "ds_cnn": Case(
        lambda: gs.models.ds_cnn(12, input_shape=(1, 32, 32)), (32, 32), 640, SPECAUGMENT
    ),
    "resnet20": Case(
        lambda: gs.models.resnet(12, blocks=(3, 3, 3), width=16),
        (3, 32, 32),
        640,
        {"flip": True, "crop": 4},
    ),
}


def random_task(case: Case) -> Task:
    rng = np.random.default_rng(0)

    def split(number: int) -> tuple[Any, Any]:
        x = rng.standard_normal((number, *case.shape), dtype=np.float32)
        return x, np.arange(number) % 12

    return arrays(split(case.examples), split(case.examples // 8), split(24), name="random")


class Plain:
    """The loop that one would write without gossamer; :meth:`epoch` is one pass."""

    def __init__(self, case: Case, task: Task, config: TrainingConfig) -> None:
        torch.manual_seed(0)
        self.model = case.build()
        self.x = task.features(task.train.x)
        self.y = torch.from_numpy(task.train.y)
        self.held_out = torch.from_numpy(task.features(task.validation.x))
        self.held_out_y = torch.from_numpy(task.validation.y)
        self.augmentation = Augmentation(**case.augmentation)
        self.rng = np.random.default_rng(0)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            nesterov=True,
            weight_decay=config.weight_decay,
        )
        steps = len(self.x) // BATCH * config.epochs
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, total_steps=steps + 1
        )

    def epoch(self) -> None:
        self.model.train()
        order = self.rng.permutation(len(self.x))
        total = 0.0
        for start in range(0, len(order) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            x = torch.from_numpy(self.augmentation(self.x[index], self.rng))
            loss = functional.cross_entropy(self.model(x), self.y[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += float(loss.detach())
        self.model.eval()
        with torch.no_grad():
            answers = torch.cat([self.model(part) for part in self.held_out.split(256)])
        (answers.argmax(1) == self.held_out_y).float().mean().item()


def compare(case: Case, epochs: int, precision: str) -> dict[str, Any]:
    """Processor time of an epoch by `fit` over that of a plain one, and its shares by part."""
    task = random_task(case)
    config = TrainingConfig(
        epochs=epochs + 1,
        batch_size=BATCH,
        learning_rate=0.01,
        device="cpu",
        precision=precision,
        **case.augmentation,
    )
    plain = Plain(case, task, config)
    torch.manual_seed(0)
    model = case.build()
    times: dict[str, list[float]] = {"plain": [], "fit": []}
    parts: dict[str, float] = {}
    started = time.process_time()

    def turn(epoch: Epoch) -> None:
        nonlocal started
        times["fit"].append(time.process_time() - started)
        started = time.process_time()
        plain.epoch()
        times["plain"].append(time.process_time() - started)
        for name, seconds in epoch.parts.items():
            parts[name] = parts.get(name, 0.0) + seconds
        started = time.process_time()

    with tempfile.TemporaryDirectory() as folder:  # as `gossamer train`: checkpoints and a bar
        fit(
            model,
            task,
            config,
            checkpoint=Path(folder) / "checkpoint.safetensors",
            on_epoch=turn,
            progress=True,
        )
    # The first of each warms caches up.
    ratios = [f / p for f, p in zip(times["fit"][1:], times["plain"][1:], strict=True)]
    total = sum(parts.values())
    shares = {name: seconds / total for name, seconds in parts.items()}
    return {"ratio": statistics.median(ratios), "ratios": ratios, "shares": shares}


def page(lines: dict[str, dict[str, Any]], command: str) -> str:
    rows = [
        f"| {name} | {line['float32']['ratio']:.2f} | {line['bfloat16']['ratio']:.2f} | "
        + ", ".join(f"{part} {share:.0%}" for part, share in line["float32"]["shares"].items())
        + " |"
        for name, line in lines.items()
    ]
    return "\n".join(
        [
            "# What `fit` costs beside a plain loop",
            "",
            "Processor time of an epoch of `fit` (with its checkpoint and progress bar, as in "
            "`gossamer train`) over that of a plain torch loop with the same network, data, "
            "augmentation, optimizer and schedule. *Measured*: the median of the ratios of "
            "neighboring epochs; the two take turns in one process, one thread, on a machine "
            "with other load. Aim: at most 1.10. Ratios are below 1 where `fit` puts the channels "
            "of 2-d convolutions last in memory, which the plain loop does not. *bfloat16*: `fit` "
            "with `precision=bfloat16` beside the same loop in float32; it gains on processors "
            "that multiply bfloat16 themselves (`avx512_bf16` or `amx_bf16` in `lscpu`).",
            "",
            "| network | fit / plain | bfloat16 | where `fit` spends its time, float32 |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Command: `{command}`  ",
            f"Machine: {machine()}, one thread",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        lines[name] = {
            precision: compare(case, arguments.epochs, precision) for precision in PRECISIONS
        }
        print(name, lines[name], file=sys.stderr, flush=True)
    text = page(lines, "python " + shlex.join(sys.argv))
    write(arguments.out, lines, text)
    print(text)


if __name__ == "__main__":
    main()
