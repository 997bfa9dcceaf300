"""Dense networks beside the sparse ones made of them: accuracy, weights, and engine time.

    gossamer compress RUN DATA --lose-at-most accuracy=0.001 --out OUT
    python benchmarks/compress.py --runs dense=OUT/dense sparse=OUT/sparse

``--runs`` takes a pair of run directories and can be repeated, a row each. The dense network runs
in onnxruntime, in OpenVINO where it is installed, and in the engine; the sparse one in the engine;
all in turns in one process, on one thread, at batch 1 and 64. The folder above both says how
many trials and minutes it took. Writes ``OUT.md`` and ``OUT.json``; rows and ``notes``
(paragraphs written by hand) that are in the latter already stay.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from results import BATCHES, write

from gossamer.deploy.bench import take_turns
from gossamer.deploy.peers import PEERS, prepared
from gossamer.errors import UserError
from gossamer.runtime import Engine, machine
from gossamer.runtime.arrays import batches
from gossamer.search import Experiment, chosen_trial

ABOUT = """\
Accuracy is *measured* on the test split, one seed a row; weights are *counted*. Times faster is
the time of the dense network in a runtime over that of the sparse network in the engine
(*measured*, processor time on one thread, medians of turns in one process). Seconds to the first
answer and minutes to the chosen one count from the start of the first trial; goals are kept on
validation examples, of which the search sees nothing but these."""


def pair(texts: list[str]) -> dict[str, Path]:
    folders = dict(text.split("=", 1) for text in texts if "=" in text)
    if set(folders) != {"dense", "sparse"}:
        raise UserError(f"--runs {' '.join(texts)}: write it as dense=DIR sparse=DIR")
    return {name: Path(folder) for name, folder in folders.items()}


def figures(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    kept = ("task", "model", "settings", "accuracy", "examples", "weights", "activations", "macs")
    return {key: metrics[key] for key in kept}


def effort(folder: Path) -> dict[str, Any]:
    """The search that a compression made: its goals, and how long it took to the result."""
    storage = f"sqlite:///{(folder / 'search.db').resolve()}"
    experiment = Experiment.from_toml(folder / "experiment.toml", storage=storage)
    ended = [
        (trial.started + trial.seconds, trial)
        for trial in experiment.trials()
        if trial.state == "complete" and trial.started is not None and trial.seconds is not None
    ]
    began = min(trial.started or 0 for _, trial in ended)
    chosen = chosen_trial(experiment)
    return {
        "trials": len(ended),
        "first": min(end for end, _ in ended) - began,
        "result": next(end for end, trial in ended if trial.number == chosen.number) - began,
        "inside": experiment.frontier().feasible,
        "goals": {
            metric.name: metric.threshold
            for metric in experiment.metrics
            if metric.threshold is not None
        },
        "values": {metric.name: chosen.values[metric.name] for metric in experiment.metrics},
        "parameters": chosen.parameters,
    }


def seconds(runs: dict[str, Path], turns: int) -> dict[str, dict[str, float]]:
    """Seconds per example for each batch, of each contestant; peers' dense networks first."""
    file = runs["dense"] / "examples.npy"  # of a network of one's own there is none
    if file.exists():
        sample = np.load(file)
    else:
        (sample,) = Engine(runs["dense"] / "model.onnx", threads=1).noise(64)
    calls: dict[str, Any] = {}
    for name in ("onnxruntime", "openvino"):
        if importlib.util.find_spec(PEERS[name].module) is not None:
            calls[f"dense, {name}"] = prepared(name, runs["dense"] / "model.onnx", 1)
    engines = {n: Engine(f / "model.onnx", threads=1, sample=sample) for n, f in runs.items()}
    for name, engine in engines.items():
        calls[f"{name}, engine"] = lambda x, engine=engine: engine(*x)
    found = {}
    for batch in BATCHES:
        inputs = batches(engines["dense"].graph, [sample], batch, 8)
        timed = take_turns(calls, inputs, turns=turns, threads=1)
        found[f"batch{batch}"] = {name: of.seconds / batch for name, of in timed.items()}
    return found


def page(result: dict[str, Any]) -> str:
    lines = ["# Compressed networks beside dense ones", "", ABOUT]
    lines += [
        "",
        "| network, data | test %: dense / sparse | non-zero weights | activation density |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        dense, sparse = row["dense"], row["sparse"]
        lines.append(
            f"| {row['name']}: {dense['model']}, {dense['task']} "
            f"| {100 * dense['accuracy']:.2f} / {100 * sparse['accuracy']:.2f} "
            f"| {sparse['weights']['nonzero']:,} of {dense['weights']['nonzero']:,} "
            f"| {sparse['activations']['density']:.3f} |"
        )
    lines += ["", "| network | goals | validation | trials | first answer, s | result, minutes |"]
    lines += ["|---" * 6 + "|"]
    for row in result["rows"]:
        search = row["search"]
        goals, values = (
            ", ".join(f"{name} {value:.4g}" for name, value in search[key].items())
            for key in ("goals", "values")
        )
        inside = "" if search["inside"] else " (goals missed)"
        lines.append(
            f"| {row['name']} | {goals} | {values}{inside} | {search['trials']} "
            f"| {search['first']:.0f} | {search['result'] / 60:.0f} |"
        )
    lines += ["", "| network | batch | against | times faster |", "|---|---|---|---|"]
    for row in result["rows"]:
        for batch, timed in row["seconds"].items():
            own = timed["sparse, engine"]
            lines += [
                f"| {row['name']} | {batch.removeprefix('batch')} | {name} | {each / own:.2f} |"
                for name, each in timed.items()
                if name != "sparse, engine"
            ]
    lines += [line for note in result["notes"] for line in ("", note)]
    lines += ["", *(f"    {made}" for row in result["rows"] for made in row["made"])]
    lines += ["", "| network | times measured on |", "|---|---|"]
    for row in result["rows"]:
        beside = ", shared with other programs" if row["shared"] else ""
        lines.append(f"| {row['name']} | {row['machine']}{beside} |")
    lines += ["", f"Command: `{result['command']}`"]
    return "\n".join(lines) + "\n"


def portable(word: str) -> str:
    """An argument without the folders above the last two, which differ between machines."""
    kind, equals, folder = word.partition("=")
    return f"{kind}={Path(*Path(folder).parts[-2:])}" if equals else word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs=2, action="append", required=True)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--made", nargs="+", default=[], help="commands that made these runs")
    parser.add_argument("--shared", action="store_true", help="other programs ran beside it")
    parser.add_argument("--out", type=Path, default=Path("docs/results/compress"))
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".json")
    stored = json.loads(file.read_text()) if file.exists() else {"rows": [], "notes": []}
    rows = {row["name"]: row for row in stored["rows"]}
    for texts in arguments.runs:
        runs = pair(texts)
        row = {"name": runs["sparse"].parent.name}
        row |= {name: figures(run) for name, run in runs.items()}
        row |= {"search": effort(runs["sparse"].parent), "seconds": seconds(runs, arguments.turns)}
        row |= {"machine": machine(), "shared": arguments.shared}
        rows[row["name"]] = row | {"made": arguments.made}
    words = [word for word in sys.argv[1:] if word not in ("--made", *arguments.made)]
    result = {
        "command": "python " + shlex.join(["benchmarks/compress.py", *map(portable, words)]),
        "notes": stored["notes"],
        "rows": list(rows.values()),
    }
    text = page(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
