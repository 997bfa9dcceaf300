"""Looking at trials, and taking them to another database; what is no experiment is named."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from gossamer.search import Experiment, Float, Maximize, Minimize

TOML = """
name = "small"
budget = 9
storage = "sqlite:///small.db"
sampler = "random"
metrics = {accuracy = {goal = "maximize", threshold = 0.9}, weights = {goal = "minimize"}}
parameters.rate = {type = "float", low = 0.1, high = 1.0}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "e.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def searched(place):
    experiment = Experiment.from_toml("e.toml")
    for accuracy in (0.95, 0.85):
        experiment.tell(experiment.ask(), {"accuracy": accuracy, "weights": 36980.0})
    experiment.tell(experiment.ask(), error="ValueError: no\nsuch file")
    trial = experiment.ask()
    trial.report(1, {"accuracy": 0.3}, of=2)
    experiment.tell(trial, stopped="too slow")
    experiment.ask()
    return experiment


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["trials", "import", "a", "b"], "gossamer trials import"), (["no"], "gossamer")],
)
def test_a_wrong_call_names_the_help_of_its_command(gossamer, arguments, command):
    status, out, err = gossamer(*arguments)
    assert (status, out) == (2, "")
    assert err.endswith(f"; see '{command} --help'\n")


def test_trials_are_listed(place, searched, gossamer):
    status, out, err = gossamer("trials", "e.toml")
    assert (status, err) == (0, "")
    assert "small: 5 of 9 trials: 2 complete, 1 inside the thresholds, 1 failed" in out
    rows = [line.split() for line in out.splitlines() if re.match(r" *\d+ +[a-z]", line)]
    assert [row[:2] for row in rows] == [
        ["0", "complete"],
        ["1", "complete"],
        ["2", "failed"],
        ["3", "stopped"],
        ["4", "running"],
    ]
    assert rows[0][2:4] == ["0.95", "36,980"]
    assert "ValueError: no such file" in out
    assert rows[3][2:4] == ["0.3", "–"]
    assert "too slow" in out
    status, listed, _ = gossamer("trials", "list", "small.db", "--json")
    assert status == 0
    assert [trial["state"] for trial in json.loads(listed)] == [row[1] for row in rows]
    assert json.loads(listed)[3]["reports"][0]["values"] == {"accuracy": 0.3}


def test_trials_go_to_another_database_and_the_search_goes_on(place, searched, gossamer):
    status, out, err = gossamer("trials", "export", "e.toml", "-o", "trials.json")
    assert (status, out, err) == (0, "5 trials of 'small' in trials.json\n", "")
    status, out, err = gossamer("trials", "export", "e.toml", "-o", "study.db")
    assert (status, out, err) == (0, "4 trials of 'small' in study.db\n", "")
    new = ["--storage", "sqlite:///new.db"]
    status, out, err = gossamer("trials", "import", "trials.json", *new)
    assert (status, out, err) == (0, "5 trials of 'small' in sqlite:///new.db\n", "")
    status, _, err = gossamer("trials", "import", "trials.json", *new)
    assert (status, err.count("\n")) == (2, 1)
    assert "already" in err
    assert gossamer("trials", "import", "trials.json", *new, "--name", "copy")[0] == 0
    for command in ("frontier", "trials"):
        status, _, err = gossamer(command, "new.db")
        assert (status, err.count("\n")) == (2, 1)
        assert "several experiments; give one's name: copy, small" in err
        assert gossamer(command, "new.db", "--name", "copy")[0] == 0
        status, _, err = gossamer(command, "e.toml", "--name", "copy")
        assert (status, err.count("\n")) == (2, 1)
    goes_on = Experiment.from_toml("e.toml", storage="sqlite:///new.db")
    goes_on.run(lambda trial: {"accuracy": 0.9, "weights": 1.0}, progress=False)
    states = [trial.state for trial in goes_on.trials()]
    assert (states.count("complete"), states.count("waiting"), len(states)) == (8, 0, 10)


def test_an_export_replaces_nothing_that_it_reads(place, searched, gossamer):
    (place / "small.db").rename(place / "small.sqlite")
    for source in ("e.toml", "small.sqlite", "sqlite:///small.sqlite"):
        read = source.removeprefix("sqlite:///")
        before = (place / read).read_bytes()
        status, _, err = gossamer("trials", "export", source, "-o", read)
        assert (status, err.count("\n")) == (2, 1)
        assert f"{read} is read as {read}; name another file to write" in err
        assert (place / read).read_bytes() == before


def test_looking_makes_no_database(place, gossamer):
    for command in (["frontier"], ["trials"], ["trials", "export", "-o", "x.json"]):
        gossamer(*command, "e.toml")
        gossamer(*command, "sqlite:///other.db")
    (place / "x.json").unlink(missing_ok=True)
    assert [path.name for path in place.iterdir()] == ["e.toml"]
    assert gossamer("frontier", "e.toml")[0] == 0
    assert "no trial is complete yet" in gossamer("frontier", "e.toml")[1]


def test_a_folder_names_the_experiments_in_it(place, gossamer):
    (place / "done").mkdir()
    shutil.copy(place / "e.toml", place / "done" / "experiment.toml")
    code, _, error = gossamer("frontier", "done")
    assert code == 2
    assert "name an experiment file, such as done/experiment.toml, or a storage" in error


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("text.txt", "text.txt is neither an experiment file (TOML) nor an SQLite database"),
        ("junk.db", "junk.db is neither an experiment file (TOML) nor an SQLite database"),
        ("empty.db", "empty.db is neither an experiment file (TOML) nor an SQLite database"),
        ("folder", "folder is a folder; name"),
        ("broken.toml", "broken.toml is not valid TOML"),
        ("none.db", "none.db does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["frontier", "trials"])
def test_what_is_no_experiment_is_one_line(place, gossamer, command, source, words):
    (place / "text.txt").write_text("some\ntext\n")
    (place / "junk.db").write_bytes(b"\x00\xff junk" * 100)
    (place / "empty.db").touch()
    (place / "broken.toml").write_text("name = ")
    (place / "folder").mkdir()
    status, out, err = gossamer(command, source)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert "Expected" not in err or source == "broken.toml"


@pytest.mark.parametrize("command", ["profile", "bench"])
def test_a_folder_is_no_network(place, gossamer, command):
    (place / "folder").mkdir()
    status, out, err = gossamer(command, "folder")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gossamer: folder")
    assert "Errno" not in err


def test_trials_are_deleted_corrected_and_noted(place, searched, gossamer):
    before = {t.number: t for t in Experiment.from_toml("e.toml").trials()}
    complete = [n for n, t in before.items() if t.state == "complete"]
    status, out, err = gossamer(
        "trials", "delete", "small.db", *(n for n in before if n not in complete)
    )
    assert (status, out, err) == (0, "3 trials of 'small' deleted\n", "")
    first, metric = complete[0], next(iter(before[complete[0]].values))
    status, out, err = gossamer("trials", "set", "e.toml", first, f"{metric}=0.5,0.25", "size=3")
    was = f"{before[first].values[metric]:.6g}"
    written = f"trial {first} of 'small': {metric} = 0.5 ± 0.25 (was {was}), size = 3 (new)\n"
    assert (status, out, err) == (0, written, "")
    status, out, err = gossamer("trials", "note", "e.toml", first, "[by hand]")
    assert (status, out, err) == (0, f"trial {first} of 'small': note written\n", "")
    status, out, _ = gossamer("trials", "e.toml")
    assert "[by hand]" in out
    assert "± 0.25" in out.replace("\u00a0", " ")
    after = Experiment.from_toml("e.toml").trials()
    assert [t.number for t in after] == complete
    assert (after[0].values[metric], after[0].noise[metric]) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete", "small.db", 99], "experiment 'small' has no trial 99"),
        (["set", "small.db", 0, "accuracy=1_0"], "accuracy=1_0: write numbers without '_'"),
        (["set", "small.db", 0, "accuracy"], "trials set accuracy: write it as accuracy=0.94"),
        (
            ["set", "small.db", 0, "accuracy=1,2,3"],
            "trials set accuracy=1,2,3: write it as accuracy=0.94",
        ),
        (["note", "small.db", 99, "x"], "experiment 'small' has no trial 99"),
    ],
)
def test_what_cannot_be_changed_is_named(place, searched, gossamer, arguments, message):
    status, _, err = gossamer("trials", *arguments)
    assert status == 2
    assert message in err


def test_a_network_has_no_accuracy_of_96(place, gossamer):
    """A value in percent would lead the frontier for ever."""
    experiment = Experiment(
        "networks",
        metrics=[Maximize("accuracy"), Minimize("density")],
        parameters=[Float("learning_rate", 0.01, 0.1)],
        settings={"task": "spoken_words", "model": "mlp"},
        budget=5,
        storage="sqlite:///n.db",
    )
    experiment.add({"learning_rate": 0.05}, {"accuracy": 0.9, "density": 0.5})
    wrong = "accuracy is a share, from 0 to 1, not 96.5; write 0.965 for 96.5 %"
    for value in ("96.5", "96.5,0.1"):
        status, _, err = gossamer("trials", "set", "n.db", 0, f"accuracy={value}")
        assert (status, err) == (2, f"gossamer: trials set: {wrong}\n")
    (place / "t.csv").write_text("learning_rate,accuracy,density\n0.02,96.5,0.1\n")
    status, _, err = gossamer("trials", "import", "t.csv", "--into", "n.db")
    assert status == 2
    assert f"t.csv: line 2: values: {wrong}" in err
    assert [t.values for t in experiment.trials()] == [{"accuracy": 0.9, "density": 0.5}]


def test_trials_of_another_tool_are_imported(place, searched, gossamer):
    (place / "t.csv").write_text("lr,accuracy,weights,note\n0.5,0.75,3,x\n7,0.75,3,x\n")
    arguments = ["trials", "import", "t.csv", "--into", "e.toml", "--rename", "lr=rate"]
    status, out, err = gossamer(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "t.csv: line 3: 'rate' is never 7" in err
    status, out, err = gossamer(*arguments, "--skip")
    assert (status, err) == (0, "")
    left_out, imported, ignored = out.splitlines()
    assert left_out.startswith("left out: t.csv: line 3")
    assert imported == "1 trial imported into 'small'; 1 left out"
    assert ignored == "no parameters of 'small': note"
    trial = Experiment.from_toml("e.toml").record(5)
    assert (trial.parameters, trial.values) == ({"rate": 0.5}, {"accuracy": 0.75, "weights": 3.0})
    assert "1 there already" in gossamer(*arguments, "--skip")[1]
    (place / "t.csv").write_text("lr,accuracy,weights\n0.25,0.7,3\n0.125,nan,3\n")
    assert gossamer(*arguments)[1] == "2 trials imported into 'small', 1 of them as failed\n"
    for wrong, words in (
        (["t.csv"], "give --storage URL"),
        (["t.csv", "--storage", "sqlite:///x.db", "--skip"], "need --into EXPERIMENT"),
        (["t.csv", "--into", "e.toml", "--rename", "lr"], "--rename lr: write it as THERE=HERE"),
        (["t.csv", "--storage", "sqlite:///x.db"], "t.csv is no file of 'gossamer trials export'"),
    ):
        status, _, err = gossamer("trials", "import", *wrong)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err


def test_a_trial_is_shown_with_its_files(place, searched, gossamer):
    (place / "curve.png").write_bytes(b"12345")
    trial = searched.ask()
    trial.attach("curve.png")
    searched.note(5, "odd")
    status, out, err = gossamer("trials", "show", "small.db", 5)
    assert (status, err) == (0, "")
    assert "trial 5 of 'small': running" in out
    assert "note: odd" in out
    assert f"file {place}/small.files/small/5/curve.png (image, 5 bytes)" in out
    assert "value weights = 36980.0" in gossamer("trials", "show", "e.toml", 0)[1]
    files = json.loads(gossamer("trials", "show", "e.toml", 5, "--json")[1])["files"]
    assert files[0]["kind"] == "image"
    assert "has no trial 9" in gossamer("trials", "show", "e.toml", 9)[2]
