"""Accuracy under noise, corruptions and background noise: dense, either sparsity, and both.

    python benchmarks/robustness.py mnist --seeds 0 1 2 --set epochs=2 --examples 2000
    python benchmarks/robustness.py speech_commands --seeds 0 1 2 --set epochs=15

Trains four variants of the task's reference network on one core: dense, sparse weights alone,
k-winners alone, both. Networks and their curves are stored in ``--runs`` and not repeated: an
interrupted benchmark continues (``--at-most N`` stops after N trainings). Results that are
complete over all four variants are written: ``OUT.json`` and ``OUT.md`` hold every task measured
so far; curves are means over seeds, drawn in ``OUT-TASK.svg``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panels import Panel, svg

NOISE = "noise score"
# Of the sparse reference network's settings: what makes its weights sparse, what its activations.
_WEIGHTS = ("weight_density", "rule", "pattern", "allocation")
_ACTIVATIONS = ("activation_density", "inference_factor")
# Variant: which of these it leaves out. All variants have the sparse network's size.
VARIANTS: dict[str, tuple[str, ...]] = {
    "dense": (*_WEIGHTS, *_ACTIVATIONS),
    "weights": _ACTIVATIONS,
    "activations": _WEIGHTS,
    "both": (),
}
NETWORKS = {
    "mnist": ("image_cnn", "image_cnn_sparse"),
    "speech_commands": ("speech_cnn", "speech_cnn_sparse"),
    "spoken_words": ("speech_cnn", "speech_cnn_sparse"),
}


def settings_of(task: str, variant: str) -> dict[str, Any]:
    """The settings of a variant: the sparse reference's without what the variant leaves out."""
    from gossamer.models.reference import MODELS

    settings = MODELS[NETWORKS[task][1]].settings
    return {
        name: value
        for name, value in settings.items()
        if name.split(".")[0] not in VARIANTS[variant]
    }


def one(
    task: Any, variant: str, settings: Mapping[str, Any], examples: int | None, folder: Path
) -> bool:
    """Train one network and measure its curves; False where that was done before."""
    done = folder / "robustness.json"
    if done.exists():
        return False
    from gossamer.training import Recipe, robustness, train

    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        task.name, NETWORKS[task.name][0], {**settings_of(task.name, variant), **settings}
    )
    started = time.monotonic()
    trained = train(recipe, task, checkpoint=folder / "checkpoint.safetensors")
    metrics = trained.save(folder)
    curves = [c.as_dict() for c in robustness(trained.model, task, examples=examples)]
    keep = {key: metrics[key] for key in ("accuracy", "noise", "weights", "activations", "macs")}
    keep |= {key: metrics[key] for key in ("machine", "settings", "source", "examples")}
    keep["robustness"] = curves
    done.write_text(json.dumps(keep, indent=1))
    print(
        f"{folder.name}: {metrics['accuracy']:.2%}, {time.monotonic() - started:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return True


def collected(runs: Path, task: str, seeds: list[int]) -> dict[str, list[dict[str, Any]]]:
    """The measured networks of each variant, of those seeds that all variants have."""
    files = {
        (variant, seed): runs / f"{task}-{variant}-{seed}" / "robustness.json"
        for variant in VARIANTS
        for seed in seeds
    }
    whole = [seed for seed in seeds if all(files[v, seed].exists() for v in VARIANTS)]
    return {v: [json.loads(files[v, seed].read_text()) for seed in whole] for v in VARIANTS}


def _spread(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def shares(run: dict[str, Any], name: str) -> list[float]:
    """Percent correct at each level of a disturbance, or of the noise score."""
    if name == NOISE:
        noise = run["noise"]
        return [100 * right * len(noise["levels"]) / noise["of"] for right in noise["correct"]]
    curve = next(c for c in run["robustness"] if c["name"] == name)
    return [100 * right / curve["of"] for right in curve["correct"]]


def averaged(runs: list[dict[str, Any]], name: str) -> list[float]:
    """The same, mean over seeds."""
    return [statistics.fmean(level) for level in zip(*(shares(r, name) for r in runs), strict=True)]


def panels(rows: dict[str, list[dict[str, Any]]]) -> list[Panel]:
    """The noise score and every disturbance, a line for each variant."""
    first = rows["dense"][0]
    kinds = [(NOISE, "noise level", first["noise"]["levels"])]
    for curve in first["robustness"]:
        unit = "signal to noise, dB" if curve["unit"] == "dB" else curve["unit"]
        kinds.append((curve["name"], unit, curve["levels"]))
    return [
        Panel(
            name.replace("_", " "),
            unit,
            levels,
            {variant: averaged(runs, name) for variant, runs in rows.items()},
        )
        for name, unit, levels in kinds
    ]


def page(task: str, rows: dict[str, list[dict[str, Any]]], command: str, plot: str) -> str:
    """One task's section of the Markdown page."""
    first = rows["dense"][0]
    count = len(rows["dense"])
    names = [curve["name"] for curve in first["robustness"]]
    of = first["robustness"][0]["of"]
    chosen = "all" if of == first["examples"] else f"{of:,} of them"
    kind = "signal-to-noise ratios" if first["robustness"][0]["unit"] == "dB" else "severities"

    lines = [
        f"## {task}",
        "",
        f"{count} seed{'s' if count > 1 else ''}; test split of {first['examples']:,} examples, "
        f"corruptions on {chosen}. All *measured* but the non-zero weights (*counted*).",
        "",
        "| % correct | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
        "| non-zero weights | "
        + " | ".join(f"{runs[0]['weights']['nonzero']:,}" for runs in rows.values())
        + " |",
        "| activation density | "
        + " | ".join(
            f"{statistics.fmean(run['activations']['density'] for run in runs):.3f}"
            for runs in rows.values()
        )
        + " |",
        "| clean | "
        + " | ".join(_spread([100 * run["accuracy"] for run in runs]) for runs in rows.values())
        + " |",
        "| noise score, share of all | "
        + " | ".join(
            _spread([100 * run["noise"]["score"] / run["noise"]["of"] for run in runs])
            for runs in rows.values()
        )
        + " |",
    ]
    for name in names:
        cells = (
            _spread([statistics.fmean(shares(run, name)) for run in runs]) for runs in rows.values()
        )
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    everything = (
        _spread([statistics.fmean(x for name in names for x in shares(run, name)) for run in runs])
        for runs in rows.values()
    )
    lines += [f"| **mean of these** | {' | '.join(everything)} |", "", f"Means over {kind}.", ""]
    lines += [f"![Percent correct, level by level]({plot})", ""]
    lines += ["Level by level, mean over seeds:", ""]
    noise = first["noise"]["levels"]
    lines += ["| noise score | " + " | ".join(f"{level:g}" for level in noise) + " |"]
    lines += ["|---|" + "---|" * len(noise)]
    for variant, runs in rows.items():
        cells = averaged(runs, NOISE)
        lines.append(f"| {variant} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    levels = first["robustness"][0]["levels"]
    unit = first["robustness"][0]["unit"]
    lines += ["", f"| {unit} | | " + " | ".join(f"{level:g}" for level in levels) + " |"]
    lines += ["|---|---|" + "---|" * len(levels)]
    for name in names:
        for variant, runs in rows.items():
            written = " | ".join(f"{cell:.1f}" for cell in averaged(runs, name))
            lines.append(f"| {name.replace('_', ' ')} | {variant} | {written} |")
    changed = {k: v for k, v in rows["both"][0]["settings"].items() if k != "seed"}
    lines += [
        "",
        f"Command: `{command}`  ",
        f"Settings of *both*: `{json.dumps(changed)}`  ",
        f"Data: {first['source']}  ",
        f"Machine: {first['machine']}, one thread",
    ]
    return "\n".join(lines)


HEAD = """\
# Robustness: dense, weights, activations, both

Four variants of the reference networks, trained briefly in the same way: dense with ReLU, sparse
weights with ReLU, dense weights with k-winners, and both. *Noise score*: correct answers over
the eleven levels of Ahmad & Scheinkman (2019). Images: common corruptions (Hendrycks &
Dietterich 2019, eight kinds, five severities; lengths relative to the image, see
`gossamer/data/corruptions.py`). Speech: background noise at stated signal-to-noise ratios
(`background`: the data set's own recordings, which training also draws from; `babble`: six voices
saying training clips; `pink` and `hum` are synthetic). Every network gets the same noise.
"""


def write(out: Path, task: str, result: dict[str, Any]) -> str:
    """Add a task's result to those of the others: tables, plots and all digits."""
    file = out.with_suffix(".json")
    whole = json.loads(file.read_text()) if file.exists() else {}
    whole[task] = result
    out.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=1))
    sections = []
    for name, part in sorted(whole.items()):
        plot = out.with_name(f"{out.name}-{name}.svg")
        plot.write_text(svg(panels(part["runs"])))
        sections.append(page(name, part["runs"], part["command"], plot.name))
    text = "\n".join([HEAD, *(f"{section}\n" for section in sections)])
    out.with_suffix(".md").write_text(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--examples", type=int, help="corrupt only so many test examples")
    parser.add_argument("--at-most", type=int, help="stop after so many trainings; go on later")
    parser.add_argument("--runs", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/robustness"))
    arguments = parser.parse_args()

    import torch

    from gossamer.data import load

    torch.set_num_threads(1)
    settings = tomllib.loads("\n".join(arguments.set))
    task, trained = load(arguments.task), 0
    # Seeds outermost: the first complete set of variants is there as early as possible.
    for seed in arguments.seeds:
        for variant in VARIANTS:
            if arguments.at_most is not None and trained >= arguments.at_most:
                break
            folder = arguments.runs / f"{task.name}-{variant}-{seed}"
            chosen = {**settings, "seed": seed}
            trained += one(task, variant, chosen, arguments.examples, folder)
    rows = collected(arguments.runs, task.name, arguments.seeds)
    if not rows["dense"]:
        print("no seed is complete yet: give the same command again", file=sys.stderr)
        return
    shown = [a for i, a in enumerate(sys.argv) if "--at-most" not in (a, sys.argv[i - 1])]
    command = "python " + shlex.join(shown)
    write(arguments.out, task.name, {"command": command, "runs": rows})


if __name__ == "__main__":
    main()
