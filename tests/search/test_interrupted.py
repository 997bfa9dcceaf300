"""A search that is killed or interrupted from outside, and goes on."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.search.waiting import wait_for

from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Minimize
from gossamer.search.trials import heartbeat, storage
from gossamer.search.trials.records import OWNER

SCRIPT = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from gossamer.search import Experiment, Float, Int, Maximize, Minimize

folder = pathlib.Path(sys.argv[1])
workers = int(sys.argv[2])
slow = sys.argv[3] == "slow"
name = sys.argv[4]

def train(trial):
    # One file a call: which trial, and who ran it.
    (folder / f"call-{trial.number}-{os.getpid()}").touch()
    if slow and trial.number >= 3:
        time.sleep(600)
    return {"accuracy": trial.parameters["a"], "density": trial.parameters["n"]}

experiment = Experiment(
    name,
    [Float("a", 0.0, 1.0), Int("n", 1, 1000)],
    [Maximize("accuracy", 0.5), Minimize("density", 500)],
    budget=9, storage=f"sqlite:///{folder}/x.db", sampler="random",
)
try:
    experiment.run(train, workers=workers, progress=False)
except KeyboardInterrupt as error:
    print(error)
    sys.exit(130)
"""


def start(folder, workers=1, speed="fast", name="x"):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(folder), str(workers), speed, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def calls(folder, number):
    return sorted(Path(folder).glob(f"call-{number}-*"))


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    return out


def stuck(folder, workers):
    """A driver whose `workers` trials hang, the first three having ended."""
    process = start(folder, workers, "slow")
    numbers = range(3, 3 + workers)
    wait_for(lambda: all(calls(folder, n) for n in numbers), f"trials {list(numbers)}")
    return process


def check_whole(folder, before, workers):
    """The next run, here, finishes what was running."""

    def train(trial):
        (folder / f"call-{trial.number}-here").touch()
        return {"accuracy": trial.parameters["a"], "density": trial.parameters["n"]}

    Experiment.from_storage(f"sqlite:///{folder}/x.db").run(train, progress=False)
    after = Experiment.from_storage(f"sqlite:///{folder}/x.db").trials()
    assert [r.number for r in after] == list(range(9))
    assert {r.state for r in after} == {"complete"}
    # Ended trials are as they were, and were not run again; stopped ones kept their parameters.
    assert after[:3] == before[:3]
    assert [r.parameters for r in after[: len(before)]] == [r.parameters for r in before]
    for number in range(9):
        stopped = 3 <= number < 3 + workers
        assert len(calls(folder, number)) == (2 if stopped else 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_after_kill_9_the_next_run_finishes_what_was_running(tmp_path, workers):
    process = stuck(tmp_path, workers)
    pids = {
        int(c.name.rsplit("-", 1)[1]) for n in range(3, 3 + workers) for c in calls(tmp_path, n)
    }
    assert (process.pid in pids) == (workers == 1)
    process.kill()
    process.communicate(timeout=60)
    before = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
    assert [r.state for r in before] == ["complete"] * 3 + ["running"] * workers
    check_whole(tmp_path, before, workers)

    def gone():
        return not any(heartbeat.is_running(heartbeat.process_name(p)) for p in pids)

    wait_for(gone, "the workers' end with their driver")


def test_what_was_killed_at_the_end_of_the_budget_is_run_again(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    script = f"""
import os
from gossamer.search import Experiment, Float, Maximize

experiment = Experiment(
    "x", [Float("a", 0.0, 1.0)], [Maximize("a")], budget=2, storage={url!r}, sampler="random"
)
experiment.tell(experiment.ask(), {{"a": 0.5}})
experiment.ask()
os._exit(9)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=False, timeout=120)
    before = Experiment.from_storage(url).trials()
    assert [r.state for r in before] == ["complete", "running"]
    Experiment.from_storage(url).run(lambda trial: trial.parameters, progress=False)
    after = Experiment.from_storage(url).trials()
    assert [r.state for r in after] == ["complete", "complete"]
    assert after[0] == before[0]
    assert after[1].parameters == before[1].parameters


@pytest.mark.parametrize("workers", [1, 2])
def test_after_ctrl_c_the_next_run_finishes_what_was_running(tmp_path, workers):
    process = stuck(tmp_path, workers)
    # As a terminal does: to the whole process group, so workers get it too.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == (
        f"stopped after 3 trials; {workers} put back, to be run again when the search goes on\n"
    )
    assert err == ""
    before = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
    assert [r.state for r in before] == ["complete"] * 3 + ["waiting"] * workers
    check_whole(tmp_path, before, workers)


def test_a_driver_that_lives_keeps_its_trials(tmp_path):
    process = stuck(tmp_path, 1)
    try:
        other = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db")
        assert other.ask().number == 4
        assert [r.state for r in other.trials()][3] == "running"
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_several_drivers_share_one_new_storage(tmp_path):
    drivers = [start(tmp_path) for _ in range(2)]
    for driver in drivers:
        finish(driver)
    records = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
    assert [r.number for r in records] == list(range(9))
    assert {r.state for r in records} == {"complete"}
    assert all(len(calls(tmp_path, n)) == 1 for n in range(9))


def test_a_driver_on_another_machine_is_gone_when_silent_for_long(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    made = Experiment("x", [Float("a", 0.0, 1.0)], [Minimize("a")], storage=url, sampler="random")
    made.run(lambda trial: trial.parameters, trials=1, progress=False)
    monkeypatch.setattr(heartbeat.socket, "gethostname", lambda: "elsewhere")
    there = Experiment.from_storage(url)
    trial = there.ask()
    now = time.time()
    there._store.beat()
    monkeypatch.undo()

    here = Experiment.from_storage(url)
    assert here._store.put_back_abandoned() == 0
    monkeypatch.setattr(heartbeat.time, "time", lambda: now + 599)
    assert here._store.put_back_abandoned() == 0
    monkeypatch.setattr(heartbeat.time, "time", lambda: now + 660)
    assert here._store.put_back_abandoned() == 1
    assert here.ask() == trial


def test_a_trial_that_another_driver_has_claimed_meanwhile_is_not_put_back(tmp_path):
    """The driver that looked first would have it run twice at once."""
    url = f"sqlite:///{tmp_path}/x.db"
    lost = Experiment("x", [Float("a", 0.0, 1.0)], [Minimize("a")], storage=url, sampler="random")
    number = lost.ask().number
    slow, quick = Experiment.from_storage(url), Experiment.from_storage(url)
    (seen,) = slow._store.frozen()
    owner = seen.user_attrs[OWNER]
    assert quick._store.put_back(number, owner)
    assert quick.ask().number == number
    assert not slow._store.put_back(number, owner)
    assert quick._store.mine() == {number}


def test_a_loss_that_two_drivers_see_at_once_is_one_loss(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    lost = Experiment("x", [Float("a", 0.0, 1.0)], [Minimize("a")], storage=url, sampler="random")
    lost.ask()
    gone = {lost._store._owner}
    monkeypatch.setattr(storage, "_LIVES", 3)
    monkeypatch.setattr(storage, "is_gone", lambda owner, heard: owner in gone)
    slow, quick = Experiment.from_storage(url), Experiment.from_storage(url)
    for losses in range(1, 4):
        seen = slow._store.frozen()
        back = quick._store.put_back_abandoned()
        with monkeypatch.context() as context:
            context.setattr(slow._store, "frozen", lambda seen=seen: seen)
            assert slow._store.put_back_abandoned() == 0
        (record,) = quick.trials()
        assert (record.state, back) == (("waiting", 1) if losses < 3 else ("failed", 0))
        if losses < 3:
            lost = Experiment.from_storage(url)
            assert lost.ask().number == 0
            gone.add(lost._store._owner)
    assert record.reason == "the process that ran it was lost, 3 times"


def test_a_claimed_trial_has_its_new_owner_at_once(tmp_path, monkeypatch):
    """Between two writes others would see it run by the process that it was lost by."""
    url = f"sqlite:///{tmp_path}/x.db"
    lost = Experiment("x", [Float("a", 0.0, 1.0)], [Minimize("a")], storage=url, sampler="random")
    number = lost.ask().number
    here, there = Experiment.from_storage(url), Experiment.from_storage(url)
    lost._store.put_back(number)
    write = type(here._store._storage).set_trial_user_attr
    owners = []

    def note_owner(storage, *attribute):
        owners.append(there._store.frozen()[number].user_attrs[OWNER])
        write(storage, *attribute)

    monkeypatch.setattr(type(here._store._storage), "set_trial_user_attr", note_owner)
    assert here.ask().number == number
    assert owners[0] == here._store._owner


AGAIN = """
import os, pathlib, sys, time
from gossamer.search import Experiment, Float, Minimize

folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])

def train(trial):
    time.sleep(seconds)  # killed in here, mostly
    descriptor = os.open(folder / "ended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{trial.number}\\n".encode())
    return trial.parameters

Experiment(
    "x", [Float("a", 0.0, 1.0)], [Minimize("a")], budget=int(sys.argv[3]),
    storage=f"sqlite:///{folder}/x.db", sampler="random",
).run(train, progress=False)
"""


def again(folder, seconds, budget):
    return subprocess.Popen([sys.executable, "-c", AGAIN, str(folder), str(seconds), str(budget)])


def check_none_lost(folder, budget):
    """Every trial ended once and was remembered, with the values that it returned."""
    url = f"sqlite:///{folder}/x.db"
    records = Experiment.from_storage(url).trials()
    assert [(r.number, r.state) for r in records] == [(n, "complete") for n in range(budget)]
    assert all(r.values == r.parameters for r in records)
    # A trial may have been killed after its end but before that was stored: then it ran twice.
    ended = (Path(folder) / "ended").read_text().split()
    assert {int(number) for number in ended} == set(range(budget))
    with closing(sqlite3.connect(f"{folder}/x.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_a_driver_killed_again_and_again_loses_no_trial(tmp_path):
    before = {}
    for turn in range(6):
        driver = again(tmp_path, 0.05, 30)
        wait_for(lambda: (tmp_path / "ended").exists(), "a first trial")
        time.sleep(1.5 + 0.31 * turn)
        driver.kill()
        driver.wait(60)
        records = Experiment.from_storage(f"sqlite:///{tmp_path}/x.db").trials()
        now = {r.number: r for r in records if r.state == "complete"}
        assert before.items() <= now.items()
        before = now
    assert again(tmp_path, 0.0, 30).wait(120) == 0
    check_none_lost(tmp_path, 30)


@pytest.mark.slow
def test_four_drivers_killed_within_trials_lose_none(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    drivers = [again(tmp_path, 600, 12) for _ in range(4)]

    def all_run():
        path = tmp_path / "x.db"
        found = Experiment.from_storage(url).trials() if path.exists() else []
        return sum(r.state == "running" for r in found) == 4

    def running():
        try:
            return all_run()
        except UserError:  # the database is being made
            return False

    wait_for(running, "four trials")
    for driver in drivers:
        driver.kill()
        driver.wait(60)
    asked = [r.parameters for r in Experiment.from_storage(url).trials()]
    drivers = [again(tmp_path, 0.01, 12) for _ in range(4)]
    assert [driver.wait(180) for driver in drivers] == [0] * 4
    check_none_lost(tmp_path, 12)
    after = Experiment.from_storage(url).trials()
    assert [r.parameters for r in after[:4]] == asked
    assert [r.attempts for r in after] == [2] * 4 + [1] * 8
