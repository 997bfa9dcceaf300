"""Trials on a Ray cluster of two nodes, of which any part may die."""

import os
import subprocess
import sys
import time

import pytest

from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Maximize, Minimize, Violated, on_ray

SCRIPT = """
import sys
from gossamer.search import Experiment, on_ray
from tests.search.test_ray import make, slow

make(sys.argv[2]).run(slow(sys.argv[3]), executor=on_ray(sys.argv[1]), progress=False)
"""


def make(storage=None, **changes):
    arguments = {
        "parameters": [Float("accuracy", 0, 1), Float("density", 0, 0.5)],
        "metrics": [Maximize("accuracy", 0.5), Minimize("density", 0.2)],
        "budget": 8,
        "sampler": "random",
        "storage": storage,
        **changes,
    }
    return Experiment("x", **arguments)


def slow(folder, pause=1.0):
    """Leaves a file for each call."""

    def train(trial):
        import os
        import pathlib
        import time

        (pathlib.Path(folder) / f"call-{trial.number}-{os.getpid()}").touch()
        time.sleep(pause)
        trial.report(1, trial.parameters, of=1)
        return trial.parameters

    return train


def calls(folder):
    return [path.name for path in folder.glob("call-*")]


@pytest.fixture
def cluster(monkeypatch):
    utilities = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    # Nodes that are killed leave sockets and files to be collected at any time.
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    made = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        import ray

        ray.shutdown()
        made.shutdown()


pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.slow
@pytest.mark.serial
def test_trials_run_on_both_nodes_report_and_are_stopped(cluster):
    experiment = make(budget=16, stopping=[Violated()])

    def train(trial):
        import time

        trial.report(1, trial.parameters, of=2)
        time.sleep(0.3)
        return trial.parameters

    executor = on_ray(cluster.address)
    experiment.run(train, executor=executor, progress=False)
    records = experiment.trials()
    assert len(records) == 16
    for record in records:
        stopped = record.parameters["density"] > 0.2
        assert record.state == ("stopped" if stopped else "complete")
        assert len(record.reports) == 1


@pytest.mark.slow
@pytest.mark.serial
def test_reports_wait_on_the_node_of_the_driver(cluster):
    """On another one, all trials would be lost with it; Ray by itself takes any."""
    import ray

    def node(_=None):
        return ray.get_runtime_context().get_node_id()

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    for _ in range(5):
        executor = on_ray(cluster.address)(slow("."), lambda *call: None)
        try:
            assert ray.get(executor._mailbox.__ray_call__.remote(node)) == node()
        finally:
            executor.close(kill=True)


@pytest.mark.slow
@pytest.mark.serial
def test_a_lost_worker_or_node_costs_no_trial(cluster, tmp_path):
    experiment = make(f"sqlite:///{tmp_path}/x.db", budget=10)

    def train(trial):
        import os
        import pathlib
        import signal
        import time

        earlier = list(pathlib.Path(tmp_path).glob(f"call-{trial.number}-*"))
        (pathlib.Path(tmp_path) / f"call-{trial.number}-{os.getpid()}").touch()
        if trial.number == 1 and not earlier:
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report(1, trial.parameters, of=2)
        time.sleep(1.0)
        trial.report(2, trial.parameters, of=2)
        return trial.parameters

    import threading

    def lose():
        while len(calls(tmp_path)) < 5:
            time.sleep(0.1)
        cluster.remove_node(cluster.second, allow_graceful=False)

    loss = threading.Thread(target=lose)
    loss.start()
    experiment.run(train, executor=on_ray(cluster.address), progress=False)
    loss.join()
    records = experiment.trials()
    assert [r.state for r in records] == ["complete"] * 10
    assert all(r.values == r.parameters for r in records)
    assert all([report.step for report in r.reports] == [1, 2] for r in records)
    assert sum(name.startswith("call-1-") for name in calls(tmp_path)) >= 2


@pytest.mark.slow
@pytest.mark.serial
def test_after_kill_9_of_the_driver_the_next_run_goes_on(cluster, tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    command = [sys.executable, "-c", SCRIPT, cluster.address, url, str(tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(1200):
        if len(calls(tmp_path)) >= 4:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    before = Experiment.from_storage(url).trials()
    assert any(r.state == "running" for r in before)
    make(url).run(slow(tmp_path, 0.1), executor=on_ray(cluster.address), progress=False)
    after = Experiment.from_storage(url).trials()
    assert [r.state for r in after] == ["complete"] * 8
    ended = {r.number: r for r in before if r.state == "complete"}
    assert all(after[number] == record for number, record in ended.items())
    assert [r.parameters for r in after[: len(before)]] == [r.parameters for r in before]


@pytest.mark.slow
@pytest.mark.serial
def test_needs_that_no_node_meets_are_an_error_at_once(cluster):
    with pytest.raises(UserError, match="no node of the Ray cluster has the 1 CPU, 2 GPU"):
        make().run(slow("."), executor=on_ray(cluster.address, gpus=2), progress=False)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'gossamer\[ray\]'"):
        make().run(slow("."), executor=on_ray(), progress=False)


def test_a_trial_needs_something():
    with pytest.raises(UserError, match="needs some CPUs or GPUs"):
        on_ray(cpus=0)
