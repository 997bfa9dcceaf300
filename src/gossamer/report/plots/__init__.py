"""The page's plots as plotly figures, without any styling of the page around them."""

from gossamer.report.plots.base import (
    FRONTIER,
    GRID,
    INK,
    INSIDE,
    LIMIT,
    OUTSIDE,
    SHADE,
    Plot,
    blank,
)
from gossamer.report.plots.history import history, hypervolume
from gossamer.report.plots.parameters import importances, parallel
from gossamer.report.plots.runs import disturbed, layers, noise, noise_curve
from gossamer.report.plots.scatters import scatters

__all__ = [
    "FRONTIER",
    "GRID",
    "INK",
    "INSIDE",
    "LIMIT",
    "OUTSIDE",
    "SHADE",
    "Plot",
    "blank",
    "disturbed",
    "history",
    "hypervolume",
    "importances",
    "layers",
    "noise",
    "noise_curve",
    "parallel",
    "scatters",
]
