"""Metrics by trial number, and the share of the box gained."""

from __future__ import annotations

from gossamer.report import units
from gossamer.report.plots.base import (
    FRONTIER,
    INSIDE,
    LIMIT,
    SHADE,
    Plot,
    blank,
)
from gossamer.report.plots.scatters import (
    axis_of,
    groups_of,
    hover_text,
    limits_said,
)
from gossamer.report.study import Metric, Study, area_so_far, best_so_far


def history(study: Study) -> list[Plot]:
    """Each metric by trial number with its best so far, then the share of the box gained."""
    if not study.trials:
        return []
    plots = [_history(study, metric) for metric in study.metrics]
    box = area(study)
    return plots if box is None else [*plots, box]


def area(study: Study) -> Plot | None:
    """The hypervolume by trial number; None where `area_so_far` is empty."""
    steps = area_so_far(study)
    if not steps:
        return None
    numbers, shares = zip(*steps, strict=True)
    figure = blank(300)
    figure.add_scatter(
        x=numbers,
        y=shares,
        mode="lines",
        line={"shape": "hv", "color": FRONTIER, "width": 2.5},
        fill="tozeroy",
        fillcolor="rgba(11, 61, 145, 0.08)",
        hovertemplate="%{y:.1%} after trial %{x}<extra></extra>",
    )
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(title_text="share of the box", tickformat=".0%", range=[0, 1.02])
    alt = (
        "Hypervolume by trial: share of the box between the thresholds and the best value "
        f"of each metric. {units.percent(shares[-1])} after trial {numbers[-1]}."
    )
    how = tuple(dict.fromkeys(metric.provenance for metric in study.metrics))
    note = (
        "How much of the box between the thresholds and the best value of each metric "
        "the trials so far cover."
    )
    return Plot("area", "Hypervolume inside the thresholds", alt, figure, how, note=note)


def _history(study: Study, metric: Metric) -> Plot:
    axis = axis_of(metric, [trial.values[metric.name] for trial in study.trials])
    figure = blank(300, hovermode="closest")
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(**axis.layout)
    if metric.threshold is not None:
        failing = (axis.low, metric.threshold) if metric.maximise else (metric.threshold, axis.high)
        figure.add_hrect(y0=failing[0], y1=failing[1], fillcolor=SHADE, line_width=0, layer="below")
        figure.add_hline(y=metric.threshold, line={"color": LIMIT, "width": 1.5, "dash": "dash"})
    for label, trials, marker in groups_of(study):
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=[trial.values[metric.name] for trial in trials],
            mode="markers",
            name=label,
            marker=marker | {"size": min(marker["size"], 8)},
            text=[hover_text(study, trial) for trial in trials],
            customdata=[trial.number for trial in trials],
            hovertemplate="%{text}<extra></extra>",
            visible=bool(trials),
        )
    steps = best_so_far(study, metric)
    words = "No trial is inside the thresholds. "
    if steps:
        numbers, bests = zip(*steps, strict=True)
        figure.add_scatter(
            x=numbers,
            y=bests,
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": INSIDE, "width": 2},
            hovertemplate="best after trial %{x}: %{y:.4g}<extra></extra>",
        )
        place = "inside the thresholds " if study.thresholds else ""
        words = f"The best {place}is {units.plain(bests[-1])}. "
    alt = f"{metric.name} by trial number. {limits_said(metric)}{words}".strip()
    key = f"history-{study.metrics.index(metric)}"
    return Plot(key, f"{metric.name} by trial", alt, figure, (metric.provenance,))
