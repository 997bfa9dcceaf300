"""Speed-up over the dense kernel on a grid of weight and activation densities.

    python benchmarks/surface.py [--json FILE] [--svg FILE] [--turns N]

For each weight density x activation density, a linear layer (1600 -> 1500) and a convolution
(64 -> 64 channels, 5 x 5, on 14 x 14), batch 1, one thread, weights unstructured and in blocks
of 16 outputs. The activations come from k-winners, whose own time is left out; conversions
that a kernel needs are counted. The ideal, 1 / (dW * dA), is shown beside each figure. Times are
processor time, the minimum of several passes over 32 different inputs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gossamer.runtime import Engine, machine
from runtime import convolution, linear, write

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
EXAMPLES = 32
SHAPES = {"linear 1600 -> 1500": (1600,), "convolution 64 -> 64, 5 x 5": (64, 14, 14)}
PATTERNS = {"unstructured": 1, "blocks of 16": 16}


def seconds(layer: str, density: float, active: float, block: int, turns: int) -> float:
    """Of the layer, per example."""
    shape = SHAPES[layer]
    winners = 0 if active == 1 else max(1, round(active * math.prod(shape)))
    if len(shape) == 1:
        model = linear(1500, 1600, density, winners, block)
    else:
        model = convolution(density, winners, block)
    x = np.random.default_rng(1).standard_normal((EXAMPLES, *shape)).astype(np.float32)
    engine = Engine(model, threads=1, sample=x[:8])
    # The program for single examples, on one after the other.
    program, steps = engine._program("single"), engine._steps["single"]
    program.profile([x], 2, True)
    times = np.array(program.profile([x], turns, True), float)
    counted = [step.kernel.operation != "winners" for step in steps]
    return float(times[:, counted].sum(axis=1).min()) * 1e-9 / EXAMPLES


def surface(turns: int) -> list[dict[str, Any]]:
    rows = []
    for layer in SHAPES:
        dense = seconds(layer, 1.0, 1.0, 1, turns)
        for pattern, block in PATTERNS.items():
            for density in DENSITIES:
                for active in DENSITIES:
                    took = seconds(layer, density, active, block, turns)
                    rows.append(
                        {
                            "layer": layer,
                            "pattern": pattern,
                            "weight_density": density,
                            "activation_density": active,
                            "seconds": took,
                            "dense_seconds": dense,
                            "speedup": dense / took,
                            "ideal": 1 / (density * active),
                        }
                    )
                done = [f"{row['speedup']:6.1f}" for row in rows[-len(DENSITIES) :]]
                print(f"{layer}, {pattern}, {density:5.0%} of the weights:", *done, flush=True)
    return rows


def color(speedup: float, most: float) -> str:
    """White at 1x and below, deep blue at the largest."""
    share = min(1.0, max(0.0, math.log(max(speedup, 1)) / math.log(most)))
    return "#" + "".join(f"{round(255 + (end - 255) * share):02x}" for end in (0x1A, 0x4F, 0x8B))


def svg(rows: list[dict[str, Any]]) -> str:
    """Four panels; in each cell the speed-up, and the ideal below it."""
    cell, left, top, gap = 62, 60, 66, 64
    size = cell * len(DENSITIES)
    width, height = 2 * (size + gap) + left, 2 * (size + top + 26) + 30
    most = max(row["speedup"] for row in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13" text-anchor="middle">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, layer in enumerate(SHAPES):
        for j, pattern in enumerate(PATTERNS):
            x0, y0 = left + j * (size + gap), top + i * (size + top + 26)
            parts.append(
                f'<text x="{x0 + size / 2}" y="{y0 - 40}" font-size="16">{layer}, {pattern}</text>'
                f'<text x="{x0 + size / 2}" y="{y0 - 22}">activation density</text>'
                f'<text transform="translate({x0 - 40},{y0 + size / 2}) rotate(-90)">'
                "weight density</text>"
            )
            for k, density in enumerate(DENSITIES):
                center = k * cell + cell / 2
                parts.append(
                    f'<text x="{x0 + center}" y="{y0 - 6}">{density:.0%}</text>'
                    f'<text x="{x0 - 18}" y="{y0 + center + 5}">{density:.0%}</text>'
                )
            for row in rows:
                if (row["layer"], row["pattern"]) != (layer, pattern):
                    continue
                x = x0 + DENSITIES.index(row["activation_density"]) * cell
                y = y0 + DENSITIES.index(row["weight_density"]) * cell
                ink = "white" if row["speedup"] > most**0.5 else "black"
                shown = (
                    f"{row['speedup']:.1f}x" if row["speedup"] < 10 else f"{row['speedup']:.0f}x"
                )
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" '
                    f'fill="{color(row["speedup"], most)}" stroke="#cccccc"/>'
                    f'<text x="{x + cell / 2 - 1}" y="{y + 30}" fill="{ink}">{shown}</text>'
                    f'<text x="{x + cell / 2 - 1}" y="{y + 47}" fill="{ink}" font-size="10">'
                    f"of {row['ideal']:,.0f}x</text>"
                )
    parts.append(
        f'<text x="{width / 2}" y="{height - 12}">Measured speed-up over the dense kernel, and the '
        "ideal 1 / (weight density x activation density). Batch 1, one thread.</text></svg>"
    )
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    print(machine(), "- activation densities:", *(f"{d:.0%}" for d in DENSITIES), flush=True)
    rows = surface(arguments.turns)
    if arguments.json:
        write(arguments.json, json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    if arguments.svg:
        write(arguments.svg, svg(rows) + "\n")


if __name__ == "__main__":
    main()
