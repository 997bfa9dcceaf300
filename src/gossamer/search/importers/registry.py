"""The table of importers.

A new one is one class with `recognizes` and `read`, and one entry of `IMPORTERS`.
"""

from __future__ import annotations

from gossamer.errors import UserError, nearest
from gossamer.search.importers.ax_json import AxJSON
from gossamer.search.importers.csv_table import CSVTable
from gossamer.search.importers.importer import Importer
from gossamer.search.importers.mlflow_runs import MLflowRuns
from gossamer.search.importers.optuna_study import OptunaStudy
from gossamer.search.importers.wandb_runs import WandbRuns

IMPORTERS: dict[str, Importer] = {
    "csv": CSVTable(),
    "ax": AxJSON(),
    "wandb": WandbRuns(),
    "mlflow": MLflowRuns(),
    "optuna": OptunaStudy(),
}


def importer_of(source: str, tool: str | None) -> Importer:
    """Return the importer named `tool`, or the one that recognizes `source`.

    Raises:
        UserError: there is none.
    """
    if tool is not None:
        if tool not in IMPORTERS:
            raise UserError(f"no importer '{tool}'; {nearest(tool, IMPORTERS)}")
        return IMPORTERS[tool]
    importer = next((one for one in IMPORTERS.values() if one.recognizes(source)), None)
    if importer is None:
        tools = ", ".join(IMPORTERS)
        raise UserError(
            f"{source} is in no known format; check the name, or name its tool with --from: {tools}"
            "; what 'gossamer trials export' wrote goes to a --storage"
        )
    return importer
