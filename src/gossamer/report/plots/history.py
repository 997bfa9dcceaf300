"""Metrics and hypervolume by trial number."""

from __future__ import annotations

from gossamer.report import units
from gossamer.report.plots.axes import scale_of
from gossamer.report.plots.base import FRONTIER, INSIDE, LIMIT, SHADE, Plot, blank, text
from gossamer.report.plots.scatters import (
    axis_of,
    groups_of,
    hover_text,
    limits_said,
)
from gossamer.report.study import Metric, Study, best_so_far, hypervolume_so_far


def history(study: Study) -> list[Plot]:
    """Each metric by trial number with its best so far, then the hypervolume."""
    if not study.trials:
        return []
    plots = [_history(study, metric) for metric in study.metrics]
    volume = hypervolume(study)
    return plots if volume is None else [*plots, volume]


def hypervolume(study: Study) -> Plot | None:
    """The hypervolume by trial number; None where `hypervolume_so_far` is empty."""
    steps = hypervolume_so_far(study)
    if not steps:
        return None
    numbers, volumes = zip(*steps, strict=True)
    scale = scale_of([0.0, volumes[-1]])
    figure = blank(300)
    figure.add_scatter(
        x=numbers,
        y=scale.clip(volumes),
        mode="lines",
        line={"shape": "hv", "color": FRONTIER, "width": 2.5},
        fill="tozeroy",
        fillcolor="rgba(11, 61, 145, 0.08)",
        hovertemplate="%{y:.4g} after trial %{x}<extra></extra>",
    )
    names = " × ".join(metric.name for metric in study.metrics if metric.optimised)
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(**(scale.layout(text(names)) | {"range": [0, scale.high]}))
    alt = f"Hypervolume by trial: {units.plain(volumes[-1])} {names} after trial {numbers[-1]}."
    how = tuple(dict.fromkeys(metric.provenance for metric in study.metrics))
    note = (
        "The area between the thresholds and the frontier so far, in one metric's unit times "
        "the other's. It is measured from the thresholds, so no further trial makes it smaller."
    )
    return Plot("hypervolume", "Hypervolume inside the thresholds", alt, figure, how, note=note)


def _history(study: Study, metric: Metric) -> Plot:
    axis = axis_of(metric, [trial.values[metric.name] for trial in study.trials])
    figure = blank(300, hovermode="closest")
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(**axis.layout)
    low, high = axis.scale.low, axis.scale.high
    if metric.threshold is not None:
        failing = (low, metric.threshold) if metric.maximise else (metric.threshold, high)
        figure.add_hrect(y0=failing[0], y1=failing[1], fillcolor=SHADE, line_width=0, layer="below")
        figure.add_hline(y=metric.threshold, line={"color": LIMIT, "width": 1.5, "dash": "dash"})
    for label, trials, marker in groups_of(study):
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=axis.scale.clip(trial.values[metric.name] for trial in trials),
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
        digits = study.digits[metric.name]
        figure.add_scatter(
            x=numbers,
            y=axis.scale.clip(bests),
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": INSIDE, "width": 2},
            hovertemplate=f"best after trial %{{x}}: %{{y:.{digits}g}}<extra></extra>",
        )
        place = "inside the thresholds " if study.thresholds else ""
        words = f"The best {place}is {units.plain(bests[-1], digits)}. "
    alt = f"{metric.name} by trial number. {limits_said(metric)}{words}".strip()
    key = f"history-{study.metrics.index(metric)}"
    return Plot(key, f"{metric.name} by trial", alt, figure, (metric.provenance,))
