"""Metrics against each other, with their thresholds and the frontier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from gossamer.report import units
from gossamer.report.plots.axes import Scale, scale_of
from gossamer.report.plots.base import (
    FRONTIER,
    INSIDE,
    LIMIT,
    OUTSIDE,
    SHADE,
    Plot,
    blank,
    text,
)
from gossamer.report.study import Metric, Study, Trial


@dataclass(frozen=True)
class Axis:
    """The axis of one metric: wide enough for values and threshold."""

    metric: Metric
    scale: Scale

    @property
    def layout(self) -> dict[str, Any]:
        return self.scale.layout(f"{text(self.metric.name)} ({self.metric.goal})")


def axis_of(metric: Metric, values: Sequence[float]) -> Axis:
    """The axis of a metric."""
    limit = [] if metric.threshold is None else [metric.threshold]
    return Axis(metric, scale_of([*values, *limit]))


def draw_limits(figure: go.Figure, x: Axis, y: Axis) -> None:
    """Threshold lines, and everything beyond them shaded without shading twice."""
    left, right, bottom, top = x.scale.low, x.scale.high, y.scale.low, y.scale.high
    shade = {"type": "rect", "fillcolor": SHADE, "line_width": 0, "layer": "below"}
    line = {"type": "line", "line": {"color": LIMIT, "width": 1.5, "dash": "dash"}}
    limit = x.metric.threshold
    if limit is not None:
        failing = (left, limit) if x.metric.maximise else (limit, right)
        figure.add_shape(**shade, x0=failing[0], x1=failing[1], y0=bottom, y1=top)
        figure.add_shape(**line, x0=limit, x1=limit, y0=bottom, y1=top)
        left, right = (limit, right) if x.metric.maximise else (left, limit)
    limit = y.metric.threshold
    if limit is not None:
        failing = (bottom, limit) if y.metric.maximise else (limit, top)
        figure.add_shape(**shade, x0=left, x1=right, y0=failing[0], y1=failing[1])
        figure.add_shape(**line, x0=x.scale.low, x1=x.scale.high, y0=limit, y1=limit)


def hover_text(study: Study, trial: Trial) -> str:
    """What is told of a trial that is pointed at."""
    lines = [f"<b>trial {trial.number}</b>"]
    lines += [f"{text(m.name)}: {study.written(m, trial)}" for m in study.metrics]
    lines += [f"{text(k)}: {text(units.plain(v))}" for k, v in trial.parameters.items()]
    return "<br>".join(lines)


def groups_of(study: Study) -> list[tuple[str, list[Trial], dict[str, Any]]]:
    """The trials in drawing order: outside, inside, and the frontier on top."""
    best = {trial.number for trial in study.frontier}
    rest = [trial for trial in study.trials if trial.number not in best]
    outside = [trial for trial in rest if not trial.inside]
    inside = [trial for trial in rest if trial.inside]
    label = "frontier" if study.feasible else "nearest to the thresholds"
    faint = {"color": OUTSIDE, "size": 6, "opacity": 0.7, "symbol": "x-thin-open"}
    full = {"color": INSIDE, "size": 7, "opacity": 0.75}
    strong = {"color": FRONTIER, "size": 11, "line": {"color": "white", "width": 1.5}}
    if not study.feasible:
        strong |= {"color": "#e8590c", "symbol": "diamond"}
    return [
        ("outside the thresholds", outside, faint),
        ("inside the thresholds" if study.thresholds else "trial", inside, full),
        (label, list(study.frontier), strong),
    ]


def scatters(study: Study) -> list[Plot]:
    """Every pair of metrics against each other, thresholds drawn; none with one metric.

    With more than four metrics only the pairs holding the first one.
    """
    pairs = list(itertools.combinations(study.metrics, 2))
    if len(study.metrics) > 4:
        pairs = [pair for pair in pairs if pair[0] is study.metrics[0]]
    return [_scatter(study, *pair) for pair in pairs] if study.trials else []


def _scatter(study: Study, first: Metric, second: Metric) -> Plot:
    # The first metric stands upright: accuracy over density reads as one expects.
    xs = axis_of(second, [trial.values[second.name] for trial in study.trials])
    ys = axis_of(first, [trial.values[first.name] for trial in study.trials])
    only = len(study.metrics) == 2
    figure = blank(480 if only else 380, hovermode="closest")
    figure.update_xaxes(**xs.layout)
    figure.update_yaxes(**ys.layout)
    draw_limits(figure, xs, ys)
    # What the frontier reaches is bounded by steps, not by straight lines between its trials.
    stairs = "vh" if second.maximise else "hv"
    for label, trials, marker in groups_of(study):
        if not trials:
            continue
        ordered = sorted(trials, key=lambda trial: trial.values[second.name])
        best = label == "frontier" and only
        figure.add_scatter(
            x=xs.scale.clip(trial.values[second.name] for trial in ordered),
            y=ys.scale.clip(trial.values[first.name] for trial in ordered),
            mode="lines+markers" if best else "markers",
            name=label,
            marker=marker,
            line={"color": FRONTIER, "width": 2, "shape": stairs},
            text=[hover_text(study, trial) for trial in ordered],
            customdata=[trial.number for trial in ordered],
            hovertemplate="%{text}<extra></extra>",
        )
    title = f"{first.name} against {second.name}"
    alt = f"Scatter of {len(study.trials)} trials, {title}. {limits_said(first, second)}"
    if study.thresholds:
        alt += f"{study.inside} are inside all thresholds. "
    alt += f"{study.verdict[:1].upper()}{study.verdict[1:]}."
    key = f"scatter-{study.metrics.index(first)}-{study.metrics.index(second)}"
    how = dict.fromkeys((first.provenance, second.provenance))
    note = "Dashed red: the thresholds. Shaded: outside them." if study.thresholds else ""
    return Plot(key, title, alt, figure, tuple(how), only, note)


def limits_said(*metrics: Metric) -> str:
    """The thresholds in words."""
    limits = [f"{metric.name} {metric.limit}" for metric in metrics if metric.limit]
    return f"Thresholds: {', '.join(limits)}. " if limits else ""
