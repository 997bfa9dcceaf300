"""Import of Weights & Biases runs, from a project or a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import UserError, one_line
from gossamer.extras import needed
from gossamer.search.importers.importer import OtherTrial, read_json, read_state, start_of_json

_ADDRESS = "wandb:"


class WandbRuns:
    """Runs of a project ``wandb:ENTITY/PROJECT`` on the server, or in a JSON file: a list of
    objects with "id", "state", "config" and "summary", like the attributes of
    `wandb.Api().runs()`.

    A run's config becomes the parameters, its summary the values. A study is a sweep.
    """

    def recognizes(self, source: str) -> bool:
        if source.startswith(_ADDRESS):
            return True
        start = start_of_json(source)
        return b'"config"' in start and b'"__type"' not in start

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        if source.startswith(_ADDRESS):
            entries = _ask(source.removeprefix(_ADDRESS), study)
        else:
            entries = _listed(source, study)
        return [_trial(f"{source}: run {i}", entry) for i, entry in entries]


def _ask(project: str, sweep: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    with needed("reading runs of W&B"):
        import wandb
    try:
        runs = wandb.Api().runs(project, filters={} if sweep is None else {"sweep": sweep})
        return [
            (
                run.id,
                {
                    "id": f"{project}/{run.id}",
                    "state": run.state,
                    "config": dict(run.config),
                    "summary": dict(run.summary),
                },
            )
            for run in runs
        ]
    except Exception as error:  # of many kinds
        text = one_line(error)
        raise UserError(
            f"W&B project '{project}': {text}; check its name, and 'wandb login'"
        ) from None


def _listed(source: str, sweep: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    content = read_json(Path(source))
    entries = content.get("runs") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{source} is no JSON list of W&B runs; export it again")
    return [
        (str(entry.get("id", entry.get("name", i))), entry)
        for i, entry in enumerate(entries)
        if sweep is None or entry.get("sweep") == sweep
    ]


def _trial(where: str, entry: Mapping[str, Any]) -> OtherTrial:
    config, summary = entry.get("config"), entry.get("summary", {})
    if not isinstance(config, Mapping) or not isinstance(summary, Mapping):
        raise UserError(f"{where}: 'config' and 'summary' must be objects; export it again")
    parameters = {
        name: value["value"] if isinstance(value, Mapping) and "value" in value else value
        for name, value in config.items()
        if not name.startswith("_")
    }
    values = {
        name: value
        for name, value in summary.items()
        if not name.startswith("_") and isinstance(value, int | float | str)
    }
    runtime = summary.get("_runtime")
    return OtherTrial(
        where,
        f"wandb:{entry.get('id', where)}",
        read_state(str(entry.get("state", "finished")), where),
        parameters,
        values,
        seconds=float(runtime) if isinstance(runtime, int | float) else None,
    )
