"""Loggers of trials to TensorBoard, MLflow and W&B, through their own libraries.

A new logger is one class with `report` and `end`, and one entry of `LOGGERS`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gossamer.errors import UserError, one_line
from gossamer.extras import needed
from gossamer.files import check_folder
from gossamer.search.trials.trial import Report, Trial, TrialRecord


class Logger(Protocol):
    """Interface of a logger, which is called in the process that runs the search."""

    def report(self, experiment: str, trial: Trial, report: Report) -> None: ...

    def end(self, experiment: str, record: TrialRecord) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Writes each trial's curves and hyperparameters to a subfolder of ``place``.

    Args:
        place: the folder to pass to ``tensorboard --logdir``.

    Raises:
        UserError: TensorBoard is not installed, or nothing can be written there.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        with needed("logging to TensorBoard", "tensorboard"):
            import tensorboard  # noqa: F401  # torch's module names itself when it is missing
            from torch.utils.tensorboard import SummaryWriter
        self._make = SummaryWriter
        self._folder = check_folder(place)
        self._open: dict[int, Any] = {}

    def _writer(self, experiment: str, number: int) -> Any:
        if number not in self._open:
            folder = self._folder / experiment / f"trial-{number:04d}"
            self._open[number] = self._make(str(folder))
        return self._open[number]

    def report(self, experiment: str, trial: Trial, report: Report) -> None:
        writer = self._writer(experiment, trial.number)
        for name, value in report.values.items():
            writer.add_scalar(name, value, report.step)

    def end(self, experiment: str, record: TrialRecord) -> None:
        writer = self._writer(experiment, record.number)
        known = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in record.parameters.items()
        }
        writer.add_hparams(
            {**known, "state": record.state},
            {f"final/{name}": value for name, value in record.values.items()},
            run_name=".",
        )
        if record.reason is not None:
            writer.add_text("reason", record.reason)
        writer.close()
        del self._open[record.number]

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()
        self._open.clear()


class MLflow:
    """Logs each trial as a run of an MLflow experiment of the same name.

    Args:
        place: the tracking address, such as ``http://host:5000`` or ``sqlite:///mlflow.db``.

    Raises:
        UserError: MLflow is not installed, or the address cannot be used.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        with needed("logging to MLflow"):
            from mlflow.tracking import MlflowClient
        try:
            self._client = MlflowClient(tracking_uri=os.fspath(place))
        except Exception as error:  # MLflow's own, of many kinds
            raise UserError(f"MLflow at '{place}': {one_line(error)}") from None
        self._runs: dict[int, str] = {}
        self._experiment: str | None = None

    def _run(self, experiment: str, number: int) -> str:
        if self._experiment is None:
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = (
                known.experiment_id
                if known is not None
                else self._client.create_experiment(experiment)
            )
        if number not in self._runs:
            run = self._client.create_run(
                self._experiment, run_name=f"trial {number}", tags={"trial": str(number)}
            )
            self._runs[number] = run.info.run_id
        return self._runs[number]

    def report(self, experiment: str, trial: Trial, report: Report) -> None:
        run = self._run(experiment, trial.number)
        for name, value in report.values.items():
            self._client.log_metric(run, name, value, step=report.step)

    def end(self, experiment: str, record: TrialRecord) -> None:
        run = self._run(experiment, record.number)
        for name, value in record.parameters.items():
            self._client.log_param(run, name, value)
        for name, value in record.values.items():
            self._client.log_metric(run, f"final_{name}", value, timestamp=int(time.time() * 1000))
        self._client.set_tag(run, "state", record.state)
        if record.reason is not None:
            self._client.set_tag(run, "reason", record.reason)
        status = {"complete": "FINISHED", "stopped": "KILLED"}.get(record.state, "FAILED")
        self._client.set_terminated(run, status=status)
        del self._runs[record.number]

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run, status="KILLED")
        self._runs.clear()


class WandB:
    """Logs each trial as a run of a W&B project; the experiment is the runs' group.

    Args:
        place: the project, or ``ENTITY/PROJECT``. Without a network, set `WANDB_MODE=offline` to
            write to a local folder, and upload it later with ``wandb sync``.

    Raises:
        UserError: W&B is not installed.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        with needed("logging to W&B"):
            import wandb
        self._wandb: Any = wandb
        self._entity, _, self._project = os.fspath(place).rpartition("/")
        self._runs: dict[int, Any] = {}

    def _run(self, experiment: str, number: int, parameters: Mapping[str, Any]) -> Any:
        if number not in self._runs:
            try:
                self._runs[number] = self._wandb.init(
                    entity=self._entity or None,
                    project=self._project,
                    group=experiment,
                    name=f"trial {number}",
                    config={**parameters, "trial": number},
                    reinit="create_new",  # several trials run at a time
                    settings=self._wandb.Settings(silent=True, console="off"),
                )
            except Exception as error:  # W&B's own, of many kinds
                raise UserError(
                    f"W&B project '{self._project}': {one_line(error)}; run "
                    "'wandb login', or set WANDB_MODE=offline"
                ) from None
        return self._runs[number]

    def report(self, experiment: str, trial: Trial, report: Report) -> None:
        run = self._run(experiment, trial.number, trial.parameters)
        run.log(report.values, step=report.step)

    def end(self, experiment: str, record: TrialRecord) -> None:
        run = self._run(experiment, record.number, record.parameters)
        ended = {"state": record.state, "reason": record.reason}
        run.summary.update(
            {**record.values, **{key: text for key, text in ended.items() if text is not None}}
        )
        for file in record.files:
            run.save(file.path, base_path=os.path.dirname(file.path), policy="now")
        run.finish(exit_code=1 if record.state == "failed" else 0)
        del self._runs[record.number]

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)
        self._runs.clear()


LOGGERS: dict[str, Callable[[str | os.PathLike[str]], Logger]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
