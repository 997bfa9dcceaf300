"""Parameters and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.report import units
from gossamer.report.plots.axes import Scale, scale_of
from gossamer.report.plots.base import (
    INSIDE,
    Plot,
    blank,
    text,
)
from gossamer.report.study import Parameter, Study


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
        dimensions.append(_scaled(f"{metric.name} ({metric.goal})", values, scale_of(values, 0)))
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
            "colorbar": {"title": {"text": text(first.name)}, "thickness": 12},
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
        return _scaled(parameter.name, numbers, _searched(parameter, numbers))
    # A choice: its options in the order given, then whatever else was tried.
    options = list(parameter.options or ())
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
    """A numeric axis; parallel coordinates know no log axes, so positions from 0 to 1 are drawn."""
    ticks = scale.ticks()
    return {
        "label": text(label),
        "values": [scale.position(value) for value in values],
        "range": [0, 1],
        "tickvals": [scale.position(tick) for tick in ticks],
        "ticktext": [scale.text(tick) for tick in ticks],
    }


def _searched(parameter: Parameter, values: Sequence[float]) -> Scale:
    """The scale of a parameter: what was searched, and whatever else was tried."""
    ends = [end for end in (parameter.low, parameter.high) if end is not None]
    low, high = min([*values, *ends]), max([*values, *ends])
    if low == high:
        return scale_of([low])
    return Scale(parameter.log and low > 0, low, high)


def importances(shares: Mapping[str, Mapping[str, float]]) -> list[Plot]:
    """How much each parameter moves each metric, one plot per metric."""
    plots = []
    for index, (metric, ranked) in enumerate(shares.items()):
        names = list(ranked)
        figure = blank(90 + 28 * len(names))
        figure.add_bar(
            y=[text(name) for name in names],
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
