"""The page's plots as plotly figures, without any styling of the page around them."""

from __future__ import annotations

import html
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from gossamer.report import figures, units
from gossamer.report.study import Metric, Parameter, Study, Trial, area_so_far, best_so_far

# Colours that differ in lightness too, so that the page reads without colour.
INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
SERIES = ("#8a94a3", "#0b7285", "#c2571a", "#5f3dc4", "#2b8a3e", "#a61e4d")
INSIDE, OUTSIDE, FRONTIER, LIMIT = "#1c7ed6", "#8993a1", "#0b3d91", "#c92a2a"
SHADE = "rgba(201, 42, 42, 0.07)"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class Plot:
    """A figure and its words: ``alt`` for who cannot see it, ``note`` on how to read it."""

    key: str
    title: str
    alt: str
    figure: go.Figure
    provenance: tuple[figures.Provenance, ...]
    wide: bool = False
    note: str = ""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.figure.layout.height)

    @property
    def json(self) -> str:
        """The figure as JSON that may stand inside a script element."""
        encoded = json.dumps(self.figure, cls=PlotlyJSONEncoder, sort_keys=True)
        # A name holding "</script>" or "<!--" must not end or change the element.
        for sign in "<>&\u2028\u2029":
            encoded = encoded.replace(sign, f"\\u{ord(sign):04x}")
        return encoded


def _text(name: object) -> str:
    """A user's text as plotly shows it: plotly reads a small HTML of its own."""
    return html.escape(str(name), quote=False)


def blank(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's style; ``height`` in pixels."""
    axis = {
        "gridcolor": GRID,
        "linecolor": "#cbd2d9",
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": "#cbd2d9",
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
            "margin": {"l": 56, "r": 16, "t": 36, "b": 48},
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
            "modebar": {
                "bgcolor": "rgba(255,255,255,0.85)",
                "color": "#9aa5b1",
                "activecolor": INK,
            },
            "hoverlabel": {"font": {"family": FONT}, "align": "left", "namelength": -1},
        }
    )
    return go.Figure(layout={"template": base, "height": height, **layout})


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def noise(runs: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Accuracy against noise level, one curve per run that measured it."""
    figure = blank(340)
    figure.update_xaxes(title_text="noise level")
    figure.update_yaxes(title_text="accuracy", tickformat=".0%")
    words = []
    for index, (name, run) in enumerate(runs.items()):
        curve = noise_curve(run)
        if not curve:
            continue
        levels, shares = zip(*curve, strict=True)
        figure.add_scatter(
            x=levels,
            y=shares,
            name=_text(name),
            mode="lines+markers",
            line={"color": _colour(index), "width": 2.5},
            marker={"size": 7, "symbol": index},
            hovertemplate="%{y:.2%} at level %{x}",
        )
        words.append(
            f"{name} falls from {units.percent(shares[0])} at level {units.plain(levels[0])} "
            f"to {units.percent(shares[-1])} at level {units.plain(levels[-1])}"
        )
    if not words:
        return None
    figure.update_layout(hovermode="x unified")
    alt = f"Accuracy against noise level: {'; '.join(words)}."
    return Plot("noise", "Accuracy under noise", alt, figure, ("measured",))


def noise_curve(run: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Level and accuracy at each noise level; empty when the run did not measure it."""
    measured = run.get("noise") or {}
    levels, correct = measured.get("levels") or [], measured.get("correct") or []
    of = figures.value(run, "noise", "of")
    if not levels or len(levels) != len(correct) or not of:
        return []
    return [
        (float(level), float(right) * len(levels) / of)
        for level, right in zip(levels, correct, strict=True)
    ]


def disturbed(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Accuracy against the strength of each disturbance, one plot each, one curve per run."""
    curves: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, run in runs.items():
        for curve in figures.disturbances(run):
            curves.setdefault(str(curve["name"]), {})[name] = curve
    return [_disturbed(kind, list(runs), found) for kind, found in curves.items()]


def _disturbed(kind: str, names: list[str], curves: Mapping[str, Mapping[str, Any]]) -> Plot:
    figure = blank(280)
    unit = str(next(iter(curves.values()))["unit"])
    words = []
    for name, curve in curves.items():
        index = names.index(name)
        of = max(1, int(curve["of"]))
        shares = [float(right) / of for right in curve["correct"]]
        figure.add_scatter(
            x=curve["levels"],
            y=shares,
            name=_text(name),
            mode="lines+markers",
            line={"color": _colour(index), "width": 2.5},
            marker={"size": 7, "symbol": index},
            hovertemplate=f"%{{y:.2%}} at %{{x}} {_text(unit)}",
        )
        words.append(f"{name} " + ", ".join(units.percent(share) for share in shares))
    loud = unit == "dB"  # fewer decibels of signal to noise are more noise
    title = "signal to noise, dB" if loud else unit
    figure.update_xaxes(title_text=_text(title), autorange="reversed" if loud else True)
    figure.update_yaxes(title_text="accuracy", tickformat=".0%")
    figure.update_layout(hovermode="x unified")
    written = kind.replace("_", " ")
    heading = f"Accuracy in {written} noise" if loud else f"Accuracy under {written}"
    alt = f"{heading}, from mild to strong: {'; '.join(words)}."
    return Plot(f"disturbed-{kind}", heading, alt, figure, ("measured",))


def layers(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Multiply-adds per layer, one plot per run, all on the same scale."""
    listed = {name: figures.layers(run) for name, run in runs.items()}
    every = itertools.chain.from_iterable(listed.values())
    most = max((layer.dense or 0.0 for layer in every), default=0.0)
    plots = []
    for index, (name, parts) in enumerate(listed.items()):
        if not parts:
            continue
        figure = blank(110 + 62 * len(parts), barmode="group", bargap=0.25)
        for label, colour, read in (
            ("dense", "#b8c1cc", [layer.dense for layer in parts]),
            ("weights only", "#4dabf7", [layer.weights_only for layer in parts]),
            ("weights × activations", "#0b3d91", [layer.both for layer in parts]),
        ):
            figure.add_bar(
                y=[_text(layer.name) for layer in parts],
                x=read,
                name=label,
                orientation="h",
                marker={"color": colour},
                text=["" if figure_ is None else units.short(figure_) for figure_ in read],
                textposition="outside",
                textfont={"size": 11},
                cliponaxis=False,
                hovertemplate="%{y}: %{x:,.0f} multiply-adds",
            )
        figure.update_xaxes(title_text="multiply-adds per inference", range=[0, 1.16 * most or 1])
        figure.update_yaxes(autorange="reversed", type="category", ticks="", title_text="")
        figure.update_layout(legend={"traceorder": "normal"})
        words = "; ".join(
            f"{layer.name} {units.short(layer.dense or 0)} dense, "
            f"{units.short(layer.weights_only or 0)} with non-zero weights, "
            f"{units.short(layer.both or 0)} with both non-zero"
            for layer in parts
        )
        title = f"Multiply-adds per layer: {name}"
        alt = f"{title}: {words}."
        plots.append(Plot(f"layers-{index}", title, alt, figure, ("counted",)))
    return plots


@dataclass(frozen=True)
class _Axis:
    """The range of one metric's axis: wide enough for values and threshold."""

    metric: Metric
    log: bool
    low: float
    high: float

    @property
    def layout(self) -> dict[str, Any]:
        ends = [self.low, self.high]
        name = _text(self.metric.name)
        common = {"title": {"text": f"{name} ({self.metric.goal})"}}
        if not self.log:
            return {**common, "range": ends}
        ticks = {"type": "log", "range": [math.log10(end) for end in ends]}
        return {**common, **ticks, **_log_ticks(self.low, self.high)}


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """1, 2, 5 per decade while few, else powers of ten: plotly's own run into each other."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 3 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    kept = [tick for tick in ticks if low <= tick <= high]
    if len(kept) < 2:
        return {}
    return {"tickvals": kept, "ticktext": [units.plain(tick) for tick in kept]}


def _axis(metric: Metric, values: Sequence[float]) -> _Axis:
    known = [*values, *([] if metric.threshold is None else [metric.threshold])]
    low, high = min(known), max(known)
    log = low > 0 and high / low > 30
    if log:
        spread = (high / low) ** 0.06
        return _Axis(metric, True, low / spread, high * spread)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return _Axis(metric, False, low - margin, high + margin)


def _limits(figure: go.Figure, x: _Axis, y: _Axis) -> None:
    """Threshold lines, and everything beyond them shaded without shading twice."""
    left, right, bottom, top = x.low, x.high, y.low, y.high
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
        figure.add_shape(**line, x0=x.low, x1=x.high, y0=limit, y1=limit)


def _hover(study: Study, trial: Trial) -> str:
    lines = [f"<b>trial {trial.number}</b>"]
    lines += [f"{_text(m.name)}: {units.plain(trial.values[m.name])}" for m in study.metrics]
    lines += [f"{_text(k)}: {_text(units.plain(v))}" for k, v in trial.parameters.items()]
    return "<br>".join(lines)


def _groups(study: Study) -> list[tuple[str, list[Trial], dict[str, Any]]]:
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
    xs = _axis(second, [trial.values[second.name] for trial in study.trials])
    ys = _axis(first, [trial.values[first.name] for trial in study.trials])
    only = len(study.metrics) == 2
    figure = blank(480 if only else 380, hovermode="closest")
    figure.update_xaxes(**xs.layout)
    figure.update_yaxes(**ys.layout)
    _limits(figure, xs, ys)
    # What the frontier reaches is bounded by steps, not by straight lines between its trials.
    stairs = "vh" if second.maximise else "hv"
    for label, trials, marker in _groups(study):
        if not trials:
            continue
        ordered = sorted(trials, key=lambda trial: trial.values[second.name])
        best = label == "frontier" and only
        figure.add_scatter(
            x=[trial.values[second.name] for trial in ordered],
            y=[trial.values[first.name] for trial in ordered],
            mode="lines+markers" if best else "markers",
            name=label,
            marker=marker,
            line={"color": FRONTIER, "width": 2, "shape": stairs},
            text=[_hover(study, trial) for trial in ordered],
            customdata=[trial.number for trial in ordered],
            hovertemplate="%{text}<extra></extra>",
        )
    title = f"{first.name} against {second.name}"
    alt = f"Scatter of {len(study.trials)} trials, {title}. {_limits_said(first, second)}"
    if study.thresholds:
        alt += f"{study.inside} are inside all thresholds. "
    alt += f"{study.verdict[:1].upper()}{study.verdict[1:]}."
    key = f"scatter-{study.metrics.index(first)}-{study.metrics.index(second)}"
    how = dict.fromkeys((first.provenance, second.provenance))
    note = "Dashed red: the thresholds. Shaded: outside them." if study.thresholds else ""
    return Plot(key, title, alt, figure, tuple(how), only, note)


def _limits_said(*metrics: Metric) -> str:
    limits = [f"{metric.name} {metric.limit}" for metric in metrics if metric.limit]
    return f"Thresholds: {', '.join(limits)}. " if limits else ""


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
    axis = _axis(metric, [trial.values[metric.name] for trial in study.trials])
    figure = blank(300, hovermode="closest")
    figure.update_xaxes(title_text="trial")
    figure.update_yaxes(**axis.layout)
    if metric.threshold is not None:
        failing = (axis.low, metric.threshold) if metric.maximise else (metric.threshold, axis.high)
        figure.add_hrect(y0=failing[0], y1=failing[1], fillcolor=SHADE, line_width=0, layer="below")
        figure.add_hline(y=metric.threshold, line={"color": LIMIT, "width": 1.5, "dash": "dash"})
    for label, trials, marker in _groups(study):
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=[trial.values[metric.name] for trial in trials],
            mode="markers",
            name=label,
            marker=marker | {"size": min(marker["size"], 8)},
            text=[_hover(study, trial) for trial in trials],
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
    alt = f"{metric.name} by trial number. {_limits_said(metric)}{words}".strip()
    key = f"history-{study.metrics.index(metric)}"
    return Plot(key, f"{metric.name} by trial", alt, figure, (metric.provenance,))


def parallel(study: Study) -> Plot | None:
    """Parameters and metrics as parallel axes, one line per trial, coloured by the thresholds.

    Without thresholds, or when all trials are on one side of them, by the first metric.
    """
    shown = [
        trial for trial in study.trials if all(p.name in trial.parameters for p in study.parameters)
    ]
    if len(shown) < 2:
        return None
    shown.sort(key=lambda trial: trial.inside)  # later lines are drawn on top
    dimensions = [
        _dimension(parameter, [trial.parameters[parameter.name] for trial in shown])
        for parameter in study.parameters
    ]
    for metric in study.metrics:
        values = [trial.values[metric.name] for trial in shown]
        axis = _axis(metric, values)
        dimensions.append(_scaled(f"{metric.name} ({metric.goal})", values, axis.log))
    first = study.metrics[0]
    sides = {trial.inside for trial in shown}
    if len(sides) == 2:
        colours: list[float] = [float(trial.inside) for trial in shown]
        line = {
            "colorscale": [[0, "#c3cad3"], [0.5, "#c3cad3"], [0.5, INSIDE], [1, INSIDE]],
            "cmin": 0,
            "cmax": 1,
            "showscale": False,
        }
        said = "blue: inside the thresholds, grey: outside"
    else:
        colours = [trial.values[first.name] for trial in shown]
        line = {
            "colorscale": "Viridis",
            "reversescale": first.maximise,
            "showscale": True,
            "colorbar": {"title": {"text": _text(first.name)}, "thickness": 12},
        }
        said = f"coloured by {first.name}"
    figure = blank(430, margin={"l": 70, "r": 70, "t": 76, "b": 28})
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": colours, **line},
        labelangle=-18,
        labelside="top",
        labelfont={"size": 12},
        # The ends of the ranges would be written over the ticks.
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        tickfont={"size": 11},
        unselected={"line": {"opacity": 0.08}},
    )
    alt = (
        f"Parallel coordinates of {len(shown)} trials over {len(dimensions)} axes "
        f"({', '.join([p.name for p in study.parameters] + [m.name for m in study.metrics])}); "
        f"{said}."
    )
    how = tuple(dict.fromkeys(metric.provenance for metric in study.metrics))
    note = f"{said[:1].upper()}{said[1:]}. Drag along an axis to pick trials, click it to release."
    return Plot("parallel", "Parallel coordinates", alt, figure, how, True, note)


def _dimension(parameter: Parameter, values: Sequence[Any]) -> dict[str, Any]:
    numbers = [
        float(value)
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    if parameter.options is None and len(numbers) == len(values):
        return _scaled(parameter.name, numbers, parameter.log and min(numbers) > 0, parameter)
    # A choice: its options in the order given, then whatever else was tried.
    options = list(parameter.options or ())
    for value in values:
        if value not in options:
            options.append(value)
    return {
        "label": _text(parameter.name),
        "values": [options.index(value) for value in values],
        "tickvals": list(range(len(options))),
        "ticktext": [_text(units.plain(option)) for option in options],
        "range": [-0.2, len(options) - 0.8],
    }


def _scaled(
    label: str, values: Sequence[float], log: bool, parameter: Parameter | None = None
) -> dict[str, Any]:
    """A numeric axis; parallel coordinates know no log axes, so the exponents are drawn.

    A parameter's axis spans what was searched, a metric's what was found.
    """
    ends = [*values]
    if parameter is not None:
        ends += [end for end in (parameter.low, parameter.high) if end is not None]
    low, high = min(ends), max(ends)
    if low == high:
        margin = 0.05 * abs(low) or 0.5
        return {
            "label": _text(label),
            "values": list(values),
            "range": [low - margin, high + margin],
            "tickvals": [low],
            "ticktext": [units.plain(low)],
        }
    if not log:
        axis = {"label": _text(label), "values": list(values), "range": [low, high]}
        if all(value == int(value) for value in values) and high - low <= 12:
            numbers = list(range(math.ceil(low), math.floor(high) + 1))
            axis |= {"tickvals": numbers, "ticktext": [str(number) for number in numbers]}
        return axis
    ticks = _log_ticks(low, high) or {"tickvals": [low, high]}
    return {
        "label": _text(label),
        "values": [math.log10(value) for value in values],
        "range": [math.log10(low), math.log10(high)],
        "tickvals": [math.log10(tick) for tick in ticks["tickvals"]],
        "ticktext": [units.plain(tick) for tick in ticks["tickvals"]],
    }


def importances(shares: Mapping[str, Mapping[str, float]]) -> list[Plot]:
    """How much each parameter moves each metric, one plot per metric."""
    plots = []
    for index, (metric, ranked) in enumerate(shares.items()):
        names = list(ranked)
        figure = blank(90 + 28 * len(names))
        figure.add_bar(
            y=[_text(name) for name in names],
            x=[ranked[name] for name in names],
            orientation="h",
            marker={"color": INSIDE},
            text=[f"{100 * ranked[name]:.0f} %" for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
        most = max(ranked.values(), default=0) or 1
        figure.update_xaxes(tickformat=".0%", range=[0, 1.18 * most], title_text="share")
        figure.update_yaxes(autorange="reversed", type="category", ticks="")
        title = f"What moves {metric}"
        listed = ", ".join(f"{name} {100 * ranked[name]:.0f} %" for name in names)
        alt = f"{title}: {listed}."
        note = "Share of the metric's variation that a model of the trials ascribes to it."
        key = f"importance-{index}"
        plots.append(Plot(key, title, alt, figure, ("modelled",), note=note))
    return plots
