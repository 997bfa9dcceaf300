"""The page itself: its template, scripts and styles, and its colours on dark ground."""

from __future__ import annotations

import functools
import json
from importlib import resources

from plotly.offline import get_plotlyjs_version

import gossamer
from gossamer.dashboard.answer import Answer, etag_of
from gossamer.report import plots
from gossamer.report.pages import plotly_js, templates_of

# The report's colours on dark ground: ink, lines, and marks that would be too dark.
DARK = {
    plots.INK: "#e6eaf0",
    plots.GRID: "#2a3340",
    "#cbd2d9": "#455163",
    plots.INSIDE: "#4dabf7",
    plots.FRONTIER: "#a5d8ff",
    plots.OUTSIDE: "#6f7b8b",
    plots.LIMIT: "#ff6b6b",
    plots.SHADE: "rgba(255, 107, 107, 0.10)",
    "rgba(11, 61, 145, 0.08)": "rgba(165, 216, 255, 0.12)",
    "rgba(255,255,255,0.85)": "rgba(23,29,38,0.85)",
    "#c3cad3": "#465263",
}

_TEMPLATES = templates_of("gossamer.dashboard")


def page(name: str, write: bool) -> Answer:
    """The page of the experiment `name`; `write`: it may store thresholds."""
    text = _TEMPLATES.get_template("page.html.j2").render(
        name=name,
        write=write,
        dark=json.dumps(DARK),
        version=gossamer.__version__,
        plotly=get_plotlyjs_version(),
    )
    return Answer(text.encode(), "text/html; charset=utf-8", etag_of(text))


@functools.cache
def static(name: str) -> Answer:
    """A file that the page loads."""
    if name == "plotly.js":
        body, kind = plotly_js().encode(), "text/javascript; charset=utf-8"
    else:
        body = (resources.files(__package__) / "templates" / name).read_bytes()
        kind = f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8"
    return Answer(body, kind, etag_of(body), lasting=name == "plotly.js")
