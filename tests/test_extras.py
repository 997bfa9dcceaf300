"""Missing packages are named with the extra that brings them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gossamer.errors import UserError
from gossamer.extras import extra_of, needed


def test_a_package_of_an_extra_is_named_with_it() -> None:
    assert extra_of("torch") == "train"
    assert extra_of("mlflow") == "mlflow"
    assert extra_of("psycopg") == "postgresql"
    assert extra_of("espeakng_loader") == extra_of("espeakng-loader") == "speech"
    assert extra_of("scipy") != extra_of("scipy", "listen") == "listen"
    assert extra_of("scipy", "all") == "all"
    assert extra_of("numpy") is extra_of("no_such_package") is None


def test_needed_raises_one_line_for_a_known_package_only() -> None:
    message = "this needs the package tomli_w: pip install 'gossamer[train]'"
    with pytest.raises(UserError, match=re.escape(message)) as caught, needed("this"):
        raise ModuleNotFoundError("No module named 'tomli_w'", name="tomli_w.inner")
    assert isinstance(caught.value, ImportError)
    with pytest.raises(ModuleNotFoundError, match="mine"), needed("this"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_a_missing_module_of_gossamer_itself_is_no_missing_extra() -> None:
    message = "^gossamer.kernels.extension is missing; install gossamer again$"
    with pytest.raises(UserError, match=message), needed("this"):
        raise ModuleNotFoundError("No module", name="gossamer.kernels.extension")
    with pytest.raises(ImportError, match="cannot import") as caught, needed("this"):
        raise ImportError("cannot import name 'x'", name="gossamer.errors")
    assert not isinstance(caught.value, UserError)


def test_the_base_installation_is_the_engine_and_the_command_line() -> None:
    lines = [line for line in metadata.requires("gossamer") or [] if "extra ==" not in line]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in lines}
    assert names == {"numpy", "onnx", "rich", "typer"}


# What the extra `search` brings and `train` does not; then the command line.
WITHOUT_SEARCH = """
import sys
sys.modules.update(dict.fromkeys(("loky", "optuna", "sqlalchemy")))
from gossamer.cli import main
for arguments in (["no_such_task", "--model", "mlp"], ["--from", "experiment.toml"]):
    sys.argv = ["gossamer", "train", *arguments]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


def test_training_needs_the_packages_of_the_search_only_for_a_trial(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_SEARCH]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "2"]
    task, trial = done.stderr.splitlines()
    assert "no_such_task" in task
    assert "pip install 'gossamer[search]'" in trial
