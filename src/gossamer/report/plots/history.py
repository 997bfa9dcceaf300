"""Metrics and hypervolume by trial number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.plots.axes import scale_of
from gossamer.report.plots.base import FILL, FRONTIER, INSIDE, LIMIT_LINE, SHADE, Plot, blank, text
from gossamer.report.plots.scatters import (
    axis_of,
    deviation_bars,
    groups_of,
    hover_text,
    limits_text,
)
from gossamer.report.provenance import metric_provenance

if TYPE_CHECKING:
    from gossamer.search import Snapshot
    from gossamer.search.metrics import Metric


def history(snapshot: Snapshot) -> list[Plot]:
    """Draw each metric by trial number, with its best so far."""
    return [_history(snapshot, m) for m in snapshot.metrics] if snapshot.complete else []


def hypervolume(snapshot: Snapshot) -> list[Plot]:
    """Draw the hypervolume by trial number, if `Snapshot.hypervolume_so_far` has one."""
    steps = snapshot.hypervolume_so_far
    if not steps:
        return []
    numbers, volumes = zip(*steps, strict=True)
    scale = scale_of([0.0, volumes[-1]])
    figure = _growing(numbers, scale.clip(volumes))
    names = " × ".join(
        f"log {m.name}" if m.log else m.name for m in snapshot.metrics if m.optimized
    )
    figure.update_yaxes(**(scale.layout(text(names)) | {"range": [0, scale.high]}))
    alt = f"Hypervolume by trial: {units.plain(volumes[-1])} {names} after trial {numbers[-1]}."
    how = tuple(dict.fromkeys(metric_provenance(m.name) for m in snapshot.metrics))
    note = (
        "The area between the thresholds and the frontier so far, in one metric's unit times "
        "the other's. It is measured from the thresholds, so no further trial makes it smaller."
    )
    return [Plot("hypervolume", "Hypervolume inside the thresholds", alt, figure, how, note=note)]


def coverage(snapshot: Snapshot) -> list[Plot]:
    """Draw the share of the space covered by trial number, if no metric is optimized."""
    steps = snapshot.coverage_so_far
    if not steps:
        return []
    numbers, shares = zip(*steps, strict=True)
    scale = scale_of([0.0, 100.0 * shares[-1]])
    figure = _growing(numbers, scale.clip(100.0 * share for share in shares), "%")
    figure.update_yaxes(**(scale.layout("% of the space") | {"range": [0, scale.high]}))
    alt = f"Coverage by trial: {units.percent(shares[-1])} after trial {numbers[-1]}."
    note = (
        "The share of the space near a trial inside the thresholds: each covers up to a hundredth. "
        "The larger the region inside, the more there is to cover."
    )
    return [
        Plot("coverage", "Coverage inside the thresholds", alt, figure, ("counted",), note=note)
    ]


def _growing(numbers: Sequence[int], values: Sequence[float], unit: str = "") -> go.Figure:
    """Draw a filled staircase by trial number."""
    figure = blank(300)
    figure.add_scatter(
        x=numbers,
        y=values,
        mode="lines",
        line={"shape": "hv", "color": FRONTIER, "width": 2.5},
        fill="tozeroy",
        fillcolor=FILL,
        hovertemplate=f"%{{y:.4g}}{unit} after trial %{{x}}<extra></extra>",
    )
    figure.update_xaxes(title_text="trial")
    return figure


def _history(snapshot: Snapshot, metric: Metric) -> Plot:
    axis = axis_of(snapshot, metric)
    figure = blank(300, hovermode="closest")
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(**axis.layout)
    low, high = axis.scale.low, axis.scale.high
    if metric.threshold is not None:
        failing = metric.goal.outside(low, metric.threshold, high)
        figure.add_hrect(y0=failing[0], y1=failing[1], fillcolor=SHADE, line_width=0, layer="below")
        figure.add_hline(y=metric.threshold, line=LIMIT_LINE)
    for label, trials, marker in groups_of(snapshot):
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=axis.scale.clip(trial.values[metric.name] for trial in trials),
            error_y=deviation_bars(trials, metric, marker["color"]),
            mode="markers",
            name=label,
            marker=marker | {"size": min(marker["size"], 8)},
            text=[hover_text(snapshot, trial) for trial in trials],
            customdata=[trial.number for trial in trials],
            hovertemplate="%{text}<extra></extra>",
            visible=bool(trials),
        )
    # In a metric that is not optimized, acceptable values are equally good.
    steps = snapshot.best_so_far(metric) if metric.optimized else []
    best = "" if snapshot.inside else "No trial is inside the thresholds. "
    if steps:
        numbers, bests = zip(*steps, strict=True)
        digits = words.digits_of(snapshot, metric.name)
        figure.add_scatter(
            x=numbers,
            y=axis.scale.clip(bests),
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": INSIDE, "width": 2},
            hovertemplate=f"best after trial %{{x}}: %{{y:.{digits}g}}<extra></extra>",
        )
        place = "inside the thresholds " if snapshot.has_thresholds else ""
        best = f"The best {place}is {units.plain(bests[-1], digits)}. "
    alt = f"{axis.label} by trial number. {limits_text(metric)}{best}".strip()
    key = f"history-{snapshot.metrics.index(metric)}"
    return Plot(key, f"{axis.label} by trial", alt, figure, (metric_provenance(metric.name),))
