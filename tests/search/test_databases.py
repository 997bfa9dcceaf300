"""Databases that cannot be used, or break."""

import sqlite3

import pytest
from tests.search.experiments import make

from gossamer.errors import UserError


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
