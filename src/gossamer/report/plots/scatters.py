"""Metrics against each other, with their thresholds and the frontier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.choice import knee
from gossamer.report.plots.axes import Scale, scale_of
from gossamer.report.plots.base import (
    FRONTIER,
    INSIDE,
    LIMIT_LINE,
    OUTSIDE,
    RING,
    SHADE,
    STOPPED,
    Plot,
    blank,
    text,
)
from gossamer.report.provenance import metric_provenance

if TYPE_CHECKING:
    from gossamer.search import Snapshot, TrialRecord
    from gossamer.search.metrics import Metric


@dataclass(frozen=True)
class Axis:
    """The axis of one metric, which includes all values and the threshold."""

    metric: Metric
    label: str
    scale: Scale

    @property
    def layout(self) -> dict[str, Any]:
        return self.scale.layout(f"{text(self.label)} ({words.role(self.metric)})")


def axis_of(snapshot: Snapshot, metric: Metric) -> Axis:
    """Return the axis of a metric for the complete trials."""
    values = [trial.values[metric.name] for trial in snapshot.complete]
    limit = [] if metric.threshold is None else [metric.threshold]
    return Axis(metric, snapshot.label(metric), scale_of([*values, *limit], log=metric.log))


def draw_limits(figure: go.Figure, x: Axis, y: Axis) -> None:
    """Draw threshold lines, and shade the area beyond them once."""
    left, right, bottom, top = x.scale.low, x.scale.high, y.scale.low, y.scale.high
    shade = {"type": "rect", "fillcolor": SHADE, "line_width": 0, "layer": "below"}
    line = {"type": "line", "line": LIMIT_LINE}
    limit = x.metric.threshold
    if limit is not None:
        failing = x.metric.goal.outside(left, limit, right)
        figure.add_shape(**shade, x0=failing[0], x1=failing[1], y0=bottom, y1=top)
        figure.add_shape(**line, x0=limit, x1=limit, y0=bottom, y1=top)
        left, right = (limit, right) if x.metric.goal.sign > 0 else (left, limit)
    limit = y.metric.threshold
    if limit is not None:
        failing = y.metric.goal.outside(bottom, limit, top)
        figure.add_shape(**shade, x0=left, x1=right, y0=failing[0], y1=failing[1])
        figure.add_shape(**line, x0=x.scale.low, x1=x.scale.high, y0=limit, y1=limit)


def hover_text(snapshot: Snapshot, trial: TrialRecord) -> str:
    """Write the label of a trial under the pointer."""
    return _hover_texts(snapshot)[trial.number]


@lru_cache(maxsize=4)  # every plot of trials has the same
def _hover_texts(snapshot: Snapshot) -> dict[int, str]:
    texts = {}
    for trial in snapshot.complete:
        lines = [f"<b>trial {trial.number}</b>"]
        lines += [
            f"{text(snapshot.label(m))}: {words.value(snapshot, m, trial)}"
            for m in snapshot.metrics
        ]
        lines += [f"{text(k)}: {text(units.plain(v))}" for k, v in trial.parameters.items()]
        texts[trial.number] = "<br>".join(lines)
    return texts


def groups_of(snapshot: Snapshot) -> list[tuple[str, list[TrialRecord], dict[str, Any]]]:
    """Return groups of trials in drawing order: outside, inside, and the frontier on top."""
    front = snapshot.frontier
    best = {trial.number for trial in front.trials}
    rest = [trial for trial in snapshot.complete if trial.number not in best]
    outside = [trial for trial in rest if trial.number not in snapshot.inside]
    inside = [trial for trial in rest if trial.number in snapshot.inside]
    label = words.place(snapshot).removeprefix("on the ")
    faint = {
        "color": OUTSIDE,
        "size": 6,
        "opacity": 0.9,
        "symbol": "x-thin-open",
        "line": {"width": 1.5},
    }
    full = {"color": INSIDE, "size": 7, "opacity": 0.75}
    strong = {"color": FRONTIER, "size": 11, "line": {"color": RING, "width": 1.5}}
    if not front.feasible:
        strong |= {"color": STOPPED, "symbol": "diamond"}
    if front.feasible and front.kind == "region":  # none is better than another
        return [("outside the thresholds", outside, faint), (label, front.trials, full)]
    return [
        ("outside the thresholds", outside, faint),
        ("inside the thresholds" if snapshot.has_thresholds else "trial", inside, full),
        (label, front.trials, strong),
    ]


def scatters(snapshot: Snapshot) -> list[Plot]:
    """Draw every pair of metrics with thresholds; nothing with one metric.

    With more than four metrics, only pairs with the first one are drawn.
    """
    pairs = list(itertools.combinations(snapshot.metrics, 2))
    if len(snapshot.metrics) > 4:
        pairs = [pair for pair in pairs if pair[0] is snapshot.metrics[0]]
    return [_scatter(snapshot, *pair) for pair in pairs] if snapshot.complete else []


def _scatter(snapshot: Snapshot, first: Metric, second: Metric) -> Plot:
    # The first metric is vertical, for the usual plot of accuracy over density.
    xs = axis_of(snapshot, second)
    ys = axis_of(snapshot, first)
    only = len(snapshot.metrics) == 2
    figure = blank(480 if only else 380, hovermode="closest")
    figure.update_xaxes(**xs.layout)
    figure.update_yaxes(**ys.layout)
    draw_limits(figure, xs, ys)
    # The frontier's region is bounded by steps, not by straight lines between its trials.
    stairs = "vh" if second.goal.sign > 0 else "hv"
    for label, trials, marker in groups_of(snapshot):
        if not trials:
            continue
        ordered = sorted(trials, key=lambda trial: trial.values[second.name])
        best = label == "frontier" and only
        figure.add_scatter(
            x=xs.scale.clip(trial.values[second.name] for trial in ordered),
            y=ys.scale.clip(trial.values[first.name] for trial in ordered),
            error_x=deviation_bars(ordered, second, marker["color"]),
            error_y=deviation_bars(ordered, first, marker["color"]),
            mode="lines+markers" if best else "markers",
            name=label,
            marker=marker,
            line={"color": FRONTIER, "width": 2, "shape": stairs},
            text=[hover_text(snapshot, trial) for trial in ordered],
            customdata=[trial.number for trial in ordered],
            hovertemplate="%{text}<extra></extra>",
        )
    bend = knee(snapshot)
    if bend is not None:
        figure.add_scatter(
            x=xs.scale.clip([bend.values[second.name]]),
            y=ys.scale.clip([bend.values[first.name]]),
            mode="markers",
            name="knee",
            marker={"color": STOPPED, "size": 19, "symbol": "circle-open", "line": {"width": 2.5}},
            hoverinfo="skip",
        )
    title = f"{ys.label} against {xs.label}"
    alt = f"Scatter of {len(snapshot.complete)} trials, {title}. {limits_text(first, second)}"
    if snapshot.has_thresholds:
        alt += f"{len(snapshot.inside)} are inside all thresholds. "
    verdict = words.verdict(snapshot)
    alt += f"{verdict[:1].upper()}{verdict[1:]}."
    key = f"scatter-{snapshot.metrics.index(first)}-{snapshot.metrics.index(second)}"
    how = dict.fromkeys(metric_provenance(metric.name) for metric in (first, second))
    notes = ["Dashed red: the thresholds. Shaded: outside them."] if snapshot.has_thresholds else []
    if bend is not None:
        notes.append("Ringed: the knee of the frontier.")
    if any(t.noise.get(m.name) for t in snapshot.complete for m in (first, second)):
        notes.append("Bars: one standard deviation to either side.")
    note = " ".join(notes)
    return Plot(key, title, alt, figure, tuple(how), only, note)


def deviation_bars(trials: Sequence[TrialRecord], metric: Metric, color: str) -> dict[str, Any]:
    """Return error bars of one standard deviation; empty if no deviation is known."""
    deviations = [trial.noise.get(metric.name, 0.0) for trial in trials]
    if not any(deviations):
        return {}
    return {"type": "data", "array": deviations, "color": color, "thickness": 1, "width": 3}


def limits_text(*metrics: Metric) -> str:
    """Write the thresholds."""
    limits = [f"{m.name} {words.limit(m)}" for m in metrics if m.threshold is not None]
    return f"Thresholds: {', '.join(limits)}. " if limits else ""
