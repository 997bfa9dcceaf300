"""The best learning rate over width and density, with and without SµPar.

    python benchmarks/transfer.py --out docs/results/transfer

Trains an MLP on MNIST at every learning rate of a grid, for widths at full density and for
densities at one width. Each finished training is one line of ``--runs`` and is not repeated: an
interrupted benchmark continues. Seeds are outermost, so that a whole table exists early.
``--tables-only`` makes the tables from the results so far. Writes ``OUT.json``,
``OUT.md`` and ``OUT.svg``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shlex
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

BASE_WIDTH = 64
WIDTHS = (64, 128, 256, 512)
DENSITIES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
DENSITY_WIDTH = 256
RATES = tuple(2.0**-power for power in range(12, 3, -1))
# Changes to the wider or sparser network; the learning rate is the same for all.
METHODS = {
    "plain": "torch's initialization, masked",
    "rescaled": "initialization rescaled for the sparse fan-in",
    "supar": "SµPar: initialization and learning rates scaled",
}
BATCH = 128

# Sparse layers, named by the dense ones. The output layer is always dense, as in the paper.
SPARSE = {"hidden": ("linear1", "output"), "first and hidden": ("output",)}

Case = tuple[str, int, float, str]


def cases() -> list[Case]:
    """(method, width, density, which layers); at full density ``rescaled`` is ``plain``."""
    points = [(m, w, 1.0, "none") for m in ("plain", "supar") for w in WIDTHS]
    # The most telling first: a benchmark that is stopped has something to show.
    return points + [
        (m, DENSITY_WIDTH, d, layers)
        for layers in SPARSE
        for d in (1 / 32, 1 / 8, 1 / 2, 1 / 16, 1 / 4)
        for m in ("supar", "plain", "rescaled")
    ]


def one(data: Any, case: Case, rate: float, seed: int) -> dict[str, Any]:
    """Train one network for an epoch with Adam; loss and accuracy on validation data."""
    import torch
    from torch.nn import functional

    import gossamer as gs

    method, width, density, layers = case

    def build(hidden: int, number: int) -> torch.nn.Module:
        torch.manual_seed(number)
        return gs.models.mlp(hidden=hidden, layers=3, norm=False)

    started = time.perf_counter()
    model = build(width, seed)
    sparsifier = gs.Sparsifier(
        model,
        density,
        pattern=gs.sparsity.FanIn(),
        allocation=gs.sparsity.Uniform(),
        rule=gs.sparsity.Static(),
        exclude=SPARSE.get(layers, ()),
        rescale=method != "plain",
        seed=seed,
    )
    if method == "supar":
        # The base's random numbers are its own: only its sizes and deviations matter.
        base = build(BASE_WIDTH, seed + 1000)
        groups = gs.sparsity.mu_parametrize(model, base).groups(rate)
        optimizer = torch.optim.Adam(groups)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    x, y, x_val, y_val = data
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    steps = len(x) // BATCH
    # A short warm-up, then down in a line: each rate ends settled.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), 1.0) * (1.0 - step / steps)
    )
    for index in order[: steps * BATCH].split(BATCH):
        loss = functional.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if density < 1.0:
            sparsifier.step()
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x_val.split(1000)])
    return {
        "method": method,
        "width": width,
        "density": density,
        "layers": layers,
        "rate": rate,
        "seed": seed,
        "nonzero": sum(kept for kept, _ in sparsifier.counts().values()),
        "loss": float(functional.cross_entropy(logits, y_val)),
        "accuracy": float((logits.argmax(1) == y_val).float().mean()),
        "seconds": round(time.perf_counter() - started, 2),
    }


def examples() -> Any:
    """MNIST's training and validation examples as tensors."""
    import torch

    import gossamer as gs

    task = gs.load("mnist")
    return tuple(
        made
        for split in (task.train, task.validation)
        for made in (torch.from_numpy(task.features(split.x)), torch.from_numpy(split.y))
    )


def key(run: dict[str, Any]) -> tuple[Any, ...]:
    return (*case_of(run), run["rate"], run["seed"])


def case_of(run: dict[str, Any]) -> Case:
    return (run["method"], run["width"], run["density"], run["layers"])


def finished(path: Path, out: Path) -> list[dict[str, Any]]:
    """The runs of a file, without a line that was cut short, and those of earlier results."""
    results = out.with_suffix(".json")
    earlier = json.loads(results.read_text())["runs"] if results.exists() else []
    runs = {key(run): run for run in earlier}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            run = json.loads(line)
        except ValueError:
            continue
        runs[key(run)] = run
    return list(runs.values())


def whole(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those runs whose case and seed have been trained at every learning rate."""
    counts = Counter((case_of(run), run["seed"]) for run in runs)
    return [run for run in runs if counts[case_of(run), run["seed"]] == len(RATES)]


def curves(runs: list[dict[str, Any]]) -> dict[Case, dict[float, float]]:
    """Mean loss over seeds by learning rate; diverged ones count as chance."""
    chance = math.log(10)
    losses: dict[Case, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        loss = run["loss"] if math.isfinite(run["loss"]) else chance
        losses[case_of(run)][run["rate"]].append(min(loss, chance))
    return {
        case: {rate: statistics.fmean(found) for rate, found in sorted(by_rate.items())}
        for case, by_rate in losses.items()
    }


def best(curve: dict[float, float]) -> tuple[float, float]:
    """(learning rate, loss) of the lowest mean loss, the rate refined by a parabola."""
    rates = list(curve)
    at = min(range(len(rates)), key=lambda i: curve[rates[i]])
    shift = 0.0
    if 0 < at < len(rates) - 1:
        left, middle, right = (math.log(curve[rates[i]]) for i in (at - 1, at, at + 1))
        bend = left - 2 * middle + right
        shift = (left - right) / (2 * bend) if bend > 0 else 0.0
    return rates[at] * 2.0**shift, curve[rates[at]]


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each case: its best rate, and what the base's best rate costs it."""
    by_case = curves(runs)
    base = by_case["plain", BASE_WIDTH, 1.0, "none"]
    base_rate = min(base, key=lambda rate: base[rate])
    table = []
    for case in sorted(cases(), key=lambda case: (case[3] != "none", case[3:], case[0], -case[2])):
        if case not in by_case:
            continue
        curve = by_case[case]
        rate, loss = best(curve)
        table.append(
            {
                "method": case[0],
                "width": case[1],
                "density": case[2],
                "layers": case[3],
                "seeds": len({run["seed"] for run in runs if case_of(run) == case}),
                "best_rate": rate,
                "times_base": rate / best(base)[0],
                "best_loss": loss,
                "loss_at_base_rate": curve.get(base_rate),
            }
        )
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    lines = [
        "| network | method | seeds | best learning rate | beside the base's | best loss "
        "| loss at the base's best rate | lost by not tuning |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        network = f"width {row['width']}, density {_share(row['density'])}"
        if row["density"] < 1.0:
            network += f" ({row['layers']})"
        at = row["loss_at_base_rate"]
        lines.append(
            f"| {network} | {row['method']} | {row['seeds']} | {row['best_rate']:.2g} "
            f"| {row['times_base']:.2g}x | {row['best_loss']:.4f} | {at:.4f} "
            f"| {at / row['best_loss'] - 1:.0%} |"
        )
    return "\n".join(lines)


def _share(density: float) -> str:
    return "1" if density == 1.0 else f"1/{round(1 / density)}"


def drift(table: list[dict[str, Any]], method: str, layers: str) -> float | None:
    """Largest factor between the best rates along widths, or densities of some layers."""

    def wanted(row: dict[str, Any]) -> bool:
        if layers == "none":
            return row["density"] == 1.0 and row["method"] == method
        if row["width"] != DENSITY_WIDTH:
            return False
        # Full density is the same network for plain and rescaled.
        same = method if row["density"] < 1.0 or method != "rescaled" else "plain"
        return row["method"] == same and row["layers"] in (layers, "none")

    rates = [row["best_rate"] for row in table if wanted(row)]
    complete = len(WIDTHS) if layers == "none" else len(DENSITIES)
    return max(rates) / min(rates) if len(rates) == complete else None


def plot(by_case: dict[Case, dict[float, float]], path: Path) -> None:
    """Loss against learning rate, one panel for each method and direction, as a plain SVG."""
    panels = [
        ("plain, widths", [("plain", w, 1.0, "none") for w in WIDTHS]),
        ("SµPar, widths", [("supar", w, 1.0, "none") for w in WIDTHS]),
        *(
            (
                f"{title}, densities",
                [(m, DENSITY_WIDTH, d, "hidden" if d < 1.0 else "none") for d in DENSITIES],
            )
            for m, title in (("plain", "plain"), ("supar", "SµPar"))
        ),
    ]
    width, height, left, top = 380, 250, 48, 28
    shown = [
        v for _, members in panels for c in members if c in by_case for v in by_case[c].values()
    ]
    low, high = math.log(min(shown)), math.log(min(max(shown), 1.2))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {2 * height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{2 * width}" height="{2 * height}" fill="white"/>',
    ]
    for number, (title, members) in enumerate(panels):
        x0, y0 = (number % 2) * width + left, (number // 2) * height + top
        w, h = width - left - 90, height - top - 44

        def at(rate: float, loss: float, x0: int = x0, y0: int = y0, w: int = w, h: int = h) -> str:
            across = math.log(rate / RATES[0]) / math.log(RATES[-1] / RATES[0])
            up = (min(max(math.log(loss), low), high) - low) / (high - low)
            return f"{x0 + across * w:.1f},{y0 + h - up * h:.1f}"

        parts.append(
            f'<rect x="{x0}" y="{y0}" width="{w}" height="{h}" fill="none" stroke="#999"/>'
        )
        parts.append(f'<text x="{x0}" y="{y0 - 8}" font-weight="bold">{title}</text>')
        parts.append(f'<text x="{x0 + w / 2 - 60}" y="{y0 + h + 32}">learning rate (2^n)</text>')
        for power in range(12, 3, -2):
            x = float(at(2.0**-power, 1.0).split(",")[0])
            parts.append(f'<text x="{x - 8}" y="{y0 + h + 16}">-{power}</text>')
        for loss in (0.05, 0.1, 0.2, 0.5, 1.0):
            if low <= math.log(loss) <= high:
                y = float(at(RATES[0], loss).split(",")[1])
                parts.append(f'<line x1="{x0}" x2="{x0 + w}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>')
                parts.append(f'<text x="{x0 - 30}" y="{y + 4}">{loss:g}</text>')
        for index, case in enumerate(c for c in members if c in by_case):
            curve = by_case[case]
            color = f"hsl({230 - 200 * index / max(len(members) - 1, 1):.0f},70%,45%)"
            line = " ".join(at(rate, loss) for rate, loss in curve.items())
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
            x, y = at(min(curve, key=lambda r: curve[r]), min(curve.values())).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{color}"/>')
            label = f"width {case[1]}" if "widths" in title else f"density {_share(case[2])}"
            parts.append(
                f'<text x="{x0 + w + 6}" y="{y0 + 14 + 16 * index}" fill="{color}">{label}</text>'
            )
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def page(runs: list[dict[str, Any]], command: str, machine: str, name: str) -> str:
    table = rows(runs)
    seeds = sorted({run["seed"] for run in runs})
    count = len(runs)
    wanted = len(cases()) * len(RATES) * len(seeds)
    partly = "" if count == wanted else f" ({count} of {wanted} trainings are done)"
    summary = []
    for layers, along in (
        ("none", "widths 64 to 512"),
        ("hidden", "densities of the hidden layers, 1 to 1/32,"),
        ("first and hidden", "densities of the first and hidden layers, 1 to 1/32,"),
    ):
        moved = {m: drift(table, m, layers) for m in METHODS}
        parts = [f"{by:.1f}x with {m}" for m, by in moved.items() if by is not None]
        if parts:
            summary.append(f"- Over {along} the best learning rate moves by {', '.join(parts)}.")
    for method in METHODS:
        lost = [
            (row["loss_at_base_rate"] / row["best_loss"] - 1, row)
            for row in table
            if row["method"] == method
        ]
        worst, row = max(lost, key=lambda pair: pair[0])
        median = statistics.median(share for share, _ in lost)
        summary.append(
            f"- At the base's best rate, *{method}* loses {median:.0%} of its best loss in the "
            f"median of its rows and {worst:.0%} at worst (width {row['width']}, density "
            f"{_share(row['density'])})."
        )
    means = "; ".join(f"*{m}*: {text}" for m, text in METHODS.items())
    return "\n".join(
        [
            "# Transfer of the learning rate over width and density",
            "",
            f"An MLP with three hidden layers (ReLU, no normalization) on MNIST, one epoch of "
            f"Adam, batch {BATCH}, with a linearly falling learning rate; mean validation loss "
            f"over seeds {', '.join(map(str, seeds))}{partly}. Sparse layers have fixed random "
            "masks with equally many inputs for each unit; the output layer is dense. The base is "
            f"width {BASE_WIDTH} at density 1; each row is searched over {len(RATES)} learning "
            "rates in factors of 2, and the best is refined by a parabola. Losses are *measured*.",
            "",
            means + ".",
            "",
            *summary,
            "",
            f"![loss against learning rate]({name}.svg)",
            "",
            markdown(table),
            "",
            f"Command: `{command}`  ",
            f"Machine: {machine}, one thread",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/transfer"))
    parser.add_argument("--tables-only", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    from gossamer.runtime import machine

    runs = finished(arguments.runs, arguments.out)
    if not arguments.tables_only:
        import torch

        torch.set_num_threads(1)
        data = examples()
        done = {key(run) for run in runs}
        jobs = [
            (case, rate, seed)
            for seed, case, rate in itertools.product(arguments.seeds, cases(), RATES)
            if (*case, rate, seed) not in done
        ]
        arguments.runs.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        for number, (case, rate, seed) in enumerate(jobs, 1):
            run = one(data, case, rate, seed)
            with arguments.runs.open("a") as file:
                file.write(json.dumps(run) + "\n")
            runs.append(run)
            left = (time.perf_counter() - started) / number * (len(jobs) - number) / 60
            print(
                f"{number}/{len(jobs)} {case} rate {rate:.2g} seed {seed}: loss {run['loss']:.4f}, "
                f"{left:.0f} minutes left",
                file=sys.stderr,
                flush=True,
            )
    runs = sorted(whole(runs), key=key)
    command = "python " + shlex.join(a for a in sys.argv if a != "--tables-only")
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    by_case = curves(runs)
    out.with_suffix(".json").write_text(
        json.dumps(
            {"command": command, "machine": machine(), "table": rows(runs), "runs": runs}, indent=1
        )
    )
    plot(by_case, out.with_suffix(".svg"))
    text = page(runs, command, machine(), out.name)
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
