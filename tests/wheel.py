"""Tries a wheel as its user would: a fresh environment, no compiler, another folder.

    python tests/wheel.py dist/gossamer-*.whl

The requirements are borrowed from the environment that runs this, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
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
"""


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
        # As plain paths, after the environment's own: editable installations do not come along.
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
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
        told = subprocess.run(
            ["gossamer", "--version"],
            cwd=elsewhere, env=bare, check=True, capture_output=True, text=True,
            executable=str(python.parent / "gossamer"),
        ).stdout  # fmt: skip
        subprocess.run([str(python), "-c", CALL], cwd=elsewhere, env=bare, check=True)
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size:,} bytes, {len(names)} files; {told.strip()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
