"""Trials in TensorBoard, MLflow and W&B, read back through their own libraries."""

import sys

import pytest

from gossamer.errors import UserError
from gossamer.search import LOGGERS, Experiment, Float, Maximize, MLflow, TensorBoard, Trial, WandB
from gossamer.search.trials.trial import Report, TrialRecord

# MLflow's own, of its database.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def train(trial):
    if trial.number == 2:
        raise ValueError("no data")
    for step in (1, 2, 3):
        trial.report(step, {"accuracy": step / 10}, of=3)
    return {"accuracy": trial.parameters["a"]}


def search(logger):
    experiment = Experiment(
        "x", [Float("a", 0, 1)], [Maximize("accuracy")], budget=4, sampler="random"
    )
    experiment.run(train, progress=False, loggers=[logger])
    return experiment.trials()


def place(name, folder):
    places = {"tensorboard": folder / "logs", "mlflow": f"sqlite:///{folder}/m.db"}
    return places.get(name, "team/shelf")


class Recorder:
    """In place of `wandb`: its runs as it would get them."""

    class Settings:
        def __init__(self, **settings):
            self.settings = settings

    def __init__(self):
        self.runs = {}

    def init(self, *, name, config, reinit, **settings):
        assert reinit == "create_new"
        self.runs[name] = run = RecordedRun(config, settings)
        return run


class RecordedRun:
    def __init__(self, config, settings):
        self.config, self.settings = config, settings
        self.rows, self.summary, self.saved, self.status = [], {}, [], None

    def log(self, values, step):
        assert self.status is None
        self.rows.append((step, values))

    def save(self, path, base_path, policy):
        self.saved.append(path)

    def finish(self, exit_code):
        self.status = exit_code


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


@pytest.mark.parametrize("name", LOGGERS)
def test_conformance_a_logger(name, tmp_path, recorder):
    pytest.importorskip(name)
    logger = LOGGERS[name](place(name, tmp_path))
    trial = Trial(3, {"a": 1, "kind": None})
    logger.report("x", trial, Report(1, None, {"accuracy": 0.5}, 0.1))
    record = TrialRecord(3, "failed", {"a": 1, "kind": None}, {}, "why", 1.0)
    logger.end("x", record)
    # One that was never reported of, and one that never ended.
    logger.end("x", TrialRecord(4, "complete", {"a": 2}, {"accuracy": 1.0}, None, 1.0))
    logger.report("x", Trial(5, {}), Report(1, None, {"accuracy": 0.5}, 0.1))
    logger.close()


def test_wandb_gets_every_trial(recorder):
    records = search(WandB("team/shelf"))
    run = recorder.runs["trial 0"]
    assert run.config == {"a": records[0].parameters["a"], "trial": 0}
    assert (run.settings["entity"], run.settings["project"]) == ("team", "shelf")
    assert run.settings["group"] == "x"
    assert run.rows == [(step, {"accuracy": step / 10}) for step in (1, 2, 3)]
    assert run.summary == {"accuracy": records[0].values["accuracy"], "state": "complete"}
    assert [recorder.runs[f"trial {i}"].status for i in range(4)] == [0, 0, 1, 0]
    assert "no data" in recorder.runs["trial 2"].summary["reason"]


def test_tensorboard_has_curves_and_reasons(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = search(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path / "x" / "trial-0000"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("accuracy")]
    assert curve == [(step, pytest.approx(step / 10)) for step in (1, 2, 3)]
    (final,) = events.Scalars("final/accuracy")
    assert final.value == pytest.approx(records[0].values["accuracy"])
    failed = EventAccumulator(str(tmp_path / "x" / "trial-0002"))
    failed.Reload()
    (reason,) = failed.Tensors("reason/text_summary")
    assert b"no data" in reason.tensor_proto.string_val[0]


def test_mlflow_has_runs(tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{tmp_path}/mlflow.db"
    records = search(MLflow(address))
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("x")
    runs = {int(r.data.tags["trial"]): r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == [0, 1, 2, 3]
    assert runs[0].info.status == "FINISHED"
    assert runs[2].info.status == "FAILED"
    assert "no data" in runs[2].data.tags["reason"]
    assert float(runs[0].data.params["a"]) == pytest.approx(records[0].parameters["a"])
    history = client.get_metric_history(runs[0].info.run_id, "accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(UserError, match=r"gossamer\[tensorboard\]"):
        TensorBoard("logs")
    with pytest.raises(UserError, match=r"gossamer\[mlflow\]"):
        MLflow("sqlite:///m.db")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"gossamer\[wandb\]"):
        WandB("shelf")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wandb_has_runs(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="W&B is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    ended = {}
    finish = wandb.Run.finish

    def note_and_finish(run, exit_code=None, **others):
        ended[run.config["trial"]] = (dict(run.config), dict(run.summary), exit_code, run.group)
        finish(run, exit_code=exit_code, **others)

    monkeypatch.setattr(wandb.Run, "finish", note_and_finish)
    records = search(WandB("team/shelf"))
    wandb.teardown()
    assert sorted(ended) == [0, 1, 2, 3]
    config, summary, status, group = ended[0]
    assert (config["a"], status, group) == (records[0].parameters["a"], 0, "x")
    assert summary["accuracy"] == records[0].values["accuracy"]
    assert summary["state"] == "complete"
    assert (ended[2][2], "no data" in ended[2][1]["reason"]) == (1, True)
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 4
