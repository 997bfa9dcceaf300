"""Plots of runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gossamer.deploy.metrics import value
from gossamer.report import units
from gossamer.report.layers import layers_of
from gossamer.report.metrics_reader import disturbances
from gossamer.report.plots.base import FRONTIER, INSIDE, Plot, blank, color, text

# (level, accuracy) from mild to strong.
Curve = Sequence[tuple[float, float]]


def of_runs(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw accuracy under noise and corruptions, and multiply-adds per layer, if measured."""
    return [*noise(runs), *disturbed(runs), *layers(runs)]


def _accuracy(runs: Collection[str], curves: Mapping[str, Curve], height: int, at: str) -> Any:
    """Draw accuracy by level, a curve in its color for each of the runs that measured it."""
    figure, names = blank(height, hovermode="x unified"), list(runs)
    figure.update_yaxes(title_text="accuracy", tickformat=".0%")
    for name, curve in curves.items():
        levels, shares = zip(*curve, strict=True)
        index = names.index(name)
        figure.add_scatter(
            x=levels,
            y=shares,
            name=text(name),
            mode="lines+markers",
            line={"color": color(index), "width": 2.5},
            marker={"size": 7, "symbol": index},
            hovertemplate=f"%{{y:.2%}} at {at}",
        )
    return figure


def noise_curves(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Curve]:
    """Return the noise curves of the runs that measured them, by name."""
    return {name: curve for name, run in runs.items() if (curve := _noise_curve(run))}


def noise(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw accuracy against noise level, one curve per run that measured it."""
    curves = noise_curves(runs)
    if not curves:
        return []
    figure = _accuracy(runs, curves, 340, "level %{x}")
    figure.update_xaxes(title_text="noise level")
    words = "; ".join(
        f"{name} falls from {units.percent(curve[0][1])} at level {units.plain(curve[0][0])} "
        f"to {units.percent(curve[-1][1])} at level {units.plain(curve[-1][0])}"
        for name, curve in curves.items()
    )
    alt = f"Accuracy against noise level: {words}."
    return [Plot("noise", "Accuracy under noise", alt, figure, ("measured",))]


def _noise_curve(run: Mapping[str, Any]) -> list[tuple[float, float]]:
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
    curves: dict[tuple[str, str], dict[str, Curve]] = {}
    for name, run in runs.items():
        for curve in disturbances(run):
            of, kind = max(1, int(curve["of"])), (str(curve["name"]), str(curve["unit"]))
            points = zip(curve["levels"], curve["correct"], strict=False)
            if shares := [(level, float(right) / of) for level, right in points]:
                curves.setdefault(kind, {})[name] = shares
    return [_disturbed(kind, unit, runs, by_run) for (kind, unit), by_run in curves.items()]


def _disturbed(kind: str, unit: str, runs: Collection[str], curves: Mapping[str, Curve]) -> Plot:
    figure = _accuracy(runs, curves, 280, f"%{{x}} {text(unit)}")
    loud = unit == "dB"  # fewer decibels of signal to noise are more noise
    title = "signal to noise, dB" if loud else unit
    figure.update_xaxes(title_text=text(title), autorange="reversed" if loud else True)
    words = "; ".join(
        f"{name} " + ", ".join(units.percent(share) for _, share in curve)
        for name, curve in curves.items()
    )
    written = kind.replace("_", " ")
    heading = f"Accuracy in {written} noise" if loud else f"Accuracy under {written}"
    alt = f"{heading}, from mild to strong: {words}."
    return Plot(f"disturbed-{kind}", heading, alt, figure, ("measured",))


def layers(runs: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """Draw multiply-adds per layer, one plot per run, all on the same scale."""
    listed = {name: layers_of(run) for name, run in runs.items()}
    every = itertools.chain.from_iterable(listed.values())
    most = max((layer.figures["macs_dense"] or 0.0 for layer in every), default=0.0)
    plots = []
    for index, (name, parts) in enumerate(listed.items()):
        if not parts:
            continue
        figure = blank(110 + 62 * len(parts), barmode="group", bargap=0.25)
        for label, fill, key in (
            ("dense", "#b8c1cc", "macs_dense"),
            ("weights only", INSIDE, "macs_weights"),
            ("weights × activations", FRONTIER, "macs_both"),
        ):
            read = [layer.figures[key] for layer in parts]
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
            f"{layer.name} {units.short(layer.figures['macs_dense'] or 0)} dense, "
            f"{units.short(layer.figures['macs_weights'] or 0)} with non-zero weights, "
            f"{units.short(layer.figures['macs_both'] or 0)} with both non-zero"
            for layer in parts
        )
        title = f"Multiply-adds per layer: {name}"
        alt = f"{title}: {words}."
        plots.append(Plot(f"layers-{index}", title, alt, figure, ("counted",)))
    return plots
