"""Killed databases, many workers at once, full disks: nothing is lost, nothing counts twice."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.search.waiting import wait_for

from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Maximize

SCRIPT = """
import os, pathlib, resource, sys, time
from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Maximize

url, folder, pause, budget, processes, limit = sys.argv[1:]
folder = pathlib.Path(folder)

def train(trial):
    (folder / f"call-{trial.number}-{os.getpid()}").touch()
    for step in (1, 2):
        trial.report(step, {"accuracy": trial.parameters["a"]}, of=2)
        time.sleep(float(pause) / 2)
    return {"accuracy": trial.parameters["a"]}

def search():
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        experiment = Experiment(
            "x", [Float("a", 0, 1)], [Maximize("accuracy", 0.5)],
            budget=int(budget), sampler="random", storage=url, seed=os.getpid(),
        )
        experiment.run(train, progress=False)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    return 0

if processes == "1":
    sys.exit(search())
children = []
for _ in range(int(processes)):
    child = os.fork()
    if child == 0:
        os._exit(search())
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
sys.exit(1 if any(ends) else 0)
"""


# As root without root's right to write anything.
NO_OVERRIDE = ("setpriv", "--bounding-set=-dac_override", "--")


def start(url, folder, *, pause=0.0, budget=20, processes=1, limit=0, prefix=()):
    return subprocess.Popen(
        [
            *prefix,
            *(sys.executable, "-c", SCRIPT, url, str(folder)),
            *(str(pause), str(budget), str(processes), str(limit)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_here(url, budget):
    """The same search without a process of its own."""
    experiment = Experiment(
        "x",
        [Float("a", 0, 1)],
        [Maximize("accuracy", 0.5)],
        budget=budget,
        sampler="random",
        storage=url,
    )
    experiment.run(lambda trial: {"accuracy": trial.parameters["a"]}, progress=False)


def finish(process, status=0):
    _, err = process.communicate(timeout=180)
    assert process.returncode == status, err
    return err


def calls(folder):
    return [int(path.name.split("-")[1]) for path in Path(folder).glob("call-*")]


@pytest.mark.slow
@pytest.mark.serial
def test_twenty_workers_start_at_once_on_an_empty_database(postgresql, tmp_path):
    finish(start(postgresql.url, tmp_path, budget=40, processes=20))
    records = Experiment.from_storage(postgresql.url).trials()
    assert [r.number for r in records] == list(range(40))
    assert {r.state for r in records} == {"complete"}
    assert sorted(calls(tmp_path)) == list(range(40))


@pytest.mark.slow
@pytest.mark.serial
def test_twenty_workers_start_at_once_on_a_new_file(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    finish(start(url, tmp_path, budget=25, processes=20))
    records = Experiment.from_storage(url).trials()
    assert {r.state for r in records} == {"complete"}
    assert sorted(calls(tmp_path)) == [r.number for r in records] == list(range(25))


@pytest.mark.slow
@pytest.mark.serial
def test_a_search_outlives_its_database(postgresql, tmp_path):
    process = start(postgresql.url, tmp_path, pause=0.2, budget=30)
    for killed in (5, 12, 20):
        wait_for(lambda killed=killed: len(calls(tmp_path)) >= killed, f"{killed} trials")
        postgresql.kill()
        time.sleep(2)
        postgresql.start()
    finish(process)
    records = Experiment.from_storage(postgresql.url).trials()
    # A trial whose making was not answered has its share of the budget, and is run in its turn.
    assert [r.state for r in records] == ["complete"] * 30
    assert all(len(r.reports) == 2 for r in records)
    assert len(calls(tmp_path)) == len(set(calls(tmp_path)))


@pytest.mark.slow
@pytest.mark.serial
def test_a_killed_driver_on_postgresql_is_gone_on_with(postgresql, tmp_path):
    process = start(postgresql.url, tmp_path, pause=1.0, budget=6)
    wait_for(lambda: len(calls(tmp_path)) >= 3, "three trials")
    process.kill()
    process.communicate()
    before = Experiment.from_storage(postgresql.url).trials()
    finish(start(postgresql.url, tmp_path, budget=6))
    after = Experiment.from_storage(postgresql.url).trials()
    assert len(after) == 6
    assert {r.state for r in after} == {"complete"}
    ended = [r for r in before if r.state == "complete"]
    assert after[: len(ended)] == ended
    assert [r.parameters for r in after[: len(before)]] == [r.parameters for r in before]


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    run_here(url, 3)
    before = Experiment.from_storage(url).trials()
    # No file may grow beyond a few pages more than the database has: as on a full disk.
    limit = (tmp_path / "x.db").stat().st_size + 3 * 4096
    err = finish(start(url, tmp_path, budget=300, limit=limit), status=2)
    assert err.count("\n") == 1
    assert "the experiment's storage failed" in err
    assert "then run again: it goes on where it was" in err
    during = Experiment.from_storage(url).trials()
    assert during[:3] == before
    assert len(during) < 300
    run_here(url, len(during) + 2)
    after = Experiment.from_storage(url).trials()
    assert {r.state for r in after} == {"complete"}
    assert len(after) == len(during) + 2
    assert all(a == b for a, b in zip(after, during, strict=False) if b.state == "complete")


@pytest.mark.skipif(
    os.getuid() == 0 and shutil.which("setpriv") is None, reason="root may write anything"
)
@pytest.mark.parametrize("what", ["file", "folder"])
def test_storage_that_may_not_be_written_is_read_and_refuses_trials_in_one_line(tmp_path, what):
    folder = tmp_path / "place"
    folder.mkdir()
    url = f"sqlite:///{folder}/x.db"
    run_here(url, 2)
    before = (folder / "x.db").read_bytes()
    (folder / "x.db").chmod(0o444 if what == "file" else 0o644)
    folder.chmod(0o755 if what == "file" else 0o555)
    try:
        prefix = NO_OVERRIDE if os.getuid() == 0 else ()
        err = finish(start(url, tmp_path, budget=5, prefix=prefix), status=2)
        main = "from gossamer.cli import main; main()"
        command = [*prefix, sys.executable, "-c", main, "frontier", str(folder / "x.db"), "--json"]
        read = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
        assert json.loads(read.stdout)["trials"] == {"complete": 2}
    finally:
        folder.chmod(0o755)
    assert err.count("\n") == 1
    assert "writable" in err
    assert (folder / "x.db").read_bytes() == before
    assert len(Experiment.from_storage(url).trials()) == 2


def test_without_psycopg_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"pip install 'gossamer\[postgresql\]'"):
        Experiment.from_storage("postgresql://nobody@127.0.0.1:1/base")


def test_a_server_that_is_not_there_is_one_line():
    pytest.importorskip("psycopg")
    with pytest.raises(UserError, match="cannot be opened") as error:
        Experiment.from_storage("postgresql://nobody:secret@127.0.0.1:1/base")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
