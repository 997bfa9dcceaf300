"""Databases that cannot be used, or break."""

import sqlite3
import warnings
from urllib.parse import quote

import pytest
from tests.search.experiments import good, make, states

from gossamer.errors import UserError
from gossamer.search import Experiment
from gossamer.search.trials import databases
from gossamer.search.trials.databases import network_mount


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("speech.db", "write 'sqlite:///speech.db'"),
        (3, "is not a database URL"),
        ("sqlite:///{}/missing/x.db", "missing does not exist; create it first"),
        ("sqlite:///{}", "is a folder"),
        ("sqlite:///{}/text.db", "is not an SQLite database"),
        ("sqlite:///{}/torn.db", "cannot be opened"),
        ("sqlite://", "names no file"),
        ("nosuch://host/base", "cannot be opened"),
    ],
)
def test_storage_that_cannot_be_used(tmp_path, url, words):
    (tmp_path / "text.db").write_text("accuracy,density\n0.9,0.1\n" * 20)
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 500)
    with pytest.raises(UserError) as error:
        make(storage=url.format(tmp_path) if isinstance(url, str) else url)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_storage_that_breaks_in_the_middle_is_one_line(tmp_path):
    path = tmp_path / "x.db"
    experiment = make(storage=f"sqlite:///{path}")
    trial = experiment.ask()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE trial_values")
    connection.close()
    with pytest.raises(UserError, match=r"storage failed: .*trial_values") as error:
        experiment.tell(trial, {"accuracy": 1, "density": 1})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["50%.db", "a b#c.db", "%41%20?.db", "ü%ff.db"])
def test_signs_in_a_path_are_part_of_its_name(tmp_path, name):
    written = name if name.count("%") < 2 and "ff" not in name else quote(name)
    url = f"sqlite:///{tmp_path}/{written}"
    make(storage=url, budget=2).run(good, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert states(Experiment.from_storage(url)) == ["complete"] * 2


def test_an_experiment_that_is_only_read_makes_no_database(tmp_path):
    path = tmp_path / "x.db"
    experiment = make(storage=f"sqlite:///{path}")
    assert experiment.trials() == []
    assert experiment.frontier().trials == []
    assert experiment.importances() == {"accuracy": {}, "density": {}}
    assert list(tmp_path.iterdir()) == []
    other = make(storage=f"sqlite:///{path}")
    other.ask()
    assert len(experiment.trials()) == 1  # made by another meanwhile


def test_reading_with_other_thresholds_leaves_the_stored_ones(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    make(storage=url, budget=3).run(good, progress=False)
    changed = [type(m)(m.name) for m in make().metrics]
    reading = make(storage=url, metrics=changed)
    assert reading.frontier().feasible
    assert reading.metrics == changed
    assert Experiment.from_storage(url).metrics == make().metrics
    reading.ask()
    assert Experiment.from_storage(url).metrics == changed


MOUNTS = """/dev/sda1 / ext4 rw 0 0
server:/export /data nfs4 rw 0 0
//server/share /data/my\\040share cifs rw 0 0
user@host: /home/me/far fuse.sshfs rw 0 0
/dev/sdb1 /data/local xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/x.db", None),
        ("/data/x.db", "nfs4"),
        ("/data/deep/er/x.db", "nfs4"),
        ("/data/my share/x.db", "cifs"),
        ("/data/local/x.db", None),
        ("/data/localized/x.db", "nfs4"),
        ("/home/me/far/x.db", "fuse.sshfs"),
        ("/home/me/x.db", None),
    ],
)
def test_network_file_systems_are_recognized(tmp_path, path, kind):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_mount(path, tmp_path / "mounts") == kind
    assert network_mount(path, tmp_path / "none") is None


def test_a_database_on_a_network_file_system_is_warned_of(tmp_path, monkeypatch):
    (tmp_path / "mounts").write_text(MOUNTS + f"server:/home {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(databases, "_MOUNTS", tmp_path / "mounts")
    with pytest.warns(UserWarning, match=r"on a network file system \(nfs\).*PostgreSQL"):
        make(storage=f"sqlite:///{tmp_path}/x.db").ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().ask()
