"""One trained network pruned by gossamer, by NNCF and by PyTorch, with the same training loop.

    pip install nncf
    python benchmarks/pruners.py runs/mlp mnist --compressed mnist_mlp --out docs/results/pruners

``RUN`` is a dense run of `gossamer train`, ``--compressed`` the folder that `gossamer compress`
made of it. Every other way is a function of ``WAYS``: it prepares the network for a loop that is
the same for all, with what the way does after each step and each epoch. Then the exported
networks take turns in one process on one thread: in the engine, and, since zeros alone make no
file faster there, the dense network and NNCF's in onnxruntime. Writes ``OUT.md`` and ``OUT.json``.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compress import effort, portable
from numpy.typing import NDArray
from results import BATCHES, write
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

import gossamer as gs
from gossamer.data import Task, load
from gossamer.deploy.bench import take_turns
from gossamer.deploy.peers import prepared
from gossamer.runtime import Engine, machine
from gossamer.runtime.arrays import batches
from gossamer.training import evaluate, load_recipe
from gossamer.training.run import load_network

BATCH = 64
RATE, DECAY = 0.03, 5e-4
# Masks change during the first half of the training in every way, by its own schedule.
HALF = 0.5


@dataclass(frozen=True)
class Job:
    """A dense network that is about to be trained on, down to a share of its weights."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    example: Tensor
    density: float
    epochs: int
    steps: int


class Whole(nn.Module):
    """A network that is no `Sequential`: NNCF adds a module to those, which they then call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return result


# Prepares the network; returns what is done before each epoch, and what makes it an ordinary
# network with zeros at the end.
Way = Callable[[Job], tuple[Callable[[int], Any], Callable[[], Any]]]


def by_hand(job: Job) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    gs.Sparsifier(
        job.model,
        density=job.density,
        schedule=gs.Cubic(until=HALF),
        rule=gs.GraNet(),
        allocation=gs.sparsity.Global(),
        total_steps=job.steps,
    ).attach(job.optimizer)
    return lambda epoch: None, lambda: None


def nncf_magnitude(job: Job) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    import nncf
    from nncf.torch.function_hook.pruning.magnitude import schedulers

    mode = nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL
    pruned = nncf.prune(job.model, mode, ratio=0.0, examples_inputs=job.example)
    schedule = schedulers.ExponentialMagnitudePruningScheduler(
        pruned,
        mode=mode,
        initial_ratio=0.0,
        target_ratio=1 - job.density,
        target_epoch=round(job.epochs * HALF),
    )
    in_place = nncf.StripFormat.IN_PLACE
    return schedule.step, lambda: nncf.strip(pruned, do_copy=False, strip_format=in_place)


def torch_magnitude(job: Job) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    layers = [(m, "weight") for m in job.model.modules() if isinstance(m, nn.Linear)]
    total = sum(m.weight.numel() for m, _ in layers)

    def prune(epoch: int) -> None:
        left = max(1 - epoch / (job.epochs * HALF), 0) ** 3  # Zhu & Gupta 2017
        zeros = sum(int((m.weight == 0).sum()) for m, _ in layers)
        amount = max(round(total * (1 - job.density) * (1 - left)) - zeros, 0)
        kind = torch_prune.L1Unstructured
        torch_prune.global_unstructured(layers, pruning_method=kind, amount=amount)

    def finish() -> None:
        for layer, name in layers:
            torch_prune.remove(layer, name)

    return prune, finish


WAYS: dict[str, Way] = {
    "gossamer by hand": by_hand,
    "NNCF": nncf_magnitude,
    "torch.nn.utils.prune": torch_magnitude,
}


def fine_tune(
    dense: nn.Module, task: Task, way: Way, density: float, epochs: int
) -> tuple[nn.Module, float]:
    """The pruned network, and the processor seconds that it took."""
    torch.manual_seed(0)
    x = torch.from_numpy(task.features(task.train.x))
    y = torch.as_tensor(task.train.y, dtype=torch.long)
    model = Whole(copy.deepcopy(dense)).train()
    began = time.process_time()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY, nesterov=True
    )
    per_epoch = math.ceil(len(x) / BATCH)
    steps = epochs * per_epoch
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    before_epoch, finish = way(Job(model, optimizer, x[:1], density, epochs, steps))
    for epoch in range(epochs):
        before_epoch(epoch)
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            rates.step()
    finish()
    return model.eval(), time.process_time() - began


def lines_of(way: Way) -> int:
    """Lines of the way's own code, as it stands here."""
    return len(inspect.getsource(way).splitlines()) - 1  # but the signature


def measured(
    networks: Mapping[str, Path], sample: NDArray[np.float32], turns: int
) -> dict[str, Any]:
    """Seconds per example for each batch, of every network in the engine and in onnxruntime."""
    calls: dict[str, Any] = {}
    for name, file in networks.items():
        engine = Engine(file, threads=1, sample=sample)
        calls[f"{name}, engine"] = lambda x, engine=engine: engine(*x)
        calls[f"{name}, onnxruntime"] = prepared("onnxruntime", file, 1)
    result = {}
    for batch in BATCHES:
        inputs = batches(engine.graph, [sample], batch, 8)
        timed = take_turns(calls, inputs, turns=turns, threads=1)
        result[f"batch{batch}"] = {name: of.seconds / batch for name, of in timed.items()}
    return result


def page(result: dict[str, Any]) -> str:
    base = {batch: timed["dense, onnxruntime"] for batch, timed in result["seconds"].items()}
    lines = [
        "# One network, pruned by each tool",
        "",
        f"The dense `{result['model']}` on {result['task']}, pruned to "
        f"{100 * result['density']:g} % of its weights, single ones of the whole network. All but "
        f"`compress` had {result['epochs']} epochs in the same plain loop (SGD, one cycle from "
        f"{RATE:g}), with masks that change during the first half: *NNCF* by its magnitude "
        "scheduler, *torch* by the cubic schedule of Zhu & Gupta (2017), *gossamer by hand* by "
        "GraNet. `compress` had the time that stands in its row (by the clock, to the trial it "
        "chose; the others' is processor time of the training), chose all settings by itself and "
        "learned from the dense network's answers. Accuracy and times are *measured* (test "
        "split, one seed; processor time), weights *counted*. Times faster are over the dense "
        "network in onnxruntime, in turns in one process on one thread. Lines of code are those "
        "of `benchmarks/pruners.py` beside the training loop, "
        "which `compress` does not need either. Intel Neural Compressor has no pruning since "
        "version 3.",
        "",
        "| tool | test % | non-zero weights | seconds | lines of code "
        "| times faster at batch 1 / 64: in onnxruntime | in the engine |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        faster = []
        for runtime in ("onnxruntime", "engine"):
            name = f"{row['tool']}, {runtime}"
            seconds = result["seconds"]
            faster.append(" / ".join(f"{base[b] / seconds[b][name]:.2f}" for b in seconds))
        took = "–" if row["seconds"] is None else f"{row['seconds']:.0f}"
        code = "–" if row["lines"] is None else str(row["lines"])
        lines.append(
            f"| {row['tool']} | {100 * row['accuracy']:.2f} | {row['nonzero']:,} "
            f"| {took} | {code} | {faster[0]} | {faster[1]} |"
        )
    lines += ["", f"Command: `{result['command']}`  ", f"Data: {result['source']}  "]
    lines += [f"Versions: {result['versions']}  ", f"Machine: {result['machine']}", ""]
    return "\n".join(lines)


def networks_of(arguments: argparse.Namespace, task: Task) -> list[dict[str, Any]]:
    """A row for the dense network and for each tool's; writes their ONNX files."""
    example = torch.from_numpy(task.features(task.train.x[:1]))
    dense, _, _ = load_network(arguments.run)

    def row(tool: str, model: nn.Module, **more: Any) -> dict[str, Any]:
        gs.export(model, example, arguments.networks / f"{tool}.onnx")
        found = evaluate(model, task, noise=False, timing=False)
        weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
        about = {
            "tool": tool,
            "accuracy": found.accuracy,
            "nonzero": sum(int(w.count_nonzero()) for w in weights),
        }
        print(about, file=sys.stderr, flush=True)
        return {**about, "seconds": None, "lines": None, **more}

    rows = [row("dense", dense)]
    if arguments.compressed:
        compressed, _, _ = load_network(arguments.compressed / "sparse")
        minutes = effort(arguments.compressed)["result"]
        rows.append(row("gossamer compress", compressed, seconds=minutes))
    for tool, way in WAYS.items():
        model, seconds = fine_tune(dense, task, way, arguments.density, arguments.epochs)
        rows.append(row(tool, model, seconds=seconds, lines=lines_of(way)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a dense run of `gossamer train`")
    parser.add_argument("task")
    parser.add_argument("--compressed", type=Path, help="folder of `gossamer compress`")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--networks", type=Path, default=Path("pruners"), help="for ONNX files")
    parser.add_argument("--time-again", action="store_true", help="only the times, of these files")
    parser.add_argument("--out", type=Path, default=Path("docs/results/pruners"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = load(arguments.task)
    arguments.networks.mkdir(exist_ok=True)
    if arguments.time_again:
        rows = json.loads(arguments.out.with_suffix(".json").read_text())["rows"]
    else:
        rows = networks_of(arguments, task)
    files = {row["tool"]: arguments.networks / f"{row['tool']}.onnx" for row in rows}
    words = [word for word in sys.argv[1:] if word != "--time-again"]
    result = {
        "model": load_recipe(arguments.run).model,
        "task": arguments.task,
        "density": arguments.density,
        "epochs": arguments.epochs,
        "rows": rows,
        "seconds": measured(files, task.features(task.test.x[:512]), arguments.turns),
        "command": "python " + shlex.join(["benchmarks/pruners.py", *map(portable, words)]),
        "source": task.source,
        "versions": ", ".join(f"{name} {version(name)}" for name in ("nncf", "onnxruntime")),
        "machine": machine(),
    }
    text = page(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
