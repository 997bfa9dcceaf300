"""Import of an Ax experiment from Ax's JSON files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gossamer.errors import UserError
from gossamer.search.importers.importer import OtherTrial, read_json, read_state, start_of_json
from gossamer.search.validation import is_number


class AxJSON:
    """JSON files of `Client.save_to_json_file`, `AxClient.save_to_json_file` or `save_experiment`.

    A metric's standard error becomes its standard deviation. Each arm of a trial becomes a trial.
    """

    def recognizes(self, source: str) -> bool:
        return b'"__type"' in start_of_json(source)

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        path = Path(source)
        experiment = _experiment(read_json(path))
        if experiment is None:
            raise UserError(f"{path} contains no Ax experiment; write one with save_to_json_file")
        try:
            name = str(experiment.get("name"))
            results = _results(experiment)
            return [
                trial
                for number, entry in experiment["trials"].items()
                for trial in _trials(path, name, int(number), entry, results)
            ]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(
                f"{path} is of an unknown version of Ax ({type(error).__name__}: {error}); "
                "export the trials as CSV: experiment.to_df().to_csv(...)"
            ) from None


def _experiment(content: Any) -> dict[str, Any] | None:
    """Return the experiment, which may be nested in a client's file; None if there is none."""
    for candidate in (content, content.get("experiment") if isinstance(content, dict) else None):
        if isinstance(candidate, dict) and isinstance(candidate.get("trials"), dict):
            return candidate
    return None


def _trials(
    path: Path,
    name: str,
    number: int,
    entry: Mapping[str, Any],
    results: Mapping[tuple[int, str], Mapping[str, Any]],
) -> Iterator[OtherTrial]:
    where = f"{path}: trial {number}"
    status = entry["status"]
    state = read_state(status["name"] if isinstance(status, dict) else str(status), where)
    seconds = _seconds(entry)
    for arm in _arms(entry):
        label = arm.get("name") or f"{number}_0"
        yield OtherTrial(
            where,
            f"ax:{name}:{label}",
            state,
            arm["parameters"],
            results.get((number, label), {}),
            entry.get("status_reason") or entry.get("abandoned_reason"),
            seconds,
        )


def _arms(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    runs = [entry.get("generator_run")]
    runs += [s.get("generator_run", s) for s in entry.get("generator_run_structs") or []]
    runs += list(entry.get("generator_runs") or [])
    return [arm for run in runs if run for arm in run["arms"]]


def _results(experiment: Mapping[str, Any]) -> dict[tuple[int, str], dict[str, Any]]:
    """Return (trial, arm) -> metric -> value, or a pair of it and its standard error."""
    newest: defaultdict[tuple[int, str], dict[str, Any]] = defaultdict(dict)
    for row in _rows(experiment):
        mean, error = row.get("mean"), row.get("sem")
        noisy = error is not None and is_number(error) and error > 0
        newest[int(row["trial_index"]), str(row["arm_name"])][str(row["metric_name"])] = (
            (mean, error) if noisy else mean
        )
    return newest


def _rows(experiment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows of the tables of results, the oldest first."""
    data = experiment.get("data")
    tables = [] if data is None else [data]
    for attached in (experiment.get("data_by_trial") or {}).values():
        pairs = attached["value"] if isinstance(attached, dict) else attached
        tables += [table for _, table in pairs]
    for table in tables:
        frame = table["df"]
        text = frame["value"] if isinstance(frame, dict) else frame
        columns = json.loads(text) if isinstance(text, str) else text
        if isinstance(columns, list):
            yield from columns
            continue
        for key in columns.get("trial_index", {}):
            yield {name: column.get(key) for name, column in columns.items()}


def _seconds(entry: Mapping[str, Any]) -> float | None:
    began, ended = (
        (entry.get(key) or {}).get("value") for key in ("time_run_started", "time_completed")
    )
    if began is None or ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
