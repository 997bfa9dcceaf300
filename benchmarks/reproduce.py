"""Train reference networks from several seeds and tabulate them beside published figures.

    python benchmarks/reproduce.py mnist --models image_cnn image_cnn_sparse \
        --seeds 0 1 2 --workers 2 --set epochs=8 --out docs/results/mnist

A network may bring settings of its own, after its name:

    python benchmarks/reproduce.py speech_commands --set epochs=60 \
        --models speech_cnn "speech_cnn weight_density=0.05" --out docs/results/speech_long

Each training runs on its own core. Finished ones are kept in ``--runs`` and not trained again,
so that an interrupted benchmark continues. Writes ``OUT.json`` and ``OUT.md``; ``--table-only``
writes ``OUT.md`` again from ``OUT.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import tomllib
from pathlib import Path
from typing import Any

from published import OURS
from results import write


def one(task_name: str, model: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, evaluate and save one network; a finished one is read back."""
    done = folder / "metrics.json"
    if done.exists():
        return json.loads(done.read_text())
    import torch

    from gossamer.data import load
    from gossamer.training import Recipe, train

    torch.set_num_threads(1)
    task = load(task_name)
    folder.mkdir(parents=True, exist_ok=True)
    trained = train(
        Recipe(task_name, model, settings),
        task,
        checkpoint=folder / "checkpoint.safetensors",
        on_epoch=lambda epoch: print(
            f"{folder.name}: epoch {epoch.epoch}, loss {epoch.loss:.4f}, validation "
            f"{epoch.accuracy:.2%}, {epoch.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        ),
    )
    return trained.save(folder)


def spread(values: list[float], digits: int = 0) -> str:
    """Mean and, of several, standard deviation."""
    text = f"{statistics.fmean(values):,.{digits}f}"
    return text + (f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else "")


def table(rows: dict[str, list[dict[str, Any]]], task: str) -> str:
    """Markdown: one line a network, mean and standard deviation over seeds."""
    lines = [
        "| network | test accuracy % | published % | noise score | published | non-zero weights "
        "| weight density | activation density | multiply-adds: dense / weights / both |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, runs in rows.items():
        accuracy = [100 * run["accuracy"] for run in runs]
        noise = [run["noise"]["score"] for run in runs]
        published = OURS.get((task, model))
        first = runs[0]
        macs = {
            kind: statistics.fmean(run["macs"][kind] for run in runs)
            for kind in ("dense", "weights", "both")
        }
        lines.append(
            f"| {model} | {spread(accuracy, 2)} "
            f"| {published.shown_accuracy() if published else '–'} "
            f"| {spread(noise)} of {first['noise']['of']:,} "
            f"| {published.shown_score() if published else '–'} "
            f"| {first['weights']['nonzero']:,} of {first['weights']['total']:,} "
            f"| {first['weights']['density']:.3f} "
            f"| {statistics.fmean(run['activations']['density'] for run in runs):.3f} "
            f"| {macs['dense']:,.0f} / {macs['weights']:,.0f} / {macs['both']:,.0f} |"
        )
    return "\n".join(lines)


NOTES = {
    "mnist": """\
As published: no batch norms, a dense network of 30 and 30 channels and 1,000 units, a sparse one of
32 and 64 channels and 700 units with 1.5 times as many winners at inference, noisy pixels set to
mean + 2 std before standardizing. Not as published: the training (momentum, one cycle of the
learning rate).""",
    "speech_commands": """\
The published figures of the dense network are of the whole data set (v0.01), with about ten times
as many training clips: they cannot be compared with ours. The sparse networks are those of the
authors' later library, for which the paper has no accuracy; its own sparse networks are larger
([the seed](seed.md#speech-networks)). The figures here are of a subset of the test archive with a
fixed speaker-disjoint split, and are comparable only with each other.""",
}


def page(rows: dict[str, list[dict[str, Any]]], task: str, seeds: list[int], command: str) -> str:
    """The whole Markdown page: table, notes, and what it takes to repeat it."""
    first = next(iter(rows.values()))[0]
    of_seeds = f"Seed {seeds[0]}"
    if len(seeds) > 1:
        of_seeds = f"Mean ± standard deviation over seeds {', '.join(map(str, seeds))}"
    lines = [
        f"# {task}: dense and sparse",
        "",
        f"{of_seeds}, on the test split "
        f"({first['examples']:,} examples); no setting was chosen on it. Weights and multiply-adds "
        "(per inference, by weights that are not zero and by inputs that are not zero) are "
        "*counted*; accuracy, noise score and activation density are *measured*.",
        "",
        table(rows, task),
        "",
        NOTES.get(task, ""),
        "",
        f"Command: `{command}`  ",
        f"Data: {first['source']}  ",
        f"Machine: {first['machine']}, one thread a training",
        "",
        "Settings, where they differ from the defaults of `gossamer.training.TrainingConfig`:",
        "",
    ]
    for model, runs in rows.items():
        shown = {name: value for name, value in runs[0]["settings"].items() if name != "seed"}
        lines.append(f"- `{model}`: `{json.dumps(shown)}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--models", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.table_only:
        result = json.loads(arguments.out.with_suffix(".json").read_text())
        text = page(result["runs"], arguments.task, arguments.seeds, result["command"])
        arguments.out.with_suffix(".md").write_text(text)
        return

    os.environ["OMP_NUM_THREADS"] = "1"
    from loky import get_reusable_executor

    settings = tomllib.loads("\n".join(arguments.set))
    jobs = {}
    executor = get_reusable_executor(max_workers=arguments.workers, timeout=None)
    # Seeds outermost: the first complete set of networks is there as early as possible.
    for seed in arguments.seeds:
        for model in arguments.models:
            name, *own = model.split()
            chosen = {**settings, **tomllib.loads("\n".join(own)), "seed": seed}
            called = "-".join([arguments.task, name, *arguments.set, *own, str(seed)])
            folder = arguments.runs / called
            jobs[model, seed] = executor.submit(one, arguments.task, name, chosen, folder)
    rows = {
        model: [jobs[model, seed].result() for seed in arguments.seeds]
        for model in arguments.models
    }
    for runs in rows.values():
        for run in runs:
            run.pop("layers", None)
    command = "python " + shlex.join(sys.argv)
    first = next(iter(rows.values()))[0]
    text = page(rows, arguments.task, arguments.seeds, command)
    write(arguments.out, {"command": command, "machine": first["machine"], "runs": rows}, text)
    print(text)


if __name__ == "__main__":
    main()
