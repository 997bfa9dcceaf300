"""The job scripts of docs/howto/cluster.md, run as written with `srun` and `gossamer` in place."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer.search import Experiment

PAGE = Path(__file__).parents[2] / "docs/howto/cluster.md"
POSTGRESQL, FILES = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
EXPERIMENT = """
name = "slurm"
budget = 4
sampler = "random"
command = 'srun --exclusive --ntasks=1 --nodes=1 {python} train.py {{rate}}'
metrics = {{m = {{goal = "maximize"}}}}
parameters.rate = {{type = "float", low = 0.1, high = 1.0}}
"""


@pytest.fixture
def job(tmp_path):
    """Runs a script as SLURM would; `srun` drops its own options and runs the rest."""
    tools = tmp_path / "bin"
    tools.mkdir()
    srun = (
        '#!/bin/bash\necho "$@" >> srun.log\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n'
    )
    commands = {
        "srun": srun,
        "gossamer": f'#!/bin/bash\nexec {sys.executable} -m gossamer "$@"\n',
    }
    for name, text in commands.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "e.toml").write_text(EXPERIMENT.format(python=sys.executable))
    program = "import json, os, sys, time\ntime.sleep(float(os.environ.get('PAUSE', 0)))\n"
    (tmp_path / "train.py").write_text(program + "print(json.dumps({'m': float(sys.argv[1])}))\n")

    def start(script, **variables):
        (tmp_path / "job.sh").write_text(script)
        path = f"{tools}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "EXPERIMENT": "e.toml", **variables}
        with (tmp_path / "errors").open("w") as errors:
            return subprocess.Popen(
                ["bash", "job.sh"], cwd=tmp_path, env=environment, stderr=errors
            )

    return start


@pytest.mark.slow
def test_a_job_array_shares_a_database(job, tmp_path):
    storage = f"sqlite:///{tmp_path}/shared.db"  # in place of PostgreSQL's address
    done = job(POSTGRESQL, STORAGE=storage, SLURM_CPUS_PER_TASK="1")
    assert done.wait(120) == 0, (tmp_path / "errors").read_text()
    states = [trial.state for trial in Experiment.from_storage(storage).trials()]
    assert states == ["complete"] * 4
    assert (tmp_path / "srun.log").read_text().startswith("gossamer search e.toml --storage")


@pytest.mark.slow
def test_files_come_back_from_the_node_also_from_a_job_that_is_stopped(job, tmp_path):
    (tmp_path / "local").mkdir()
    variables = {
        "SLURM_TMPDIR": str(tmp_path / "local"),
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "1",
    }
    stopped = job(FILES, PAUSE="5", **variables)
    log = tmp_path / "srun.log"
    deadline = time.monotonic() + 90
    while not (log.exists() and "train.py" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(60) == 130, (tmp_path / "errors").read_text()
    url = f"sqlite:///{tmp_path}/search.db"
    assert "waiting" in [trial.state for trial in Experiment.from_storage(url).trials()]
    goes_on = job(FILES, **variables)
    assert goes_on.wait(120) == 0, (tmp_path / "errors").read_text()
    assert [trial.state for trial in Experiment.from_storage(url).trials()] == ["complete"] * 4
    assert "--ntasks=1 --nodes=1" in log.read_text()
