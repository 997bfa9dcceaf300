"""A snapshot as JSON for the page, with the figures of the report."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from plotly.utils import PlotlyJSONEncoder

from gossamer.report import experiment as words
from gossamer.report import units
from gossamer.report.choice import choice
from gossamer.report.panels import PANELS
from gossamer.search import Snapshot, TrialRecord

# Rows of the list of best trials; the table of all trials has the others.
_LISTED = 12


def as_json(content: object) -> bytes:
    """Return UTF-8 JSON; ``content`` may include plotly's figures and any options of choices."""
    return json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":")).encode()


def view(snapshot: Snapshot, stored: Snapshot) -> dict[str, Any]:
    """Return the figures and live panels, which change while a threshold is dragged.

    Args:
        snapshot: the trials under the thresholds that the page shows.
        stored: the trials under the stored thresholds.
    """
    steps = snapshot.hypervolume_so_far
    return {
        "version": stored.version,
        "name": snapshot.name,
        "budget": snapshot.budget,
        "states": snapshot.states,
        "worth": snapshot.worth,
        "ended": words.of_budget(snapshot, snapshot.ended, "trials ended"),
        "cheaper": snapshot.cheaper,
        "counts": words.counts(snapshot),
        "running": stored.running,
        "inside": len(snapshot.inside),
        "secondsLeft": snapshot.seconds_left,
        "timeLeft": _time_left(snapshot),
        "verdict": words.verdict(snapshot),
        "feasible": snapshot.frontier.feasible,
        "hypervolume": steps[-1][1] if steps else None,
        "measure": words.measure(snapshot),
        "place": words.place(snapshot),
        "title": words.title(snapshot),
        "sign": snapshot.sign,
        "metrics": [
            {
                "name": metric.name,
                "label": snapshot.label(metric),
                "limit": words.limit(metric) or words.role(metric),
                "goal": metric.goal,
                "role": words.role(metric),
                "split": words.split(snapshot, metric),
                "optimized": metric.optimized,
                "threshold": metric.threshold,
                "stored": own.threshold,
                "storedText": words.limit(own) or "none",
            }
            for metric, own in zip(snapshot.metrics, stored.metrics, strict=True)
        ],
        "parameters": [parameter.name for parameter in snapshot.parameters],
        "beside": words.beside(snapshot),
        "best": _best(snapshot),
        "frontier": [trial.number for trial in snapshot.frontier.trials],
        "choice": choice(snapshot),
        "plots": panels(snapshot, "live"),
    }


def panels(snapshot: Snapshot, asked: str) -> dict[str, Any]:
    """Return panel -> its plots, for the panels requested at the time `asked`."""
    return {
        panel.key: [
            {
                name: getattr(plot, name)
                for name in ("key", "title", "alt", "note", "wide", "figure")
            }
            for plot in panel.draw(snapshot)
        ]
        for panel in PANELS
        if panel.asked == asked
    }


def trials(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return all trials for the table, as texts, with their numbers of reports."""
    return [
        {
            **vars(trial),
            "reports": len(trial.reports),
            "files": [
                {"name": file.name, "kind": file.kind, "size": units.storage(file.bytes)}
                for file in trial.files
            ],
            "inside": trial.number in snapshot.inside,
            "missed": words.all_missed(snapshot, trial),
            "texts": words.texts(snapshot, trial),
        }
        for trial in snapshot.trials
    ]


def export_json(snapshot: Snapshot) -> bytes:
    """Return the experiment and all its trials with their reports, as JSON."""
    front = snapshot.frontier
    content = {
        "experiment": snapshot.name,
        "budget": snapshot.budget,
        "settings": dict(snapshot.settings),
        "metrics": [
            {"name": m.name, "goal": m.goal, "optimized": m.optimized, "threshold": m.threshold}
            for m in snapshot.metrics
        ],
        "feasible": front.feasible,
        "frontier": [record.number for record in front.trials],
        "trials": [_exported(trial) for trial in snapshot.trials],
    }
    return json.dumps(content, indent=1, cls=PlotlyJSONEncoder).encode()


def _exported(trial: TrialRecord) -> dict[str, Any]:
    """Return a trial as plain data; its files have relative names, without this machine's paths."""
    files = [{"name": f.name, "kind": f.kind, "bytes": f.bytes} for f in trial.files]
    return {**dataclasses.asdict(trial), "files": files}


def export_csv(snapshot: Snapshot) -> bytes:
    """Return all trials as CSV, one a row; column names have their kind as a prefix."""
    front = snapshot.frontier
    best = {trial.number for trial in front.trials} if front.feasible else set()
    parameters = list(dict.fromkeys(k for trial in snapshot.trials for k in trial.parameters))
    values = [metric.name for metric in snapshot.metrics]
    values += sorted({k for trial in snapshot.trials for k in trial.values} - {*values})
    noisy = {k for trial in snapshot.trials for k in trial.noise}
    noise = [name for name in values if name in noisy]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(
        ["trial", "state", "inside", "frontier", "seconds", "reason", "note", "fidelity"]
        + [f"parameter:{name}" for name in parameters]
        + [f"value:{name}" for name in values]
        + [f"noise:{name}" for name in noise]
    )
    for trial in snapshot.trials:
        inside = int(trial.number in snapshot.inside)
        table.writerow(
            [trial.number, trial.state, inside, int(trial.number in best)]
            + [trial.seconds, trial.reason, trial.note, trial.fidelity]
            + [trial.parameters.get(name) for name in parameters]
            + [trial.values.get(name) for name in values]
            + [trial.noise.get(name) for name in noise]
        )
    return text.getvalue().encode()


def _time_left(snapshot: Snapshot) -> str:
    if snapshot.budget is None or snapshot.seconds_left is None:
        return units.NOTHING
    return units.duration(snapshot.seconds_left) if snapshot.trials_left else "done"


def _best(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [
        {
            "number": trial.number,
            "note": trial.note,
            "values": {m.name: words.value(snapshot, m, trial) for m in snapshot.metrics},
            "missed": [m.name for m in snapshot.metrics if words.missed(m, trial)],
            "parameters": {p.name: words.parameter(trial, p.name) for p in snapshot.parameters},
        }
        for trial in snapshot.frontier.trials[:_LISTED]
    ]
