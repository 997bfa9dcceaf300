"""What the README and the examples promise is run as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(command: list[str], folder: Path) -> str:
    # The commands of this environment first, as after activating it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_and_prints(example: Path, tmp_path: Path) -> None:
    if example.name == "keyword_transformer.py":  # a network, which train is told of
        pictures = np.random.default_rng(0).integers(256, size=(150, 40, 98), dtype=np.uint8)
        np.savez(tmp_path / "data.npz", x_train=pictures, y_train=np.arange(150) % 3)
        network = ["data.npz", "--model", f"{example}:build", "--set", "epochs=1"]
        run(["gossamer", "train", *network, "--out", "run"], tmp_path)
        assert (tmp_path / "run" / "model.onnx").stat().st_size > 0
        return
    printed = run([sys.executable, str(example)], tmp_path)
    if example.name == "constraints.py":
        assert 1.9 < float(printed.split()[0]) <= 2.0218 + 1e-4
    elif example.name == "own_loop.py":
        assert "accuracy on unseen digits" in printed
    else:
        assert printed.splitlines()[-1].endswith("}")  # a trial's values
        assert "inside the thresholds:" in printed


@pytest.mark.slow
def test_every_command_of_the_readme(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    commands = re.findall(r"^    (gossamer .+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        run(command.split(), tmp_path)
    for made in ("model.onnx", "report.html", "runs/best/metrics.json"):
        assert (tmp_path / made).stat().st_size > 0


def test_the_snippet_of_the_readme_runs() -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    names: dict[str, object] = {}
    exec(snippet, names)
    assert names["engine"](np.zeros((3, 64), np.float32)).shape == (3, 10)  # type: ignore[operator]


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
