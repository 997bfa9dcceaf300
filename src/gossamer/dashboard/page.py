"""The page: its template, scripts and styles."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from plotly.offline import get_plotlyjs_version

import gossamer
from gossamer.dashboard.answer import Answer, etag_of
from gossamer.report import units
from gossamer.report.overview import OverviewRow, metrics_of
from gossamer.report.pages import asset, plotly_js, templates_of
from gossamer.report.panels import PANELS, SECTIONS
from gossamer.report.plots.base import DARK

_TEMPLATES = templates_of("gossamer.dashboard", "gossamer.report")
# What the report shares with the pages comes first.
_SHARED = {
    "page.js": ("theme.js", "plots.js", "choice.js"),
    "overview.js": ("theme.js",),
    "page.css": ("theme.css",),
}


def overview_page(rows: Sequence[OverviewRow], link: Callable[[str], str]) -> Answer:
    """Return the page of several experiments; `link` returns the address of one by name."""
    return _html("overview.html.j2", rows=rows, metrics=metrics_of(rows), link=link, units=units)


def page(name: str, write: bool, overview: bool) -> Answer:
    """Return the page of one experiment.

    Args:
        name: name of the experiment.
        write: whether the page may store thresholds.
        overview: whether it links to the page of all experiments.
    """
    return _html(
        "page.html.j2",
        name=name,
        write=write,
        overview=overview,
        first=PANELS[0],
        sections=SECTIONS,
        dark=json.dumps(DARK),
        plotly=get_plotlyjs_version(),
    )


def _html(template: str, **values: Any) -> Answer:
    text = _TEMPLATES.get_template(template).render(version=gossamer.__version__, **values)
    return Answer(text.encode(), "text/html; charset=utf-8", etag_of(text))


@functools.cache
def static(name: str) -> Answer:
    """Return a script or style file of the page."""
    if name == "plotly.js":
        body = plotly_js().encode()
    else:
        own = (resources.files(__package__) / "templates" / name).read_bytes()
        body = asset(*_SHARED[name]) + b"\n" + own
    kind = f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8"
    return Answer(body, kind, etag_of(body), lasting=name == "plotly.js")
