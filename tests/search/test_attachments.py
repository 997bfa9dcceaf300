"""Files of trials: stored beside the storage, listed, exported, and safe from a kill."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    Command,
    Experiment,
    Float,
    Maximize,
    Snapshot,
    Trial,
    export_trials,
    import_trials,
)
from gossamer.search.execution import ray


def make(storage, name="x", **changes):
    return Experiment(
        name, [Float("a", 0, 1)], [Maximize("m")], storage=storage, sampler="random", **changes
    )


@pytest.fixture
def curve(tmp_path):
    path = tmp_path / "curve.png"
    path.write_bytes(b"\x89PNG")
    return path


def test_a_file_is_stored_listed_replaced_and_exported(tmp_path, curve):
    experiment = make(f"sqlite:///{tmp_path}/s.db", "größe/1", budget=3)
    trial = experiment.ask()
    assert experiment.record(0).files == ()
    before = Snapshot.of(experiment).version
    stored = trial.attach(curve)
    assert stored.parent.parent.parent == tmp_path / "s.files"
    trial.attach(curve, "again.log")
    experiment.tell(trial, {"m": 1})
    (again, first) = experiment.trials()[0].files
    assert (first.name, first.kind, first.bytes) == ("curve.png", "image", 4)
    assert (again.name, again.kind, again.path) == (
        "again.log",
        "text",
        f"{stored.parent}/again.log",
    )
    assert Snapshot.of(experiment).version != before
    curve.write_bytes(b"\x89PNG2")
    trial.attach(curve)
    assert experiment.record(0).files[1].bytes == 5
    json.dumps(dataclasses.asdict(experiment.record(0)))
    (stored.parent / "link.png").symlink_to("/etc/passwd")
    assert len(experiment.record(0).files) == 2

    export_trials(experiment.storage, tmp_path / "e.json")
    name, _ = import_trials(tmp_path / "e.json", f"sqlite:///{tmp_path}/new.db", "copy")
    copied = Experiment.from_storage(f"sqlite:///{tmp_path}/new.db").record(0)
    assert [(file.name, file.bytes) for file in copied.files] == [
        ("again.log", 4),
        ("curve.png", 5),
    ]
    assert copied.files[0].path == str(tmp_path / f"new.files/{name}/0/again.log")
    # Not beside a database of another kind; as which this driver is taken.
    elsewhere = f"sqlite+pysqlite:///{tmp_path}/elsewhere.db"
    with pytest.raises(UserError, match=r"its trials have 2 files, .* give --files FOLDER"):
        import_trials(tmp_path / "e.json", elsewhere)
    import_trials(tmp_path / "e.json", elsewhere, files=tmp_path / "folder")
    brought = Experiment.from_storage(elsewhere).record(0)
    assert [file.name for file in brought.files] == ["again.log", "curve.png"]
    assert all(Path(file.path).is_relative_to(tmp_path / "folder") for file in brought.files)
    (tmp_path / "e.files/0/curve.png").unlink()
    with pytest.raises(UserError, match=r"trial 0: file .*curve.png is missing; copy the folder"):
        import_trials(tmp_path / "e.json", f"sqlite:///{tmp_path}/other.db")
    content = json.loads((tmp_path / "e.json").read_text())
    content["trials"][0]["files"] = ["../../s.db"]
    (tmp_path / "e.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is missing"):
        import_trials(tmp_path / "e.json", f"sqlite:///{tmp_path}/other.db")


def test_a_folder_of_ones_own_is_part_of_the_definition(tmp_path, curve):
    experiment = make(f"sqlite:///{tmp_path}/s.db", files=tmp_path / "shared")
    trial = experiment.ask()
    trial.attach(curve)
    again = Experiment.from_storage(f"sqlite:///{tmp_path}/s.db")
    assert again.record(0).files[0].path == str(tmp_path / "shared/x/0/curve.png")
    assert make(None, files=tmp_path / "shared").files == tmp_path / "shared/x"


@pytest.mark.parametrize(
    ("name", "words"), [("a/b.png", "plain file name"), (".hidden", "plain"), ("", "plain")]
)
def test_what_cannot_be_attached_is_named(tmp_path, curve, name, words):
    experiment = make(f"sqlite:///{tmp_path}/s.db")
    trial = experiment.ask()
    with pytest.raises(UserError, match=words):
        trial.attach(curve, name)
    with pytest.raises(UserError, match=r"none.png cannot be read"):
        trial.attach(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"no place for files; give it an SQLite storage, or files"):
        make(None).ask().attach(curve)
    assert experiment.record(0).files == ()


def test_a_command_has_a_folder(tmp_path):
    script = tmp_path / "p.py"
    script.write_text(
        "import os, pathlib\n"
        "folder = os.environ.get('GOSSAMER_FILES')\n"
        "if folder:\n"
        "    pathlib.Path(folder, 'train.log').write_text('begun')\n"
        "print('{\"m\": 1}')\n"
    )
    command = Command(f"{sys.executable} {script}")
    for storage, files in ((f"sqlite:///{tmp_path}/s.db", ["train.log"]), (None, [])):
        experiment = make(storage, command=command, budget=1)
        experiment.run(progress=False)
        (trial,) = experiment.trials()
        assert trial.state == "complete"
        assert [file.name for file in trial.files] == files


def test_a_killed_process_loses_no_file(tmp_path, curve):
    code = (
        "import os, signal, sys\n"
        "from tests.search.test_attachments import make\n"
        "trial = make(sys.argv[1]).ask()\n"
        "trial.attach(sys.argv[2])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    storage = f"sqlite:///{tmp_path}/s.db"
    done = subprocess.run([sys.executable, "-c", code, storage, curve], check=False)
    assert done.returncode == -signal.SIGKILL
    experiment = make(storage)
    assert [file.bytes for file in experiment.record(0).files] == [4]
    trial = experiment.ask()  # the same one, run again
    assert (trial.number, os.listdir(trial.files)) == (0, ["curve.png"])


def test_files_of_a_node_of_ray_travel(tmp_path, curve, monkeypatch):
    from concurrent.futures import Future

    monkeypatch.setitem(sys.modules, "ray", object())

    def train(trial):
        trial.attach(curve)
        assert trial.files != tmp_path / "0"
        return {"m": 1}

    trial = Trial(0, {"a": 1}, files=tmp_path / "0")
    outcome = ray._work(ray.pickled(train), trial, None, [])
    assert outcome.files == {"curve.png": b"\x89PNG"}
    cluster = object.__new__(ray.Cluster)
    future = Future()
    future.set_result(outcome)
    cluster._references, cluster._folders = {future: None}, {future: trial.files}
    assert cluster.collect(future).values == {"m": 1.0}
    assert (tmp_path / "0" / "curve.png").read_bytes() == b"\x89PNG"
