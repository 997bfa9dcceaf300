"""The pages of the keyword experiment: goals and frontier, and the table of all networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from published import TABLE, Published
from results import write
from scatter import Chart, Point, svg

from gossamer.files import write_text

SEED = "_seed_"  # in the name of a run: one more seed of the run whose name stands before it
SUMMED = ("weights", "nonzero", "macs_dense", "macs_both")
LEVELS = (20, 15, 10, 5, 0, -5)  # signal to noise, dB
KEYWORDS = ("Speech Commands v0.01, 12 classes", "Speech Commands v0.02, 12 classes")
SMALL = 100_000  # weights of the published networks that are shown
MACHINE = "AMD EPYC"  # times of one machine alone are comparable
SEARCH = Path(__file__).parent / "data" / "speech_whole_trials.json"
EXPERIMENT = "[speech_whole.toml](../../experiments/speech_whole.toml)"
#: A sparse network and the dense one of the same accuracy that it is compared with under noise.
EQUAL = ("tc_resnet8_width_3_9_percent", "tc_resnet8_width_3")
#: Names of networks in the charts.
LABELS = {
    "cnn2": "CNN-2",
    "tc_resnet8": "TC-ResNet8",
    "tc_resnet8_width_1.5": "x 1.5",
    "tc_resnet8_width_3": "x 3",
    "ds_cnn": "DS-CNN",
    "bc_resnet1": "BC-ResNet-1",
}
SEEDS = 3  # of a network that is compared with the tuned dense one
ACCURATE = 0.965
NEAR = 0.002  # what a sparse network may lose
FEW = 50_000
#: The sentences below this heading are written by hand in the page, and stay.
BY_HAND = "## What was reached, and what was tried"

TRAINED = (
    "| network | seeds | epochs | validation % | test % | non-zero weights | "
    "multiply-adds: dense / weights / both | activation density |"
)
TIMED = (
    "| network | examples a call | engine, us an example | its dense network, us | times faster "
    "| measured on |"
)
BOTH = (
    "| weights of the sparse layers | winners | test % | points lost | 1/(dW*dA) | "
    "multiply-adds fewer: sparse layers / whole | times faster: 1 / 64 examples |"
)
PUBLISHED = "| published network | data | test % | weights | multiply-adds | source |"
GOALS = "| | reach at least | aim at | reached | | network |"

ABOUT = """\
The trained networks saw log-mel pictures (98 frames x 40 bands, 8 bits) of every official
training clip of the ten keywords, 10,704 clips of other words and 600 windows of background:
42,073 examples. Validation has all 3,703 official clips of the keywords, a tenth as many other
words and 150 windows. Test has 2,716 of the keywords' clips: those of 78 speakers are missing.
The papers train on waveforms with noise mixed in, on all test speakers, and show fewer other
words (about a tenth of an epoch, here a quarter): their accuracies and ours are near each other,
not equal tasks. An accuracy of 96 % on 3,237 clips has a standard error of 0.35 points.

Accuracy, activation density and time are *measured*, weights and multiply-adds *counted*.
[All networks](keywords_runs.md): seeds, times of each beside its dense network, background noise,
and the commands."""
FRONTIER = """\
Accuracy on test over non-zero weights, multiply-adds (sparse and dense ones: those of non-zero
weights that meet a non-zero input; published ones: as their source counts them) and time at
batch 1 on one thread of an {machine}. The line joins the sparse networks that no other betters;
the dashed one is at 96.5 %. Networks that were timed on other machines are missing from the third
chart."""
RUNS_ABOUT = """\
What was trained for [the keyword experiment](keywords.md), which describes the data. Accuracy,
activation density and time are *measured*, weights and multiply-adds *counted*; multiply-adds are
those of all weights, of the non-zero ones, and of the non-zero ones that meet a non-zero input.
One seed, or the mean and standard deviation of several. One thread a training, beside other
programs."""
NOISE = """\
Percent correct of the words of the test split (without silence) where the power of a background
picture is added, at a ratio of the clip's mean power to the background's; *measured*. The
backgrounds are windows of the same six recordings as the silence that the networks were trained
with; no network was trained with mixtures. All networks meet the same mixtures."""
BOTH_ABOUT = """\
CNN-2 with few weights and few winners at once, one seed a row: 4 epochs from the weights of
`{start}`, taught by the dense network, which has {dense:.2f} % on test. dW is the share
of non-zero weights of the layers that were pruned, dA that of the winners. The first layer reads
pictures, without zeros: where it was pruned too it takes most of the multiply-adds that are left.
Times faster are against the fastest dense peer of the dense network."""


class Network(NamedTuple):
    """The seeds of a network as one.

    Attributes:
        row: of its first seed.
        validation, test: accuracy of each seed.
    """

    row: dict[str, Any]
    validation: list[float]
    test: list[float]

    @property
    def title(self) -> str:
        return str(self.row["name"]).replace("_", " ")

    @property
    def dense(self) -> bool:
        return bool(self.row["nonzero"] == self.row["total"])


class Goal(NamedTuple):
    """A goal of the experiment beside what was reached.

    Attributes:
        words: what is measured.
        least: what to reach at least; None where anything measured is enough.
        aim: what to aim at.
        value: what was reached.
        network: which has it.
        more: whether more is better.
        shown: format of the figures.
    """

    words: str
    least: float | None
    aim: float
    value: float
    network: str
    more: bool = False
    shown: str = "{:,.0f}"

    def line(self) -> str:
        def misses(limit: float) -> bool:
            return self.value < limit if self.more else self.value > limit

        least = "measured" if self.least is None else self.shown.format(self.least)
        if self.least is not None and misses(self.least):
            verdict = f"missed by {self.shown.format(abs(self.least - self.value))}"
        elif not misses(self.aim):
            verdict = "aim reached"
        else:
            verdict = "measured" if self.least is None else "reached"
        aim, value = self.shown.format(self.aim), self.shown.format(self.value)
        return f"| {self.words} | {least} | {aim} | {value} | {verdict} | {self.network} |"


def networks(rows: Sequence[dict[str, Any]]) -> dict[str, Network]:
    """The networks by name, in the order of their first seeds."""
    seeds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        seeds.setdefault(row["name"].split(SEED)[0], []).append(row)
    return {
        name: Network(same[0], [row["validation"] for row in same], [row["test"] for row in same])
        for name, same in seeds.items()
    }


def searched(file: Path = SEARCH) -> tuple[int, int]:
    """How many trials of a search ended, and the place of the first within all thresholds.

    They are read from the file itself: to import them into a storage takes half a minute.
    """
    content = json.loads(file.read_text())
    metrics = content["definition"]["metrics"].values()

    def within(trial: dict[str, Any]) -> bool:
        return all(
            value >= metric["threshold"]
            if metric["goal"] == "maximize"
            else value <= metric["threshold"]
            for value, metric in zip(trial["values"], metrics, strict=True)
        )

    ended = [trial for trial in content["trials"] if trial["state"] in ("complete", "stopped")]
    # Trials of a cheaper task are not comparable.
    full = [trial for trial in ended if "gossamer:fidelity" not in trial["attributes"]]
    return len(ended), 1 + min(t["number"] for t in full if t["state"] == "complete" and within(t))


def goals(result: dict[str, Any], search: tuple[int, int]) -> list[Goal]:
    """The goals, each with the network that comes nearest."""
    every = networks(result["runs"])
    tuned = every["cnn2"]
    alike = (
        network
        for name, network in every.items()
        if name.startswith("cnn2") and len(network.test) >= SEEDS
        if np.mean(network.test) >= np.mean(tuned.test) - NEAR
        if np.mean(network.validation) >= np.mean(tuned.validation) - NEAR
    )
    accurate = [n for n in every.values() if np.mean(n.test) >= ACCURATE]
    small = (n for n in every.values() if n.row["nonzero"] <= FEW)
    fewest = min(alike, key=lambda n: n.row["nonzero"])
    smallest = min(accurate, key=lambda n: n.row["nonzero"])
    cheapest = min(accurate, key=lambda n: n.row["macs"]["both"])
    best = max(small, key=lambda n: np.mean(n.test))
    few = max(
        result["both"],
        key=lambda row: (row["settings"]["weight_density"], row["activation_density"]),
    )
    lost = every[Path(few["settings"]["teacher"]).name].row["test"] - few["test"]
    sparse, dense = (every[name] for name in EQUAL)
    levels = [str(level) for level in LEVELS]
    better = sum(sparse.row["noise"][level] > dense.row["noise"][level] for level in levels)
    words = f"CNN-2: non-zero weights, at most 0.2 points below the tuned dense one, {SEEDS} seeds"
    digits = "{:.2f}"
    return [
        Goal(words, 171_600, 57_200, fewest.row["nonzero"], fewest.title),
        Goal("CNN-2: trials of the search", 1000, 1000, search[0], EXPERIMENT, more=True),
        Goal("CNN-2: first trial within both thresholds", None, 50, search[1], EXPERIMENT),
        Goal("non-zero weights at 96.5 %", 9232, 4000, smallest.row["nonzero"], smallest.title),
        Goal(
            "million multiply-adds at 96.5 %",
            1.2,
            0.4,
            cheapest.row["macs"]["both"] / 1e6,
            cheapest.title,
            shown=digits,
        ),
        Goal(
            "test % with at most 50,000 non-zero weights",
            97,
            98,
            100 * np.mean(best.test),
            best.title,
            more=True,
            shown=digits,
        ),
        Goal(
            "points lost with 95 % zeros and 5 % winners in one network",
            None,
            1,
            100 * lost,
            "CNN-2, one of nine",
            shown=digits,
        ),
        Goal(
            "levels of noise, of 6, at which a sparse network beats a dense one",
            6,
            6,
            better,
            f"{sparse.title}, {dense.title}",
            more=True,
        ),
    ]


def charts(result: dict[str, Any]) -> list[Chart]:
    """Accuracy over weights, multiply-adds and time."""
    weights, macs, times = [], [], []
    for network in networks(result["runs"]).values():
        row, accuracy = network.row, 100 * float(np.mean(network.test))
        kind = "dense" if network.dense else "sparse"
        label = LABELS.get(row["name"], "")
        weights.append(Point(row["nonzero"], accuracy, kind, label))
        macs.append(Point(row["macs"]["both"], accuracy, kind, label))
        if MACHINE in row.get("timed", ""):
            of = row["seconds"]["1"]
            times.append(Point(1e6 * of["engine"], accuracy, kind, label))
            if network.dense:
                fastest = 1e6 * min(of["dense"].values())
                times.append(Point(fastest, accuracy, "dense, fastest other runtime"))
    for entry in published():
        label = entry.network.removesuffix(", smallest inside the thresholds")
        weights.append(Point(entry.nonzero, entry.accuracy, "published", label))
        if entry.macs:
            macs.append(Point(entry.macs, entry.accuracy, "published", label))
    return [
        Chart("non-zero weights", weights),
        Chart("multiply-adds", macs),
        Chart("microseconds, batch 1", times),
    ]


def published() -> list[Published]:
    """The published small networks for this task."""
    return [
        entry
        for entry in TABLE
        if entry.task in KEYWORDS and entry.nonzero and entry.accuracy and entry.nonzero < SMALL
    ]


def by_hand(page: Path) -> str:
    """The part of an earlier page that is written by hand, with its heading."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    _, found, sentences = text.partition(BY_HAND)
    return BY_HAND + (sentences if found else "\n")


def front(result: dict[str, Any], sentences: str, image: str) -> str:
    """The page of goals, frontier and sentences."""
    lines = ["# Keyword spotting on the whole Speech Commands", "", ABOUT, ""]
    lines += ["## Goals", "", GOALS, "|" + "---|" * 6]
    lines += [goal.line() for goal in goals(result, searched())]
    lines += ["", "## The frontier", "", FRONTIER.format(machine=MACHINE), ""]
    lines += [f"![accuracy over weights, multiply-adds and time]({image})", ""]
    lines += [PUBLISHED, "|" + "---|" * 6]
    for entry in published():
        macs = f"{entry.macs / 1e6:.2g} M" if entry.macs else "–"
        note = f"; {entry.note}" if entry.note else ""
        accuracy = f"{entry.accuracy:.2f}".removesuffix("0") + (
            f" ± {entry.deviation:g}" if entry.deviation else ""
        )
        lines.append(
            f"| {entry.network} | {entry.task.split(',')[0]} | {accuracy} "
            f"| {entry.nonzero:,} | {macs} | {entry.source}{note} |"
        )
    return "\n".join([*lines, "", sentences])


def command(run: dict[str, Any]) -> str:
    settings = " ".join(
        f"--set {name}={json.dumps(value)}" for name, value in run["settings"].items()
    )
    return f"gossamer train {run['task']} --model {run['model']} --threads 1 {settings}"


def share(values: list[float]) -> str:
    """Percent: the one value, or the mean and standard deviation of several seeds."""
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.2f}"


def both(runs: list[dict[str, Any]], every: dict[str, Network]) -> list[str]:
    """The section on runs with few weights and few winners; their dense network is the teacher."""
    start, teacher = (Path(runs[0]["settings"][name]).name for name in ("init", "teacher"))
    dense = every[teacher].row["test"]
    about = BOTH_ABOUT.format(start=start.replace("_", " "), dense=100 * dense)
    lines = ["", "## Few weights and few winners", "", about, "", BOTH, "|" + "---|" * 7]
    for run in sorted(runs, key=lambda run: run["macs"]["both"], reverse=True):
        sparse = [layer for layer in run["layers"] if layer["density"] < 1]
        total = {key: sum(layer[key] for layer in sparse) for key in sparse[0] if key in SUMMED}
        weights, active = total["nonzero"] / total["weights"], run["activation_density"]
        faster = " / ".join(
            f"{min(of['dense'].values()) / of['engine']:.2f}" for of in run["seconds"].values()
        )
        lines.append(
            f"| {100 * weights:.1f} % | {100 * active:.1f} % | {100 * run['test']:.2f} "
            f"| {100 * (dense - run['test']):.2f} | {1 / (weights * active):,.0f} "
            f"| {total['macs_dense'] / total['macs_both']:,.0f} / "
            f"{run['macs']['dense'] / run['macs']['both']:.1f} | {faster} |"
        )
    return lines


def tables(result: dict[str, Any]) -> str:
    """The page of all networks."""
    every = networks(result["runs"])
    lines = ["# All networks of the keyword experiment", "", RUNS_ABOUT, ""]
    lines += ["## Trained here", "", TRAINED, "|" + "---|" * 8]
    for network in every.values():
        run = network.row
        macs = " / ".join(f"{run['macs'][kind]:,.0f}" for kind in ("dense", "weights", "both"))
        lines.append(
            f"| {network.title} | {len(network.test)} | {run['settings']['epochs']} "
            f"| {share(network.validation)} | {share(network.test)} "
            f"| {run['nonzero']:,} of {run['total']:,} | {macs} | {run['activation_density']:.3f} |"
        )
    lines += ["", "## Time, one thread", "", TIMED, "|" + "---|" * 6]
    for network in every.values():
        for batch, of in network.row.get("seconds", {}).items():
            # The fastest peer: the comparison that flatters least.
            peer, dense = min(of["dense"].items(), key=lambda item: item[1])
            lines.append(
                f"| {network.title} | {batch} | {1e6 * of['engine']:.1f} | {1e6 * dense:.1f} "
                f"({peer}) | {dense / of['engine']:.2f} | {network.row['timed']} |"
            )
    lines += ["", "## Background noise", "", NOISE, ""]
    lines += [f"| network | clean | {' | '.join(f'{n} dB' for n in LEVELS)} |"]
    lines += ["|---" * (len(LEVELS) + 2) + "|"]
    for network in every.values():
        if "noise" in network.row:
            shares = " | ".join(f"{100 * share:.1f}" for share in network.row["noise"].values())
            lines.append(f"| {network.title} | {shares} |")
    lines += both(result["both"], every)
    lines += ["", "## Commands", "", "    python benchmarks/keyword_pictures.py speech.npz"]
    lines += [f"    {command(run)}" for run in result["runs"] + result["both"]]
    lines += ["", f"Command of the last measurement: `{result['command']}`  "]
    lines += ["Data: Google Speech Commands v0.02, Pete Warden, arXiv 1804.03209, CC BY 4.0"]
    return "\n".join(lines) + "\n"


def write_pages(out: Path, result: dict[str, Any]) -> str:
    """Write ``OUT.json``, ``OUT.svg``, ``OUT.md`` and ``OUT_runs.md``; return the tables."""
    text = tables(result)
    write(out, result, front(result, by_hand(out.with_suffix(".md")), f"{out.name}.svg"))
    write_text(out.with_suffix(".svg"), svg(charts(result), 92.0, 98.0, 100 * ACCURATE))
    write_text(out.with_name(f"{out.name}_runs.md"), text)
    return text
