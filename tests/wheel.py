"""Tries a wheel as its user would: a fresh environment, no compiler, another folder.

    python tests/wheel.py dist/gossamer-*.whl

The base requirements, and nothing else, are borrowed from the environment that runs this, so that
nothing is downloaded: there the engine and its commands must run, and every other command must say
which extra brings what it needs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

CALL = """
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import gossamer
from gossamer.runtime import Engine

assert Path(gossamer.__file__).is_relative_to(sys.prefix), gossamer.__file__
weight = np.zeros((4, 8), np.float32)
weight[:, 3] = 2
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
    "one",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    [numpy_helper.from_array(weight, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
y = Engine(model.SerializeToString(), threads=1)(np.arange(8, dtype=np.float32)[None])
assert (y == 6).all() and y.shape == (1, 4), y
assert "torch" not in sys.modules
Path("one.onnx").write_bytes(model.SerializeToString())
np.save("x.npy", np.ones((2, 8), np.float32))
"""

# Commands that a base installation runs; the file and the input are written by CALL.
WORKS = (
    "gossamer --version",
    "gossamer -h",
    "python -m gossamer run one.onnx --input x.npy --output y.npy",
    "gossamer profile one.onnx",
    "gossamer export one.onnx --c -o one.c",
)
# Command -> what its one line must say.
REFUSED = {
    "gossamer train mnist --model mlp": "gossamer[train]",
    "gossamer export run -o model.onnx": "gossamer[train]",
    "gossamer report run": "gossamer[train]",
    "gossamer search experiment.toml": "gossamer[search]",
    "gossamer frontier experiment.toml": "gossamer[search]",
    "gossamer dashboard experiment.toml": "gossamer[search]",
    "gossamer listen one.onnx": "gossamer[listen]",
    "gossamer demo": "gossamer[all]",
    "python -c 'import gossamer; gossamer.Sparsifier'": "gossamer[train]",
}


def base(wheel: Path) -> set[str]:
    """The distributions that installing the wheel without extras brings."""
    text = zipfile.ZipFile(wheel)
    name = next(n for n in text.namelist() if n.endswith(".dist-info/METADATA"))
    lines = text.read(name).decode().splitlines()
    todo = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist" in line]
    names: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if "extra ==" in requirement or "platform" in requirement or name in names:
            continue
        names.add(name)
        todo += metadata.requires(name) or []
    return names


def lend(names: set[str], site: Path) -> None:
    """Links the files of installed distributions into another environment."""
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}:
            link = site / top
            if not link.exists():
                link.symlink_to(distribution.locate_file(top))


def main(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strays = [n for n in names if n.endswith((".cpp", ".h", ".cu")) or "tests/" in n]
    assert not strays, f"does not belong into a wheel: {strays}"
    assert any("_kernels" in n for n in names), "the compiled kernels are missing"
    assert "gossamer/py.typed" in names
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=False)
        python = home / "env/bin/python"
        site = next((home / "env/lib").glob("python3.*/site-packages"))
        brought = base(wheel)
        assert not brought & {"torch", "optuna", "scipy", "espeakng-loader"}, brought
        lend(brought, site)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
                *("--disable-pip-version-check", "--no-deps", "--no-index", "--force-reinstall"),
                str(wheel.resolve()),
            ],
            check=True,
        )
        bare = {
            "PATH": str(python.parent),
            "HOME": folder,
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        elsewhere = home / "elsewhere"
        elsewhere.mkdir()

        def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(python.parent / command[0]), *command[1:]],
                cwd=elsewhere, env=bare | more, check=False, capture_output=True, text=True,
            )  # fmt: skip

        made = run("python", "-c", CALL)
        assert made.returncode == 0, made.stderr
        for command in WORKS:
            done = run(*shlex.split(command))
            assert done.returncode == 0, f"{command}: {done.stderr}"
        for command, extra in REFUSED.items():
            done = run(*shlex.split(command))
            assert extra in done.stderr, f"{command}: {done.stderr}"
            lines = done.stderr.count("\n")
            assert not command.startswith("gossamer") or (done.returncode, lines) == (2, 1), command
        typed = {"_GOSSAMER_COMPLETE": "complete_bash", "COMP_WORDS": "gossamer pro"}
        completed = run("gossamer", **typed, COMP_CWORD="1").stdout
        assert completed.split() == ["profile"], completed
        version = run("gossamer", "--version").stdout.strip()
    size = wheel.stat().st_size
    print(
        f"{wheel.name}: {size:,} bytes, {len(names)} files, with {len(brought)} packages; {version}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
