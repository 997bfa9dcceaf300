"""Dense networks beside the sparse ones made of them: accuracy, weights, and engine time.

    gossamer compress RUN DATA --lose-at-most accuracy=0.001 --out OUT
    python benchmarks/compress.py --runs dense=OUT/dense sparse=OUT/sparse

``--runs`` takes a pair of run directories and can be repeated, a row each. The dense network runs
in onnxruntime, in OpenVINO where it is installed, and in the engine; the sparse one in the engine;
all in turns in one process, on one thread, at batch 1 and 64. The folder above both says how
many trials and minutes it took. ``GOALS`` are compared with what each row reached. Writes
``OUT.md`` and ``OUT.json``; rows and ``notes`` (by heading, written by hand) that are in the latter
already stay, and ``--table-only`` writes the page from them alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import BATCHES, write

from gossamer.deploy.bench import take_turns
from gossamer.deploy.peers import PEERS, prepared
from gossamer.energy import MEMORIES, EnergyModel, count_work
from gossamer.errors import UserError
from gossamer.runtime import Engine, machine
from gossamer.runtime.arrays import batches
from gossamer.search import Experiment, chosen_trial

# By folder: what each compression was to reach.
GOALS = {
    "mnist_mlp": {"lost": 0.1, "weights": 5, "onnxruntime": 10},
    "mnist_mlp_95x90": {"lost": 0.1, "weights": 5, "units": 10, "onnxruntime": 10},
    "mnist_cnn": {"lost": 0.1, "weights": 5, "units": 10, "onnxruntime": 10},
    "tc_resnet8": {"lost": 0.3, "onnxruntime": 4},
    "encoder": {"lost": 0.5, "onnxruntime": 2},
    "cnn2": {"lost": 0.2, "weights": 10, "peer1": 8, "peer64": 6, "energy": 20},
    "resnet20": {"lost": 0.5, "weights": 10, "onnxruntime": 3},
}
FIRST_ANSWER = 60  # seconds that it may take, for every network


def times_faster(row: dict[str, Any], batch: int, peer: str = "") -> float:
    """The fastest dense network in a runtime (or that in ``peer``) over the sparse one, in time."""
    timed = row["seconds"][f"batch{batch}"]
    peers = [s for name, s in timed.items() if "engine" not in name and name.endswith(peer)]
    return float(min(peers) / timed["sparse, engine"])


class Figure(NamedTuple):
    """What a goal limits: its words, whether the limit is the least, and the value."""

    words: str
    least: bool
    value: Callable[[dict[str, Any]], float]


FIGURES = {
    "lost": Figure(
        "points of accuracy lost on test",
        False,
        lambda row: 100 * (row["dense"]["accuracy"] - row["sparse"]["accuracy"]),
    ),
    "weights": Figure(
        "% of the weights", False, lambda row: 100 * row["sparse"]["weights"]["density"]
    ),
    "units": Figure(
        "% of the units active", False, lambda row: 100 * row["sparse"]["activations"]["density"]
    ),
    "onnxruntime": Figure(
        "times as fast as dense in onnxruntime, batch 1",
        True,
        lambda row: times_faster(row, 1, "onnxruntime"),
    ),
    "peer1": Figure(
        "times as fast as the fastest dense peer, batch 1", True, lambda row: times_faster(row, 1)
    ),
    "peer64": Figure(
        "times as fast as the fastest dense peer, batch 64", True, lambda row: times_faster(row, 64)
    ),
    "energy": Figure(
        "times less energy, the least of all memories and costs (modeled)",
        True,
        lambda row: min(low for low, _ in row["energy"].values()),
    ),
}

ABOUT = """\
Accuracy is *measured* on the test split, one seed a row; weights are *counted*; energy is *modeled*
(work that the engine's plan does, times published costs, [energy](energy.md)). Times faster is
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


def contestants(runs: dict[str, Path]) -> tuple[dict[str, Engine], np.ndarray]:
    """The networks in the engine, on one thread, and examples for them."""
    file = runs["dense"] / "examples.npy"  # of a network of one's own there is none
    if file.exists():
        sample = np.load(file)
    else:
        (sample,) = Engine(runs["dense"] / "model.onnx", threads=1).noise(64)
    engines = {n: Engine(f / "model.onnx", threads=1, sample=sample) for n, f in runs.items()}
    return engines, sample


def energy(engine: Engine) -> dict[str, list[float]]:
    """Times less energy than the same layers dense, least and most, by where the weights live."""
    own, dense = count_work(engine)
    ratios = {memory: EnergyModel().ratio(dense, own, memory) for memory in MEMORIES}
    return {memory: [ratio.low, ratio.high] for memory, ratio in ratios.items()}


def seconds(
    dense: Path, engines: dict[str, Engine], sample: np.ndarray, turns: int
) -> dict[str, dict[str, float]]:
    """Seconds per example for each batch, of each contestant; peers' dense networks first."""
    calls: dict[str, Any] = {}
    for name in ("onnxruntime", "openvino"):
        if importlib.util.find_spec(PEERS[name].module) is not None:
            calls[f"dense, {name}"] = prepared(name, dense / "model.onnx", 1)
    for name, engine in engines.items():
        calls[f"{name}, engine"] = lambda x, engine=engine: engine(*x)
    found = {}
    for batch in BATCHES:
        inputs = batches(engines["dense"].graph, [sample], batch, 8)
        timed = take_turns(calls, inputs, turns=turns, threads=1)
        found[f"batch{batch}"] = {name: of.seconds / batch for name, of in timed.items()}
    return found


def reached(rows: list[dict[str, Any]]) -> list[str]:
    """The goals of each network beside what it reached."""
    lines = ["| network | goal | wanted | reached | |", "|---|---|---|---|---|"]
    for row in rows:
        for name, limit in GOALS.get(row["name"], {}).items():
            figure = FIGURES[name]
            value = figure.value(row)
            missed = limit - value if figure.least else value - limit
            lines.append(
                f"| {row['name']} | {figure.words} | at {'least' if figure.least else 'most'} "
                f"{limit:g} | {value:.2f} | {f'missed by {missed:.2f}' if missed > 0 else 'met'} |"
            )
    first = [row["search"]["first"] for row in rows]
    late = [row["name"] for row in rows if row["search"]["first"] > FIRST_ANSWER]
    outcome = f"missed by {', '.join(late)}" if late else "met by all"
    text = f"A first network within {FIRST_ANSWER} seconds: {outcome}"
    return [*lines, "", f"{text} ({min(first):.0f} to {max(first):.0f} seconds)."]


def page(result: dict[str, Any]) -> str:
    lines = ["# Compressed networks beside dense ones", "", ABOUT]
    lines += ["", "## Goals", "", *reached(result["rows"])]
    lines += ["", "## What fell short, and what was tried"]
    for heading, text in result["notes"].items():
        lines += ["", f"### {heading}", "", text]
    lines += [
        *("", "## Accuracy and weights", ""),
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
    lines += ["", "## Searches", ""]
    lines += ["| network | goals | validation | trials | first answer, s | result, minutes |"]
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
    lines += ["", "## Time", ""]
    lines += ["| network | batch | against | times faster |", "|---|---|---|---|"]
    for row in result["rows"]:
        for batch, timed in row["seconds"].items():
            own = timed["sparse, engine"]
            lines += [
                f"| {row['name']} | {batch.removeprefix('batch')} | {name} | {each / own:.2f} |"
                for name, each in timed.items()
                if name != "sparse, engine"
            ]
    lines += ["", "## Energy", ""]
    lines += [
        "Modeled: times less than the same layers dense, from the least to the most over tables"
    ]
    lines += ["of costs and register reuse, by where the weights live.", ""]
    lines += [f"| network | {' | '.join(MEMORIES)} |", "|---" * (1 + len(MEMORIES)) + "|"]
    for row in [row for row in result["rows"] if "energy" in row]:
        ranges = [f"{low:.3g} to {high:.3g}" for low, high in row["energy"].values()]
        lines.append(f"| {row['name']} | {' | '.join(ranges)} |")
    lines += ["", "## Commands", ""]
    lines += [*(f"    {made}" for row in result["rows"] for made in row["made"])]
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
    parser.add_argument("--runs", nargs=2, action="append", default=[])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--made", nargs="+", default=[], help="commands that made these runs")
    parser.add_argument("--table-only", action="store_true", help="only write the page")
    parser.add_argument("--shared", action="store_true", help="other programs ran beside it")
    parser.add_argument("--out", type=Path, default=Path("docs/results/compress"))
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".json")
    stored = json.loads(file.read_text()) if file.exists() else {"rows": [], "notes": {}}
    if arguments.table_only:
        write(arguments.out, stored, page(stored))
        return
    rows = {row["name"]: row for row in stored["rows"]}
    for texts in arguments.runs:
        runs = pair(texts)
        row = {"name": runs["sparse"].parent.name}
        row |= {name: figures(run) for name, run in runs.items()}
        engines, sample = contestants(runs)
        row |= {"search": effort(runs["sparse"].parent)}
        row |= {"seconds": seconds(runs["dense"], engines, sample, arguments.turns)}
        row |= {"energy": energy(engines["sparse"])}
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
