"""Plots of runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from gossamer.deploy.metrics import value
from gossamer.report import units
from gossamer.report.layers import layers_of
from gossamer.report.metrics_reader import disturbances
from gossamer.report.plots.base import (
    FRONTIER,
    INSIDE,
    Plot,
    blank,
    color,
    text,
)


def of_runs(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw accuracy under noise and corruptions, and multiply-adds per layer, if measured."""
    curve = noise(runs)
    return [*([curve] if curve else []), *disturbed(runs), *layers(runs)]


def noise(runs: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Draw accuracy against noise level, one curve per run that measured it."""
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
            name=text(name),
            mode="lines+markers",
            line={"color": color(index), "width": 2.5},
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
    """Return (level, accuracy) at each noise level; empty if the run did not measure it."""
    measured = run.get("noise") or {}
    levels, correct = measured.get("levels") or [], measured.get("correct") or []
    of = value(run, "noise", "of")
    if not levels or len(levels) != len(correct) or not of:
        return []
    return [
        (float(level), float(right) * len(levels) / of)
        for level, right in zip(levels, correct, strict=True)
    ]


def disturbed(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw accuracy against the strength of each disturbance, one plot each, a curve per run."""
    curves: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, run in runs.items():
        for curve in disturbances(run):
            curves.setdefault(str(curve["name"]), {})[name] = curve
    return [_disturbed(kind, list(runs), by_run) for kind, by_run in curves.items()]


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
            name=text(name),
            mode="lines+markers",
            line={"color": color(index), "width": 2.5},
            marker={"size": 7, "symbol": index},
            hovertemplate=f"%{{y:.2%}} at %{{x}} {text(unit)}",
        )
        words.append(f"{name} " + ", ".join(units.percent(share) for share in shares))
    loud = unit == "dB"  # fewer decibels of signal to noise are more noise
    title = "signal to noise, dB" if loud else unit
    figure.update_xaxes(title_text=text(title), autorange="reversed" if loud else True)
    figure.update_yaxes(title_text="accuracy", tickformat=".0%")
    figure.update_layout(hovermode="x unified")
    written = kind.replace("_", " ")
    heading = f"Accuracy in {written} noise" if loud else f"Accuracy under {written}"
    alt = f"{heading}, from mild to strong: {'; '.join(words)}."
    return Plot(f"disturbed-{kind}", heading, alt, figure, ("measured",))


def layers(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw multiply-adds per layer, one plot per run, all on the same scale."""
    listed = {name: layers_of(run) for name, run in runs.items()}
    every = itertools.chain.from_iterable(listed.values())
    most = max((layer.dense or 0.0 for layer in every), default=0.0)
    plots = []
    for index, (name, parts) in enumerate(listed.items()):
        if not parts:
            continue
        figure = blank(110 + 62 * len(parts), barmode="group", bargap=0.25)
        for label, fill, read in (
            ("dense", "#b8c1cc", [layer.dense for layer in parts]),
            ("weights only", INSIDE, [layer.weights_only for layer in parts]),
            ("weights × activations", FRONTIER, [layer.both for layer in parts]),
        ):
            figure.add_bar(
                y=[text(layer.name) for layer in parts],
                x=read,
                name=label,
                orientation="h",
                marker={"color": fill},
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
