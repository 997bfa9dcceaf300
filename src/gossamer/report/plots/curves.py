"""Learning curves of trials, from their reports in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossamer.report import experiment as words
from gossamer.report.plots.base import FRONTIER, INSIDE, LIMIT_LINE, OUTSIDE, STOPPED, Plot, blank
from gossamer.report.provenance import metric_provenance

if TYPE_CHECKING:
    from gossamer.search import Snapshot, TrialRecord

# Beyond so many trials the lines hide each other, and the page grows slow.
SHOWN = 200

# State -> color, opacity and mark at the end of its curves.
_LOOKS: dict[str, tuple[str, float, str | None]] = {
    "failed": (OUTSIDE, 0.5, "x-thin-open"),
    "stopped": (STOPPED, 0.75, "square"),
    "complete": (INSIDE, 0.45, None),
    "running": (FRONTIER, 1.0, "circle"),
}


def curves(snapshot: Snapshot) -> list[Plot]:
    """Draw one plot for each reported metric: its value by step, one line per trial.

    Trials of the full task are shown, of many only the newest. Stopped trials end in a square,
    running ones in a dot, failed ones in a cross.
    """
    reported = [trial for trial in snapshot.trials if trial.reports and trial.fidelity is None]
    shown = reported[-SHOWN:]
    plots = []
    for index, metric in enumerate(snapshot.metrics):
        lines = {state: _lines(shown, state, metric.name) for state in _LOOKS}
        if not any(lines.values()):
            continue
        figure = blank(340, hovermode="closest")
        figure.update_xaxes(title_text="step")
        figure.update_yaxes(title_text=f"{metric.name} ({words.role(metric)})")
        counts = []
        for state, (color, opacity, mark) in _LOOKS.items():
            drawn = lines[state]
            if not drawn:
                continue
            counts.append(f"{len(drawn)} {state}")
            _add(figure, state, drawn, {"color": color, "width": 1.5}, opacity, mark)
        if metric.threshold is not None:
            figure.add_hline(y=metric.threshold, line=LIMIT_LINE)
        of = (
            "" if len(shown) == len(reported) else f" The newest {SHOWN} of {len(reported)} trials."
        )
        title = f"{metric.name} while training"
        alt = f"{title}: {', '.join(counts)}.{of}"
        note = f"Squares: stopped early there.{of}"
        how = (metric_provenance(metric.name),)
        plots.append(Plot(f"curves-{index}", title, alt, figure, how, note=note))
    return plots


def _lines(
    trials: list[TrialRecord], state: str, metric: str
) -> list[tuple[int, list[int], list[float]]]:
    """Return number, steps and values of the trials of ``state`` that reported ``metric``."""
    lines = []
    for trial in trials:
        points = [(r.step, r.values[metric]) for r in trial.reports if metric in r.values]
        if trial.state == state and points:
            steps, values = zip(*points, strict=True)
            lines.append((trial.number, list(steps), list(values)))
    return lines


def _add(
    figure: Any,
    state: str,
    lines: list[tuple[int, list[int], list[float]]],
    line: dict[str, Any],
    opacity: float,
    mark: str | None,
) -> None:
    xs: list[int | None] = []
    ys: list[float | None] = []
    numbers: list[int | None] = []
    for number, steps, values in lines:  # one trace for all: a gap parts the trials
        xs += [*steps, None]
        ys += [*values, None]
        numbers += [*([number] * len(steps)), None]
    figure.add_scatter(
        x=xs,
        y=ys,
        customdata=numbers,
        name=state if state != "stopped" else "stopped early",
        legendgroup=state,
        mode="lines",
        line=line,
        opacity=opacity,
        connectgaps=False,
        hovertemplate="trial %{customdata}, step %{x}: %{y:.4g}<extra></extra>",
    )
    if mark is not None:
        figure.add_scatter(
            x=[steps[-1] for _, steps, _ in lines],
            y=[values[-1] for _, _, values in lines],
            customdata=[number for number, _, _ in lines],
            legendgroup=state,
            showlegend=False,
            mode="markers",
            marker={"symbol": mark, "size": 7, "color": line["color"]},
            hovertemplate=f"trial %{{customdata}} {state} at step %{{x}}<extra></extra>",
        )
