"""Parameters with their metrics, and their importances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.plots.axes import Scale, scale_of
from gossamer.report.plots.base import INSIDE, UNSELECTED, Plot, blank, text
from gossamer.report.provenance import metric_provenance

if TYPE_CHECKING:
    from gossamer.search import Snapshot


def parallel(snapshot: Snapshot) -> list[Plot]:
    """Draw parameters and metrics as parallel axes, one line per trial, colored by thresholds.

    Without thresholds, or if all trials are on one side of them, the first metric is the color.
    """
    shown = [
        trial
        for trial in snapshot.complete
        if all(p.name in trial.parameters for p in snapshot.parameters)
    ]
    if len(shown) < 2:
        return []
    shown.sort(key=lambda trial: trial.number in snapshot.inside)  # later lines are drawn on top
    dimensions = [
        _dimension(parameter, [trial.parameters[parameter.name] for trial in shown])
        for parameter in snapshot.parameters
    ]
    for metric in snapshot.metrics:
        values = [trial.values[metric.name] for trial in shown]
        dimensions.append(
            _scaled(
                f"{snapshot.label(metric)} ({words.role(metric)})",
                values,
                scale_of(values, 0, metric.log),
            )
        )
    first = snapshot.metrics[0]
    sides = {trial.number in snapshot.inside for trial in shown}
    if len(sides) == 2:
        colors: list[float] = [float(trial.number in snapshot.inside) for trial in shown]
        line = {
            "colorscale": [[0, UNSELECTED], [0.5, UNSELECTED], [0.5, INSIDE], [1, INSIDE]],
            "cmin": 0,
            "cmax": 1,
            "showscale": False,
        }
        meaning = "blue: inside the thresholds, gray: outside"
    else:
        colors = [trial.values[first.name] for trial in shown]
        line = {
            "colorscale": "Viridis",
            "reversescale": first.goal.sign > 0,
            "showscale": True,
            "colorbar": {"title": {"text": text(first.name)}, "thickness": 12},
        }
        meaning = f"colored by {first.name}"
    figure = blank(430, margin={"l": 70, "r": 70, "t": 76, "b": 28})
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": colors, **line},
        labelangle=-18,
        labelside="top",
        labelfont={"size": 12},
        # The ends of the ranges would be written over the ticks.
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        tickfont={"size": 11},
        unselected={"line": {"opacity": 0.08}},
    )
    axes = ", ".join(part.name for part in (*snapshot.parameters, *snapshot.metrics))
    alt = f"Parallel coordinates of {len(shown)} trials: {axes}; {meaning}."
    how = tuple(dict.fromkeys(metric_provenance(m.name) for m in snapshot.metrics))
    note = (
        f"{meaning[:1].upper()}{meaning[1:]}. Drag along an axis to pick trials, click to release."
    )
    return [Plot("parallel", "Parallel coordinates", alt, figure, how, True, note)]


def _dimension(parameter: Any, values: Sequence[Any]) -> dict[str, Any]:
    numbers = [
        float(value)
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    options = list(getattr(parameter, "options", ()))  # only a choice has them
    if not options and len(numbers) == len(values):
        return _scaled(parameter.name, numbers, _searched(parameter, numbers))
    # In the order of the options, then whatever else was tried.
    for value in values:
        if value not in options:
            options.append(value)
    return {
        "label": text(parameter.name),
        "values": [options.index(value) for value in values],
        "tickvals": list(range(len(options))),
        "ticktext": [text(units.plain(option)) for option in options],
        "range": [-0.2, len(options) - 0.8],
    }


def _scaled(label: str, values: Sequence[float], scale: Scale) -> dict[str, Any]:
    """Return a numeric axis of positions from 0 to 1: parallel coordinates have no log axes."""
    ticks = scale.ticks()
    return {
        "label": text(label),
        "values": [scale.position(value) for value in values],
        "range": [0, 1],
        "tickvals": [scale.position(tick) for tick in ticks],
        "ticktext": [scale.text(tick) for tick in ticks],
    }


def _searched(parameter: Any, values: Sequence[float]) -> Scale:
    """Return a parameter's scale, which includes its search interval and all tried values."""
    ends = [parameter.low, parameter.high] if hasattr(parameter, "low") else []
    low, high = min([*values, *ends]), max([*values, *ends])
    if low == high:
        return scale_of([low])
    return Scale(getattr(parameter, "log", False) and low > 0, low, high)


def importances(snapshot: Snapshot) -> list[Plot]:
    """Draw the importance of each parameter, one plot per metric."""
    plots = []
    for index, metric in enumerate(snapshot.metrics):
        ranked = snapshot.importances.get(metric.name)
        if not ranked:
            continue
        names = sorted(ranked, key=lambda name: -ranked[name])
        # Floats of the search's know their interval; others have none.
        ends = [
            (getattr(ranked[n], "low", ranked[n]), getattr(ranked[n], "high", ranked[n]))
            for n in names
        ]
        figure = blank(90 + 28 * len(names))
        figure.add_bar(
            y=[text(name) for name in names],
            x=[float(ranked[name]) for name in names],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - ranked[n] for n, (_, high) in zip(names, ends, strict=True)],
                "arrayminus": [ranked[n] - low for n, (low, _) in zip(names, ends, strict=True)],
            },
            orientation="h",
            marker={"color": INSIDE},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
        figure.add_scatter(  # beside the interval, which would cross the bar's own text
            y=[text(name) for name in names],
            x=[float(high) for _, high in ends],
            mode="text",
            text=[f" {100 * ranked[name]:.0f} %" for name in names],
            textposition="middle right",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
        most = max(high for _, high in ends) or 1
        figure.update_xaxes(tickformat=".0%", range=[0, 1.18 * most], title_text="share")
        figure.update_yaxes(autorange="reversed", type="category", ticks="")
        title = f"What moves {metric.name}"
        listed = ", ".join(
            f"{name} {100 * ranked[name]:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
            if low < high
            else f"{name} {100 * ranked[name]:.0f} %"
            for name, (low, high) in zip(names, ends, strict=True)
        )
        alt = f"{title}: {listed}."
        note = (
            "Share of the metric's variation that the search's model of the trials ascribes to it, "
            "with its 90 % interval."
        )
        key = f"importance-{index}"
        plots.append(Plot(key, title, alt, figure, ("modeled",), note=note))
    return plots
