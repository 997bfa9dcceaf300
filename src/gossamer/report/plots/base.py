"""Common parts of plots: colors, an empty figure, and texts."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from gossamer.report.provenance import Provenance

# Colors that differ in lightness too, so that the page reads without color.
INK, GRID = "#1f2933", "#e4e7eb"
SERIES = ("#8a94a3", "#0b7285", "#c2571a", "#5f3dc4", "#2b8a3e", "#a61e4d")
INSIDE, OUTSIDE, FRONTIER, LIMIT = "#1c7ed6", "#8993a1", "#0b3d91", "#c92a2a"
SHADE, FILL = "rgba(201, 42, 42, 0.07)", "rgba(11, 61, 145, 0.08)"
BORDER, UNSELECTED, STOPPED, RING = "#cbd2d9", "#c3cad3", "#e8590c", "#fefefe"
LIMIT_LINE = {"color": LIMIT, "width": 1.5, "dash": "dash"}  # of a threshold
# On a dark background, the page replaces colors by these.
DARK = {
    INK: "#e6eaf0",
    GRID: "#2a3340",
    BORDER: "#455163",
    UNSELECTED: "#465263",
    INSIDE: "#4dabf7",
    OUTSIDE: "#a3afbf",
    FRONTIER: "#a5d8ff",
    LIMIT: "#ff6b6b",
    STOPPED: "#ffa94d",
    SHADE: "rgba(255, 107, 107, 0.10)",
    FILL: "rgba(165, 216, 255, 0.12)",
    "#0b7285": "#3bc9db",
    "#c2571a": "#ffa94d",
    "#5f3dc4": "#b197fc",
    "#2b8a3e": "#69db7c",
    "#a61e4d": "#f783ac",
    RING: "#171d26",
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class Plot:
    """A figure with ``alt``, its text for screen readers, and ``note``, how to read it."""

    key: str
    title: str
    alt: str
    figure: go.Figure
    provenance: tuple[Provenance, ...]
    wide: bool = False
    note: str = ""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.figure.layout.height)

    @property
    def json(self) -> str:
        """Return the figure as JSON that is safe in a script element."""
        return script_json(self.figure)


def script_json(content: object) -> str:
    """Return JSON that is safe in a script element; ``content`` may include plotly's figures."""
    encoded = json.dumps(content, cls=PlotlyJSONEncoder, sort_keys=True)
    # A name holding "</script>" or "<!--" must not end or change the element.
    for sign in "<>&\u2028\u2029":
        encoded = encoded.replace(sign, f"\\u{ord(sign):04x}")
    return encoded


def text(name: object) -> str:
    """Escape a user's text for plotly, which interprets some HTML tags."""
    return html.escape(str(name), quote=False)


def blank(height: int, **layout: Any) -> go.Figure:
    """Return an empty figure in the report's style; ``height`` in pixels."""
    axis = {
        "gridcolor": GRID,
        "linecolor": BORDER,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": BORDER,
        "title": {"standoff": 10, "font": {"size": 13}},
    }
    base = go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": INK},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": SERIES,
            "xaxis": axis,
            "yaxis": axis,
            # Where automargin must widen them for the labels, plotly draws everything twice.
            "margin": {"l": 84, "r": 16, "t": 28, "b": 60},
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#9aa5b1", "activecolor": INK},
            "hoverlabel": {"font": {"family": FONT}, "align": "left", "namelength": -1},
        }
    )
    return go.Figure(layout={"template": base, "height": height, **layout})


def color(index: int) -> str:
    """Return the color of a series."""
    return SERIES[index % len(SERIES)]
