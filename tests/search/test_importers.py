"""Trials of other tools, imported from what each tool itself writes."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import optuna
import pytest

from gossamer.errors import UserError
from gossamer.search import (
    IMPORTERS,
    Choice,
    Experiment,
    Fidelity,
    Float,
    Int,
    Maximize,
    Minimize,
    import_from,
)

# MLflow's own, of its database.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

# Two complete trials, one that failed, one that has not ended.
POINTS = [
    {"rate": 0.01, "width": 16, "rule": "set"},
    {"rate": 0.02, "width": 32, "rule": "rigl"},
    {"rate": 0.03, "width": 64, "rule": "set"},
    {"rate": 0.04, "width": 8, "rule": "set"},
]
VALUES = [{"accuracy": 0.9, "density": 0.25}, {"accuracy": 0.8, "density": 0.125}]


def shelf(storage=None, **changes):
    parameters = [Float("rate", 1e-4, 0.1, log=True), Int("width", 8, 64)]
    arguments = {
        "parameters": [*parameters, Choice("rule", ["set", "rigl"])],
        "metrics": [Maximize("accuracy", 0.5), Minimize("density")],
        **changes,
    }
    return Experiment("shelf", storage=storage, **arguments)


def csv_file(folder):
    path = folder / "table.csv"
    path.write_text(
        "rate,width,rule,accuracy,density,state,reason,color\n"
        "0.01,16,set,0.9,0.25,finished,,red\n"
        "0.02,32,rigl,0.8,0.125,,,\n"
        '0.03,64,set,,,Failed,"out of\nmemory",\n'
        "0.04,8,set,,,running,,\n".replace(",,,\n", ",finished,,\n", 1)
    )
    return str(path)


def ax_file(folder):
    return shutil.copy(Path(__file__).parent / "data" / "ax_experiment.json", folder)


def wandb_file(folder):
    states = ["finished", "finished", "crashed", "running"]
    runs = [
        {
            "id": f"a{i}",
            "state": state,
            "config": {**{k: {"value": v, "desc": None} for k, v in point.items()}, "_wandb": {}},
            "summary": {**(VALUES[i] if i < 2 else {}), "_runtime": 12.5, "_step": 3},
        }
        for i, (point, state) in enumerate(zip(POINTS, states, strict=True))
    ]
    path = folder / "runs.json"
    path.write_text(json.dumps(runs))
    return str(path)


def mlflow_database(folder):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=address)
    experiment = client.create_experiment("shelf")
    for i, point in enumerate(POINTS):
        run = client.create_run(experiment, start_time=1000 * (i + 1)).info.run_id
        for name, value in point.items():
            client.log_param(run, name, value)
        for name, value in (VALUES[i] if i < 2 else {}).items():
            client.log_metric(run, name, value - 0.5, step=1)
            client.log_metric(run, name, value, step=2)
        if i < 3:
            client.set_terminated(run, "FINISHED" if i < 2 else "FAILED", end_time=1000 * i + 1500)
    return address


def optuna_database(folder):
    address = f"sqlite:///{folder}/optuna.db"
    study = optuna.create_study(
        study_name="shelf", storage=address, directions=["maximize", "minimize"]
    )
    study.set_metric_names(["accuracy", "density"])
    for i, point in enumerate(POINTS):
        study.enqueue_trial(point)
        trial = study.ask()
        trial.suggest_float("rate", 1e-4, 0.1, log=True)
        trial.suggest_int("width", 8, 64)
        trial.suggest_categorical("rule", ["set", "rigl"])
        trial.set_user_attr("seconds_to_load", 3)
        if i < 2:
            study.tell(trial, list(VALUES[i].values()))
        elif i == 2:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return f"{folder}/optuna.db"


SOURCES = {
    "csv": csv_file,
    "ax": ax_file,
    "wandb": wandb_file,
    "mlflow": mlflow_database,
    "optuna": optuna_database,
}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "tool",
    # MLflow makes its database, which takes seconds.
    [pytest.param(name, marks=pytest.mark.slow if name == "mlflow" else ()) for name in IMPORTERS],
)
def test_conformance_an_importer(tool, tmp_path):
    source = SOURCES[tool](tmp_path)
    assert [name for name, one in IMPORTERS.items() if one.recognizes(source)] == [tool]
    experiment = shelf(f"sqlite:///{tmp_path}/own.db")
    done = import_from(source, experiment)
    assert (done.trials, done.known, done.unfinished, done.skipped) == (3, 0, 1, ())
    trials = experiment.trials()
    assert [trial.state for trial in trials] == ["complete", "complete", "failed"]
    if tool == "ax":  # recorded: Ax chose the points
        assert trials[0].parameters == {
            "rate": pytest.approx(0.00316228),
            "width": 36,
            "rule": "rigl",
        }
        assert trials[0].values == {"accuracy": 0.9, "density": 0.1}
        assert trials[0].noise == {"accuracy": 0.01}
        assert trials[2].reason == "out of memory"
    else:
        assert [trial.parameters for trial in trials] == POINTS[:3]
        for trial, values in zip(trials, VALUES, strict=False):
            assert {name: trial.values[name] for name in values} == values
    # The sampler goes on from them, and a second import adds nothing.
    assert experiment.ask().number == 3
    again = import_from(source, shelf(f"sqlite:///{tmp_path}/own.db"))
    assert (again.trials, again.known) == (0, 3)
    with pytest.raises(UserError, match="other"):
        IMPORTERS[tool].read(str(tmp_path / "other"), None)


def test_what_a_client_of_ax_writes_holds_an_experiment(tmp_path):
    content = json.loads(Path(ax_file(tmp_path)).read_text())
    path = tmp_path / "client.json"
    path.write_text(json.dumps({"_type": "Client", "experiment": content}))
    assert import_from(str(path), shelf()).trials == 3
    content["trials"]["0"]["generator_run"] = {"arms": 3}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"client.json is of an unknown version of Ax"):
        import_from(str(path), shelf())


def test_runs_of_wandb_with_images_are_not_taken_for_ax(tmp_path):
    path = Path(wandb_file(tmp_path))
    runs = json.loads(path.read_text())
    for run in runs:
        run["summary"] |= {"log": "." * 4000, "digits": {"_type": "image-file", "width": 28}}
    path.write_text(json.dumps(runs))
    assert [name for name, one in IMPORTERS.items() if one.recognizes(str(path))] == ["wandb"]
    assert import_from(str(path), shelf()).trials == 3


def test_an_optuna_study_without_names_of_metrics(tmp_path):
    study = optuna.create_study(direction="maximize")
    study.add_trial(
        optuna.trial.create_trial(
            params={"lr": 0.01},
            distributions={"lr": optuna.distributions.FloatDistribution(0, 1)},
            value=0.75,
            user_attrs={"density": 0.5, "host": "a"},
        )
    )
    study.add_trial(
        optuna.trial.create_trial(
            params={"lr": 0.02},
            distributions={"lr": optuna.distributions.FloatDistribution(0, 1)},
            intermediate_values={1: 0.2, 2: 0.3},
            state=optuna.trial.TrialState.PRUNED,
        )
    )
    journal = str(tmp_path / "journal.log")
    backend = optuna.storages.journal.JournalFileBackend(journal)
    optuna.copy_study(
        from_study_name=study.study_name,
        from_storage=study._storage,
        to_storage=optuna.storages.JournalStorage(backend),
        to_study_name="s",
    )
    experiment = shelf(parameters=[Float("rate", 1e-4, 0.1)])
    with pytest.raises(
        UserError, match=r"trial 0: parameter 'rate' is missing \(it has lr, .*THERE"
    ):
        import_from(journal, experiment)
    assert not experiment.trials()
    names = {"lr": "rate", "value": "accuracy"}
    assert import_from(journal, experiment, rename=names).trials == 2
    complete, stopped = experiment.trials()
    assert complete.values == {"accuracy": 0.75, "density": 0.5}
    assert (stopped.state, stopped.reason) == ("stopped", "pruned at step 2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 names no columns"),
        ("rate,rate\n1,2\n", "line 1 has the column 'rate' twice"),
        (
            "rate,width,values_accuracy,user_attrs_accuracy,density\n0.1,8,0.9,0.8,1\n",
            "line 1 has 'values_accuracy' and 'user_attrs_accuracy', both the metric 'accuracy'",
        ),
        ("params_rate,config.rate,width\n0.1,0.2,8\n", "both the parameter 'rate'; rename or"),
        ("rate,width\n0.1\n", "line 2 has 1 columns, line 1 2"),
        ("rate\n0.1\n", "line 2: parameter 'width' is missing (it has rate;"),
        ("rate,width\nfast,8\n", "line 2: 'rate' is 'fast', which is no number"),
        ("rate,width\n0.1,9999\n", "line 2: 'width' is never 9999"),
        ("rate,width,accuracy,density\n0.1,8,,1\n", "line 2: metric 'accuracy' is missing"),
        ("rate,width,state\n\n0.1,8,lost\n", "line 3: unknown state 'lost'"),
        ('rate,width\n0.1,"8\n', "line 2: unexpected end of data"),
        (b"rate,width\n0.1,8\n\xff\n", "line 3 is not UTF-8"),
    ],
)
def test_a_wrong_line_of_a_table_is_named(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    experiment = shelf(parameters=[Float("rate", 0, 1), Int("width", 8, 64)])
    with pytest.raises(UserError) as error:
        import_from(str(path), experiment)
    assert f"{path}" in str(error.value)
    assert words in str(error.value)
    assert not experiment.trials()


def test_tables_of_other_tools_have_prefixes_separators_and_conditions(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffparams_rate;params_fast;params_width;values_accuracy;noise:accuracy;user_attrs_size\n"
        "0.5;true;16;0.9;0.01;7\n"
        "0.5;False;16;0.8;;\n"
        "0.25;False;;nan;;\n"
        "0.25;False;;0.1;;\n"
        "0.25;False;;0.1;;\n"
    )
    experiment = Experiment(
        "x",
        [
            Float("rate", 0, 1),
            Choice("fast", [True, False]),
            Int("width", 8, 64, when={"fast": True}),
        ],
        [Maximize("accuracy")],
    )
    done = import_from(str(path), experiment)
    assert (done.trials, done.failed) == (5, 1)
    first, second, third, *_ = experiment.trials()
    assert first.parameters == {"rate": 0.5, "fast": True, "width": 16}
    assert (first.noise["accuracy"], second.parameters) == (0.01, {"rate": 0.5, "fast": False})
    assert (third.state, third.reason) == ("failed", "metric 'accuracy' is nan")
    path.write_text("rate,fast,accuracy\n0.5,false,0.9\n7,false,0.9\n0.5,maybe,0.9\n")
    with pytest.raises(UserError, match=r"line 3: 'rate' is never 7.*; so are 1 more; nothing"):
        import_from(str(path), experiment)
    for row in ("0.5,false,0.9_5", "0.2_5,false,0.9"):
        path.write_text(f"rate,fast,accuracy\n{row}\n")
        with pytest.raises(UserError, match=r"line 2: '.*' is '.*_5', which is no number"):
            import_from(str(path), experiment)
    path.write_text("rate,fast,accuracy\n0.5,false,0.9\n7,false,0.9\n0.5,maybe,0.9\n")
    done = import_from(str(path), experiment, skip=True)
    assert (done.trials, len(done.skipped), len(experiment.trials())) == (1, 2, 6)
    with pytest.raises(UserError, match=r"has no 'lr' to rename"):
        import_from(str(path), experiment, rename={"lr": "rate"})


def test_a_server_of_mlflow_is_asked(monkeypatch):
    """The client stands in for MLflow's, which would try a server that is not there for minutes."""
    tracking = ModuleType("mlflow.tracking")

    def client(tracking_uri):
        raise ConnectionError(f"asked {tracking_uri}")

    tracking.MlflowClient = client
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    with pytest.raises(UserError, match="asked http://localhost:5000; check the address"):
        import_from("http://localhost:5000", shelf())


def test_sources_of_several_studies_and_of_none(tmp_path):
    address = f"sqlite:///{tmp_path}/o.db"
    for name in ("a", "b"):
        optuna.create_study(study_name=name, storage=address)
    with pytest.raises(UserError, match=r"has several: a, b; choose one with --study"):
        import_from(address, shelf())
    with pytest.raises(UserError, match=r"has no Optuna study 'c'"):
        import_from(address, shelf(), study="c")
    assert import_from(address, shelf(), study="b").trials == 0
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UserError, match=r"x.txt is in no known format; .* goes to a --storage"):
        import_from(str(tmp_path / "x.txt"), shelf())
    with pytest.raises(UserError, match=r"no importer 'excel'"):
        import_from(str(tmp_path / "x.txt"), shelf(), tool="excel")
    (tmp_path / "b.json").write_text('{"config":\n [}')
    with pytest.raises(UserError, match=r"b.json: line 2: no JSON"):
        import_from(str(tmp_path / "b.json"), shelf())


@pytest.mark.parametrize("kind", ["table", "database"])
def test_trials_of_a_cheaper_task_are_not_taken_for_full_ones(tmp_path, kind):
    storage = f"sqlite:///{tmp_path / 'cheap.db'}"
    there = shelf(storage, fidelities=[Fidelity("small", {}, 0.1)], budget=4)
    there.tell(there.ask(), VALUES[0])
    there.add(POINTS[0], VALUES[1])
    assert [trial.fidelity for trial in there.trials()] == ["small", None]
    file = tmp_path / "trials.csv"
    file.write_text(  # as the dashboard and DataFrames write it
        "trial,state,fidelity,parameter:rate,parameter:width,parameter:rule,"
        "value:accuracy,value:density\n"
        "0,complete,small,0.01,16,set,0.9,0.25\n"
        "1,complete,,0.01,16,set,0.8,0.125\n"
    )
    here = shelf()
    done = import_from(storage if kind == "database" else str(file), here)
    assert (done.trials, done.cheaper) == (1, 1)
    assert [trial.values["accuracy"] for trial in here.trials()] == [0.8]


def test_another_experiment_comes_with_its_own_metrics_and_changes(tmp_path):
    """Without Optuna's names of its values, without what was deleted, with what was corrected."""
    storage = f"sqlite:///{tmp_path / 'there.db'}"
    there = shelf(storage)
    for number, point in enumerate(POINTS[:3]):
        there.add(point, {**VALUES[number % 2], "seconds": 3.0})
    there.forget(1)
    there.correct(2, {"accuracy": (0.5, 0.01)})
    here = shelf()
    done = import_from(storage, here)
    assert (done.trials, done.skipped, done.ignored) == (2, (), ())
    assert [trial.values for trial in here.trials()] == [
        {**VALUES[0], "seconds": 3.0},
        {**VALUES[0], "accuracy": 0.5, "seconds": 3.0},
    ]
    assert here.record(1).noise == {"accuracy": 0.01}
