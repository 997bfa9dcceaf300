"""Small line charts side by side, as SVG, for the pages of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 250, 200  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 26, 34
COLORS = ("#5c6773", "#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e")


@dataclass(frozen=True)
class Panel:
    """One chart: a line of values in percent by name, over levels at equal distances."""

    title: str
    across: str
    levels: Sequence[float]
    lines: Mapping[str, Sequence[float]]


def svg(panels: Sequence[Panel], columns: int = 5) -> str:
    """The panels in rows, all from 0 to 100 %, under one legend."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, rows * HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for i, name in enumerate(names):
        parts.append(
            f'<text x="{LEFT + 110 * i}" y="15" font-size="12" font-weight="bold" '
            f'fill="{COLORS[i]}">{escape(name)}</text>'
        )
    for number, panel in enumerate(panels):
        parts += _panel(panel, number % columns * WIDTH, number // columns * HEIGHT + 24, names)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, x0: float, y0: float, names: Sequence[str]) -> list[str]:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = wide / max(len(panel.levels) - 1, 1)

    def at(index: int, percent: float) -> tuple[float, float]:
        return x0 + LEFT + index * step, y0 + TOP + high * (1 - percent / 100)

    parts = [f'<text x="{x0 + LEFT}" y="{y0 + 16}" font-weight="bold">{escape(panel.title)}</text>']
    for percent in (0, 25, 50, 75, 100):
        x, y = at(0, percent)
        parts.append(f'<line x1="{x}" x2="{x + wide}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x - 5}" y="{y + 3}" text-anchor="end">{percent}</text>')
    skip = 1 + (len(panel.levels) - 1) // 8
    for index, level in enumerate(panel.levels):
        if index % skip == 0:
            x, y = at(index, 0)
            parts.append(f'<text x="{x}" y="{y + 13}" text-anchor="middle">{level:g}</text>')
    x, y = at(0, 0)
    parts.append(
        f'<text x="{x + wide / 2}" y="{y + 27}" text-anchor="middle">{escape(panel.across)}</text>'
    )
    for name, values in panel.lines.items():
        color = COLORS[names.index(name)]
        points = " ".join("{:.1f},{:.1f}".format(*at(i, v)) for i, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    return parts
