"""Panels of an experiment, which its report and its dashboard both show.

A further panel is a function that draws it, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gossamer.report.plots.base import Plot
from gossamer.report.plots.curves import curves
from gossamer.report.plots.history import coverage, history, hypervolume
from gossamer.report.plots.parameters import importances, parallel
from gossamer.report.plots.scatters import scatters

if TYPE_CHECKING:
    from gossamer.search import Snapshot


@dataclass(frozen=True)
class Panel:
    """A group of plots.

    Attributes:
        key: the panel's key in the page.
        section: the heading above it; panels of one section are adjacent.
        draw: makes the plots; returns none if there is nothing to show.
        asked: when the dashboard requests them: "live", while a threshold is dragged; "later",
            after the upper part of the page is drawn; "slow", separately, because they take
            seconds.
    """

    key: str
    section: str
    draw: Callable[[Snapshot], list[Plot]]
    asked: Literal["live", "later", "slow"] = "later"


# The first is alone at the top of the page.
PANELS = (
    Panel("scatter", "Metrics", scatters, "live"),
    Panel("hypervolume", "History", hypervolume, "live"),
    Panel("coverage", "History", coverage, "live"),
    Panel("history", "History", history),
    Panel("curves", "Learning curves", curves),
    Panel("importances", "Importance of the parameters", importances, "slow"),
    Panel("parallel", "Importance of the parameters", parallel),
)
SECTIONS = {
    section: tuple(panel for panel in PANELS if panel.section == section)
    for section in dict.fromkeys(panel.section for panel in PANELS[1:])
}
