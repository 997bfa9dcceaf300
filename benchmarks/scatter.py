"""Accuracy over a cost on a log axis, as SVG, for the pages of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 330, 330  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 34, 14, 12, 36
LEGEND = 24
#: Color, and whether a mark is filled, by kind of point.
KINDS = {
    "sparse": ("#0b7285", True),
    "dense": ("#5c6773", True),
    "dense, fastest other runtime": ("#5c6773", False),
    "published": ("#e8590c", False),
}
LETTER = 5.6  # width of a letter of a label


@dataclass(frozen=True)
class Point:
    """A network: its cost, its accuracy in percent, and a label, or none.

    Attributes:
        kind: one of `KINDS`.
    """

    cost: float
    accuracy: float
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Chart:
    """Networks over one cost."""

    across: str
    points: Sequence[Point]


def svg(charts: Sequence[Chart], lowest: float, highest: float, target: float) -> str:
    """The charts side by side under one legend.

    Each has a line along the sparse networks that no other sparse one betters.

    Args:
        charts: one for each cost.
        lowest, highest: the range of accuracies, in percent; networks below are left out.
        target: an accuracy that is marked by a line.
    """
    width, height = WIDTH * len(charts), HEIGHT + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    shown = [
        Chart(chart.across, [p for p in chart.points if p.accuracy >= lowest]) for chart in charts
    ]
    x = LEFT + 6.0
    for kind in KINDS:
        if any(point.kind == kind for chart in shown for point in chart.points):
            parts += [_mark(x, 13, kind), f'<text x="{x + 8}" y="17" font-size="12">{kind}</text>']
            x += 40 + 6.4 * len(kind)
    for number, chart in enumerate(shown):
        parts += _Drawing(chart, number * WIDTH, lowest, highest, target).parts()
    return "\n".join([*parts, "</svg>"]) + "\n"


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that none betters in cost and accuracy, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


@dataclass(frozen=True)
class _Drawing:
    """One chart at its place."""

    chart: Chart
    left: float
    lowest: float
    highest: float
    target: float

    def _across(self, cost: float) -> float:
        costs = [point.cost for point in self.chart.points]
        low, high = math.log(min(costs) / 1.3), math.log(max(costs) * 1.3)
        wide = WIDTH - LEFT - RIGHT
        return self.left + LEFT + wide * (math.log(cost) - low) / (high - low)

    def _down(self, accuracy: float) -> float:
        high = HEIGHT - TOP - BOTTOM
        part = (self.highest - accuracy) / (self.highest - self.lowest)
        return LEGEND + TOP + high * part

    def parts(self) -> list[str]:
        x, end, bottom = self.left + LEFT, self.left + WIDTH - RIGHT, self._down(self.lowest)
        parts = []
        for percent in range(math.ceil(self.lowest), math.floor(self.highest) + 1):
            y = self._down(percent)
            parts.append(f'<line x1="{x}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{x - 5}" y="{y + 3:.1f}" text-anchor="end">{percent}</text>')
        y = self._down(self.target)
        parts.append(
            f'<line x1="{x}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" stroke="#2b8a3e" '
            'stroke-dasharray="4 3"/>'
        )
        for cost in self._ticks():
            at = self._across(cost)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}" '
                'stroke="#5c6773"/>'
            )
            label = f"{cost:,.0f}" if cost < 1e6 else f"{cost / 1e6:g} M"
            parts.append(
                f'<text x="{at:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{label}</text>'
            )
        parts.append(
            f'<text x="{(x + end) / 2}" y="{bottom + 30:.1f}" text-anchor="middle" '
            f'font-weight="bold">{escape(self.chart.across)}</text>'
        )
        best = frontier([point for point in self.chart.points if point.kind == "sparse"])
        line = " ".join(f"{self._across(p.cost):.1f},{self._down(p.accuracy):.1f}" for p in best)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{KINDS["sparse"][0]}" '
            'stroke-opacity="0.5"/>'
        )
        for point in self.chart.points:
            parts.append(_mark(self._across(point.cost), self._down(point.accuracy), point.kind))
        return parts + self._labels(end)

    def _ticks(self) -> list[float]:
        costs = [point.cost for point in self.chart.points]
        powers = range(math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs))) + 1)
        steps = (1, 3) if max(costs) > 40 * min(costs) else (1, 2, 5)
        ticks = [step * 10.0**power for power in powers for step in steps]
        return [tick for tick in ticks if min(costs) / 1.3 <= tick <= max(costs) * 1.3]

    def _labels(self, end: float) -> list[str]:
        """The labels beside their points, where they cover neither a point nor each other."""
        taken = [
            (self._across(p.cost) - 4, self._down(p.accuracy) - 4, 8.0, 8.0)
            for p in self.chart.points
        ]
        parts = []
        for point in self.chart.points:
            if not point.label:
                continue
            x, y = self._across(point.cost), self._down(point.accuracy)
            wide = LETTER * len(point.label)
            places = [
                (x + dx, y + dy)
                for dy in (-4.0, -12.0, 4.0, 12.0)
                for dx in (6.0, -wide - 6, -wide / 2)
            ]
            for left, top in places:
                box = (left, top, wide, 9.0)
                if (
                    left < self.left + LEFT
                    or left + wide > end
                    or any(_meet(box, t) for t in taken)
                ):
                    continue
                taken.append(box)
                color = KINDS[point.kind][0]
                parts.append(
                    f'<text x="{left:.1f}" y="{top + 8:.1f}" fill="{color}">'
                    f"{escape(point.label)}</text>"
                )
                break
        return parts


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _mark(x: float, y: float, kind: str) -> str:
    color, filled = KINDS[kind]
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke="{color}" stroke-width="1.5" '
        f'fill="{color if filled else "white"}"/>'
    )
