"""Rules and patterns of sparse training at five densities, beside the dense network.

    GOSSAMER_DATA=... python benchmarks/methods.py --budget-minutes 90
    python benchmarks/methods.py --table-only

Each training is one JSON line in ``OUT.jsonl``; finished ones are not repeated, so the benchmark
can be stopped at any moment and continues when run again. The most informative trainings come
first. Writes ``OUT.md`` from the results so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

DENSITIES = (0.2, 0.1, 0.05, 0.02, 0.01)
WINNERS = (1.0, 0.1)
SEEDS = (0, 1, 2)
FREE, PLAIN = (0.1, 0.05), "unstructured"  # winners, density and pattern of most comparisons
# Blocks of 16 must divide every layer, so networks have 16 outputs; those without a class are
# never right.
OUTPUTS = 16
CANDIDATES = ("granet", "magnitude", "acdc", "top_k")  # rules that may be the default
CHANGES = 50  # of the masks over a training, at most


@dataclasses.dataclass(frozen=True)
class Point:
    """One training. ``rule`` is empty for the network with all its weights."""

    network: str
    winners: float
    density: float = 1.0
    rule: str = ""
    pattern: str = ""
    seed: int = 0

    @property
    def key(self) -> str:
        return json.dumps(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, its task and the settings of its training."""

    task: str
    what: str
    settings: dict[str, Any]
    channels: tuple[int, ...] = ()
    hidden: int = 0

    def longer(self, times: int) -> Network:
        """The same with more epochs."""
        settings = {**self.settings, "epochs": times * self.settings["epochs"]}
        return dataclasses.replace(self, settings=settings)

    def build(self, winners: float, shape: tuple[int, ...]) -> Any:
        """With k-winners where their share is below 1, else ReLU."""
        from torch import nn

        from gossamer.models import image_cnn, speech_cnn
        from gossamer.nn import KWinners

        if self.channels:
            # Batch norms in both, unlike the published network of images.
            build = partial(image_cnn, norm=True) if self.task == "mnist" else speech_cnn
            return build(
                OUTPUTS,
                input_shape=shape,
                channels=self.channels,
                hidden=self.hidden,
                activation_density=(winners,) * (len(self.channels) + 1),
            )
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = 784
        for units in (256, 128):
            active = KWinners(units, winners) if winners < 1.0 else nn.ReLU()
            layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), active]
            inputs = units
        return nn.Sequential(*layers, nn.Linear(inputs, OUTPUTS))


SMALL = {
    "mnist_mlp": Network(
        "mnist",
        "784-256-128 with batch norm",
        {"epochs": 6, "batch_size": 128, "learning_rate": 0.1},
    ),
    "mnist_cnn": Network(
        "mnist",
        "5x5 convolution with 16 channels, 128 hidden units",
        {"epochs": 3, "batch_size": 128, "learning_rate": 0.1},
        (16,),
        128,
    ),
    "speech_cnn": Network(
        "speech_commands",
        "5x5 convolutions with 32 and 64 channels, 512 hidden units",
        {"epochs": 12, "batch_size": 32, "learning_rate": 0.03},
        (32, 64),
        512,
    ),
}
# Effect of the small layers and of the short budget on the accuracy lost.
LARGER = {
    **{f"{name}_long": network.longer(4) for name, network in SMALL.items()},
    "mnist_cnn_published": Network(
        "mnist",
        "the published size (with batch norms, unlike it): 5x5 convolutions with 32 and 64 "
        "channels, 700 hidden units",
        {"epochs": 8, "batch_size": 64, "learning_rate": 0.1},
        (32, 64),
        700,
    ),
}
NETWORKS = SMALL | LARGER


def points() -> Iterator[Point]:
    """All trainings, the most telling first; some come twice.

    Not every rule with every pattern at every density: the rules that may be the default have
    three seeds where rules are compared (95 %, k-winners) and the default has them over the
    densities; crosses of others with patterns and densities would tell nothing that decides
    anything.
    """
    from gossamer.sparsity import RULES

    others = ("static", "rigl", "set")
    assert {*CANDIDATES, *others} == set(RULES)

    def each(*point: Any, seeds: tuple[int, ...] = SEEDS, of: Any = SMALL) -> Iterator[Point]:
        for seed in seeds:
            for network in of:
                yield Point(network, *point, seed=seed)

    yield from each(1.0)
    yield from each(0.1, seeds=(0,))
    for rule in (*CANDIDATES, *others):
        yield from each(*FREE, rule, "unstructured", seeds=(0,))
    for pattern in ("block8", "block16", "fan_in"):
        for rule in ("granet", "static"):
            yield from each(*FREE, rule, pattern, seeds=(0,))
    yield from each(*FREE, "granet", "block8")
    for rule in CANDIDATES:
        yield from each(*FREE, rule, "unstructured")
    # Zeros in the weights only, for noise.
    for rule in CANDIDATES:
        yield from each(1.0, 0.05, rule, "unstructured", seeds=(0,))
    for density in (0.2, 0.1, 0.02, 0.01):
        for pattern in ("unstructured", "block8"):
            yield from each(0.1, density, "granet", pattern, seeds=(0,))
    # Larger layers and longer training, for the dense network too: do they close the gap?
    for name in ("mnist_cnn_published", "speech_cnn_long", "mnist_cnn_long", "mnist_mlp_long"):
        for seed in SEEDS:
            yield from each(1.0, seeds=(seed,), of=(name,))
            yield from each(*FREE, "granet", "unstructured", seeds=(seed,), of=(name,))
    for name in LARGER:
        yield from each(*FREE, "magnitude", "unstructured", of=(name,))
    yield from each(0.1)
    for pattern in ("2:4", "unstructured"):
        yield from each(0.1, 0.5, "granet", pattern, seeds=(0,))
    for pattern in ("block16", "fan_in"):
        yield from each(*FREE, "granet", pattern)
    for density in DENSITIES:
        yield from each(0.1, density, "magnitude", "unstructured", seeds=(0,))
        yield from each(0.1, density, "static", "unstructured", seeds=(0,))
    for rule in others:
        yield from each(1.0, 0.05, rule, "unstructured", seeds=(0,))
    for density in DENSITIES:
        yield from each(0.1, density, "granet", "unstructured")
        yield from each(0.1, density, "granet", "block8")


def with_noise(point: Point) -> bool:
    """Noise scores are taken of dense, weights only, activations only and both, of one seed.

    With zeros in the weights, of the rules that may be the default.
    """
    sparse = point.rule in CANDIDATES and (point.pattern, point.density) == ("unstructured", 0.05)
    return point.network in SMALL and point.seed == 0 and (not point.rule or sparse)


def one(point: Point, task: Any) -> dict[str, Any]:
    """Train and evaluate one network."""
    import torch

    from gossamer.sparsity import SparsitySettings
    from gossamer.training import TrainingConfig, evaluate, fit, noise_score

    network = NETWORKS[point.network]
    settings = TrainingConfig(**network.settings, augment=False, seed=point.seed, device="cpu")
    torch.manual_seed(point.seed)
    model = network.build(point.winners, task.input_shape)
    sparsifier = None
    if point.rule:
        steps = len(task.train) // settings.batch_size * settings.epochs
        own = point.rule in ("top_k", "acdc")  # they change when they must
        sparse = SparsitySettings(
            rule=point.rule,
            pattern=point.pattern,
            allocation="uniform" if ":" in point.pattern else "erk",
            mask_interval=None if own else max(steps // CHANGES, 1),
            exclude=("first",) if ":" in point.pattern else (),
        )
        sparsifier = sparse.sparsifier(model, point.density, seed=point.seed)
    started = time.perf_counter()
    fit(model, task, settings, sparsifier=sparsifier)
    seconds = time.perf_counter() - started
    results = [
        evaluate(model, task, split, noise=False, timing=False) for split in ("test", "validation")
    ]
    counts = results[0].counts
    line = {
        **dataclasses.asdict(point),
        "accuracy": sum(e.correct for e in results) / sum(e.examples for e in results),
        "test_accuracy": results[0].accuracy,
        "examples": sum(e.examples for e in results),
        "nonzero": counts.nonzero,
        "weights": counts.weights,
        "activation_density": counts.active_share,
        "macs": counts.macs(),
        "train_seconds": seconds,
    }
    if with_noise(point):
        noise = noise_score(model, task)
        line["noise"] = {"score": noise.score, "of": noise.of}
    return line


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Finished trainings by key; a line cut off by a stop is left out."""
    done = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            fields = (f.name for f in dataclasses.fields(Point))
            done[Point(**{name: line[name] for name in fields}).key] = line
        except (ValueError, KeyError):
            print(f"{path}: skipped a line that is cut off", file=sys.stderr)
    return done


def run(path: Path, budget: float) -> None:
    """Train what is missing until the budget of minutes is spent."""
    import torch

    from gossamer.data import load
    from gossamer.runtime import machine

    torch.set_num_threads(1)
    done = read(path)
    wanted = list(dict.fromkeys(points()))
    tasks: dict[str, Any] = {}
    started = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_text().endswith("\n"):
        path.write_text(path.read_text() + "\n")
    for number, point in enumerate(wanted):
        if point.key in done:
            continue
        if time.monotonic() - started > budget * 60:
            break
        name = NETWORKS[point.network].task
        if name not in tasks:
            tasks[name] = load(name)
        line = {**one(point, tasks[name]), "machine": machine(), "source": tasks[name].source}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(
            f"{number + 1} of {len(wanted)}: {point}: {line['accuracy']:.2%}, "
            f"{line['train_seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def cell(lines: list[dict[str, Any]], dense: list[dict[str, Any]]) -> str:
    """Mean accuracy, spread over seeds, and the difference from the dense network."""
    if not lines:
        return ""
    accuracy = [100 * line["accuracy"] for line in lines]
    mean = statistics.fmean(accuracy)
    text = f"{mean:.2f}"
    if len(accuracy) > 1:
        text += f" ± {statistics.stdev(accuracy):.2f}"
    if dense:
        text += f" ({mean - 100 * statistics.fmean(line['accuracy'] for line in dense):+.2f})"
    return text + ("" if len(accuracy) == len(SEEDS) else f" [{len(accuracy)}]")


def page(lines: list[dict[str, Any]], command: str) -> str:
    """The Markdown page from whatever has been trained."""

    def of(network: str, winners: float, density: float, rule: str, pattern: str) -> list[Any]:
        wanted = (network, winners, density, rule, pattern)
        names = ("network", "winners", "density", "rule", "pattern")
        return [line for line in lines if tuple(line[name] for name in names) == wanted]

    full = len(list(dict.fromkeys(points())))
    text = [
        "# Sparse training: rules and patterns",
        "",
        f"{len(lines)} of {full} planned trainings have been run. Empty cells were not: "
        "candidates for the default have three seeds wherever rules are compared, and "
        "combinations that would decide nothing are left out. Cells "
        "give accuracy in % (*measured*) on the test and validation examples "
        "together, as mean ± standard deviation over seeds. No training and no decision used "
        "these examples. In brackets is the difference in points from the mean of "
        "the dense network with ReLU. [n] counts the seeds where they are fewer than "
        f"{len(SEEDS)}. All trainings of a network have the same budget, without augmentation; "
        "it is short, to make many trainings possible: compare columns and rows with "
        "each other, not with long trainings elsewhere (those named `_long` and `_published` have "
        "more epochs and more units). Densities are of all weights of Linear and "
        "convolution layers, allocated by ERK, and *counted* after training.",
        "",
        *candidates(of),
    ]
    order = list(dict.fromkeys((p.rule, p.pattern) for p in points() if p.rule))
    for network, about in NETWORKS.items():
        mine = [line for line in lines if line["network"] == network]
        if not mine:
            continue
        seconds = statistics.median(line["train_seconds"] for line in mine)
        dense = of(network, 1.0, 1.0, "", "")
        shown = ", ".join(f"{name} {value:g}" for name, value in about.settings.items())
        text += [
            f"## {network}",
            "",
            f"{about.task}: {about.what}, {mine[0]['weights']:,} weights; {shown}, one-cycle, SGD; "
            f"{mine[0]['examples']:,} examples; {seconds:.0f} s a training (median).",
            "",
        ]
        densities = [d for d in DENSITIES if any(line["density"] == d for line in mine)]
        for winners in WINNERS:
            if not any(line["winners"] == winners for line in mine):
                continue
            name = f"k-winners {winners:.0%}" if winners < 1.0 else "ReLU"
            heads = [f"{1 - density:.0%} sparse" for density in densities]
            text += [
                f"| {name}: rule | pattern | {' | '.join(heads)} |",
                "|---|---|" + "---|" * len(heads),
                f"| dense weights | | {cell(of(network, winners, 1.0, '', ''), dense)} "
                + "|" * len(heads),
            ]
            for rule, pattern in order:
                cells = [cell(of(network, winners, d, rule, pattern), dense) for d in densities]
                if any(cells):
                    text.append(f"| {rule} | {pattern} | {' | '.join(cells)} |")
            text.append("")
        nm = [(p, cell(of(network, 0.1, 0.5, "granet", p), dense)) for p in ("2:4", "unstructured")]
        if all(value for _, value in nm):
            text += [
                "At 50 %, granet, k-winners 10 %: "
                + ", ".join(f"{pattern} {value}" for pattern, value in nm)
                + " (2:4 with a dense first layer and uniform).",
                "",
            ]
        text += noise(of, network)
        text += goals(network, of)
    if lines:
        text += [
            f"Command: `{command}`  ",
            *(f"Data: {source}  " for source in dict.fromkeys(li["source"] for li in lines)),
            f"Machine: {', '.join(dict.fromkeys(li['machine'] for li in lines))}, one thread",
            "",
        ]
    return "\n".join(text)


def candidates(of: Any) -> list[str]:
    """The rules that may be the default beside each other, on the seeds that all have."""
    rows, means = [], dict.fromkeys(CANDIDATES, 0.0)
    ahead: dict[str, list[float]] = {rule: [] for rule in CANDIDATES[1:]}
    for network in SMALL:
        by_rule = {
            rule: {line["seed"]: line["accuracy"] for line in of(network, *FREE, rule, PLAIN)}
            for rule in CANDIDATES
        }
        seeds = set.intersection(*(set(of_rule) for of_rule in by_rule.values()))
        if not seeds:
            return []
        cells = []
        for rule, of_rule in by_rule.items():
            accuracy = [100 * of_rule[seed] for seed in sorted(seeds)]
            means[rule] += statistics.fmean(accuracy) / len(SMALL)
            spread = f" ± {statistics.stdev(accuracy):.2f}" if len(seeds) > 1 else ""
            cells.append(f"{statistics.fmean(accuracy):.2f}{spread}")
        for rule, differences in ahead.items():
            first = by_rule[CANDIDATES[0]]
            differences += [100 * (by_rule[rule][seed] - first[seed]) for seed in seeds]
        rows.append(f"| {network} | {len(seeds)} | {' | '.join(cells)} |")
    return [
        "## Rules that may be the default",
        "",
        "95 % unstructured zeros, k-winners 10 %:",
        "",
        f"| network | seeds | {' | '.join(CANDIDATES)} |",
        "|---|---|" + "---|" * len(CANDIDATES),
        *rows,
        f"| mean | | {' | '.join(f'{mean:.2f}' for mean in means.values())} |",
        "",
        f"Points ahead of {CANDIDATES[0]}, the default, trained with the same seed, and their "
        f"standard error: {'; '.join(f'{rule} {mean_error(d)}' for rule, d in ahead.items())}.",
        "",
    ]


def mean_error(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):+.2f} ± {error:.2f}"


def noise(of: Any, network: str) -> list[str]:
    """Noise scores of dense, weights only, activations only and both."""
    kinds = {"dense": [(1.0, 1.0, "", "")], "activations only": [(0.1, 1.0, "", "")]}
    kinds["weights only"] = [(1.0, 0.05, rule, PLAIN) for rule in CANDIDATES]
    kinds["both"] = [(*FREE, rule, PLAIN) for rule in CANDIDATES]
    shown, of_all = [], 0
    for kind, keys in kinds.items():
        scores = []
        for key in keys:
            for line in of(network, *key):
                if "noise" in line:
                    of_all = line["noise"]["of"]
                    scores.append(f"{key[2]} {line['noise']['score']:,}".strip())
        if scores:
            shown.append(f"{kind} {', '.join(scores)}")
    if not shown:
        return []
    return [f"Noise score of {of_all:,} (95 % of the weights, seed 0): {'; '.join(shown)}.", ""]


def goals(network: str, of: Any) -> list[str]:
    """Whether nothing is lost at 95 % weights x 90 % activations, and what blocks cost."""
    dense = of(network, 1.0, 1.0, "", "")
    free = of(network, *FREE, "granet", PLAIN)
    if not dense or not free:
        return []
    allowed = 0.5 if network.startswith("speech") else 0.1
    text = (
        f"Goal: at most {allowed} points lost at 95 % weights x 90 % activations (unstructured): "
    )
    shown = []
    for rule in CANDIDATES:
        sparse = of(network, *FREE, rule, PLAIN)
        seeds = {line["seed"] for line in sparse} & {line["seed"] for line in dense}
        if seeds:
            sparse, base = (
                statistics.fmean(100 * li["accuracy"] for li in lines if li["seed"] in seeds)
                for lines in (sparse, dense)
            )
            met = "met" if base - sparse <= allowed else "missed"
            shown.append(f"{rule} {sparse - base:+.2f}, {met} ({len(seeds)} seeds)")
    text += f"{'; '.join(shown)}."
    for pattern in ("block8", "block16", "fan_in"):
        lines = of(network, 0.1, 0.05, "granet", pattern)
        if lines:
            # The same seeds on both sides.
            seeds = {line["seed"] for line in lines} & {line["seed"] for line in free}
            one, other = (
                statistics.fmean(100 * li["accuracy"] for li in group if li["seed"] in seeds)
                for group in (lines, free)
            )
            text += f" {pattern} against unstructured: {one - other:+.2f} ({len(seeds)} seeds)."
    return [text, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget-minutes", type=float, default=90.0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/methods"))
    parser.add_argument("--table-only", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    lines = arguments.out.with_suffix(".jsonl")
    if not arguments.table_only:
        run(lines, arguments.budget_minutes)
    shown = "python " + shlex.join(a for a in sys.argv if a != "--table-only")
    text = page(list(read(lines).values()), shown)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
