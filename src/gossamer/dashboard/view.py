"""What the page shows of a snapshot, as JSON: figures are those of the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from plotly.utils import PlotlyJSONEncoder

from gossamer.dashboard.snapshot import Snapshot, described, reports
from gossamer.report import plots, units
from gossamer.report.curves import curves
from gossamer.report.study import Study, hypervolume_so_far, study

# Rows of the list of best trials; the table of all trials holds the others.
_LISTED = 12


def as_json(content: object) -> bytes:
    """UTF-8 JSON; plotly's figures and whatever a choice may offer included."""
    return json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":")).encode()


def view(snapshot: Snapshot, stored: Snapshot) -> dict[str, Any]:
    """What is looked at first, and while a threshold is dragged: scatters, hypervolume, figures.

    Args:
        snapshot: the trials, judged by the thresholds that the page shows.
        stored: the same under the thresholds of the experiment.
    """
    read = study(snapshot)
    volume = plots.hypervolume(read)
    left = snapshot.seconds_left
    steps = hypervolume_so_far(read)
    return {
        "version": stored.version,
        "name": snapshot.name,
        "budget": snapshot.budget,
        "states": snapshot.states,
        "inside": read.inside,
        "secondsLeft": left,
        "timeLeft": None if left is None else units.duration(left),
        "verdict": read.verdict,
        "feasible": read.feasible,
        "hypervolume": steps[-1][1] if steps else None,
        "hypervolumeText": units.plain(steps[-1][1]) if steps else units.NOTHING,
        "metrics": [
            {
                "name": metric.name,
                "goal": metric.goal,
                "optimised": metric.optimised,
                "threshold": metric.threshold,
                "stored": kept.threshold,
            }
            for metric, kept in zip(read.metrics, stored.metrics, strict=True)
        ],
        "parameters": [parameter.name for parameter in read.parameters],
        "best": _best(read),
        "frontier": [trial.number for trial in read.frontier],
        "plots": _groups(
            scatter=plots.scatters(read), hypervolume=[] if volume is None else [volume]
        ),
    }


def below(snapshot: Snapshot) -> dict[str, Any]:
    """The plots further down the page, by group."""
    read = study(snapshot)
    lines = plots.parallel(read)
    return _groups(
        history=[plot for plot in plots.history(read) if plot.key != "hypervolume"],
        parallel=[] if lines is None else [lines],
        curves=curves(read, snapshot.trials()),
    )


def importances(read: Study, shares: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The plots of each metric's importances, in the order of the metrics."""
    known = {m.name: shares[m.name] for m in read.metrics if shares.get(m.name)}
    return [_plot(plot) for plot in plots.importances(known)]


def trials(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every trial for the table, with the number of its reports in their place."""
    metrics = {metric.name: metric for metric in snapshot.metrics}
    rows = []
    for record in snapshot.records:
        row = described(record)
        row["reports"] = len(reports(record))
        row["inside"] = record.state == "complete" and all(
            metric.violation(record.values[name]) <= 0 for name, metric in metrics.items()
        )
        rows.append(row)
    return rows


def export_json(snapshot: Snapshot) -> bytes:
    """The experiment and all its trials, with what they reported while they trained."""
    found = snapshot.frontier()
    content = {
        "experiment": snapshot.name,
        "budget": snapshot.budget,
        "settings": dict(snapshot.settings),
        "metrics": [
            {"name": m.name, "goal": m.goal, "optimised": m.optimised, "threshold": m.threshold}
            for m in snapshot.metrics
        ],
        "feasible": found.feasible,
        "frontier": [record.number for record in found.trials],
        "trials": [described(record) for record in snapshot.records],
    }
    return json.dumps(content, indent=1, cls=PlotlyJSONEncoder).encode()


def export_csv(snapshot: Snapshot) -> bytes:
    """All trials, one a row; columns of parameters and metrics are named by their kind too."""
    found = snapshot.frontier()
    best = {record.number for record in found.trials} if found.feasible else set()
    parameters = list(dict.fromkeys(k for record in snapshot.records for k in record.parameters))
    values = [metric.name for metric in snapshot.metrics]
    values += sorted({k for record in snapshot.records for k in record.values} - {*values})
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(
        ["trial", "state", "inside", "frontier", "seconds", "reason"]
        + [f"parameter:{name}" for name in parameters]
        + [f"value:{name}" for name in values]
    )
    for row in trials(snapshot):
        table.writerow(
            [row["number"], row["state"], int(row["inside"]), int(row["number"] in best)]
            + [row["seconds"], row["reason"]]
            + [row["parameters"].get(name) for name in parameters]
            + [row["values"].get(name) for name in values]
        )
    return text.getvalue().encode()


def _best(read: Study) -> list[dict[str, Any]]:
    return [
        {
            "number": trial.number,
            "values": {m.name: read.written(m, trial) for m in read.metrics},
            "missed": [m.name for m in read.metrics if not m.inside(trial.values[m.name])],
            "parameters": {p.name: trial.written(p.name) for p in read.parameters},
        }
        for trial in read.frontier[:_LISTED]
    ]


def _groups(**groups: list[plots.Plot]) -> dict[str, Any]:
    return {group: [_plot(plot) for plot in drawn] for group, drawn in groups.items()}


def _plot(plot: plots.Plot) -> dict[str, Any]:
    return {
        "key": plot.key,
        "title": plot.title,
        "alt": plot.alt,
        "note": plot.note,
        "wide": plot.wide,
        "figure": plot.figure,
    }
