"""Import of MLflow runs, by MLflow's client."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from gossamer.errors import UserError, one_line
from gossamer.extras import needed
from gossamer.search.importers.importer import OtherTrial, choose, read_state
from gossamer.search.importers.optuna_study import has_tables

_TABLE = "experiment_tags"


class MLflowRuns:
    """Runs at a tracking server's address, in its database, or in a folder ``mlruns``.

    A study is an experiment of MLflow. A run's parameters become the trial's, its last metrics the
    values.
    """

    def recognizes(self, source: str) -> bool:
        if source.startswith(("http://", "https://")):
            return True
        path = Path(source)
        if "://" not in source and path.is_dir():
            return any(path.glob("*/meta.yaml"))
        return (source.startswith("sqlite:///") or path.is_file()) and has_tables(source, _TABLE)

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        local = source.removeprefix("sqlite:///")
        if "://" not in local and not Path(local).exists():  # MLflow would make it
            raise UserError(f"{local} does not exist; check the name")
        with needed("reading runs of MLflow"):
            from mlflow.tracking import MlflowClient
        address = source
        if "://" not in source:
            path = Path(source).absolute()
            address = path.as_uri() if path.is_dir() else f"sqlite:///{quote(str(path))}"
        try:
            client = MlflowClient(tracking_uri=address)
            experiments = {e.name: e.experiment_id for e in _pages(client.search_experiments)}
            # MLflow creates "Default" by itself.
            used = [name for name in experiments if name != "Default"] or list(experiments)
        except Exception as error:  # MLflow's own, of many kinds
            raise _unreadable(source, error) from None
        name = choose("MLflow experiment", source, used, study)
        try:
            order = ["attributes.start_time ASC"]
            runs = _pages(client.search_runs, experiment_ids=[experiments[name]], order_by=order)
        except Exception as error:
            raise _unreadable(source, error) from None
        return [_trial(source, run) for run in runs]


def _pages(search: Any, **arguments: Any) -> list[Any]:
    everything: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **arguments)
        everything += page
        token = page.token
        if not token:
            return everything


def _unreadable(source: str, error: Exception) -> UserError:
    return UserError(f"MLflow at '{source}': {one_line(error)}; check the address")


def _trial(source: str, run: Any) -> OtherTrial:
    info, data = run.info, run.data
    where = f"{source}: run {info.run_id}"
    ended = info.end_time is not None and info.start_time is not None
    return OtherTrial(
        where,
        f"mlflow:{info.run_id}",
        read_state(str(info.status), where),
        dict(data.params),
        dict(data.metrics),
        data.tags.get("reason"),
        max(0.0, (info.end_time - info.start_time) / 1000) if ended else None,
    )
