"""The package as a whole: the direction of imports, and the public names."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gossamer

ROOT = Path(gossamer.__file__).parent

# Each room imports rooms before it alone.
ROOMS = (
    "errors",
    "numbers",
    "settings",
    "files",
    "extras",
    "own_code",
    "console",
    "progress",
    "kernels",
    "runtime",
    "energy",
    "data",
    "sparsity",
    "nn",
    "models",
    "deploy",
    "listen",
    "training",
    "search",
    "compression",
    "report",
    "dashboard",
    "demo",
    "cli",
    "__main__",
)


def type_checking(tree: ast.Module) -> list[ast.stmt]:
    return [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    ]


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported, inside functions too; not those for type checks alone."""
    skipped = {inner for statement in type_checking(tree) for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "gossamer":
                yield from (f"gossamer.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_room_imports_rooms_before_it_alone() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts == ("__init__",):
            continue
        assert parts[0] in ROOMS, f"{path}: a new room; give it its place in ROOMS"
        for name in imported(ast.parse(path.read_text())):
            if not name.startswith("gossamer.") or name == "gossamer.__version__":
                continue
            room = name.split(".")[1]
            if room != parts[0] and ROOMS.index(room) >= ROOMS.index(parts[0]):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_engine_needs_errors_and_files_alone_and_no_torch() -> None:
    allowed = ("runtime", "kernels", "errors", "files")
    for path in (ROOT / "runtime").rglob("*.py"):
        for name in imported(ast.parse(path.read_text())):
            top, _, rest = name.partition(".")
            assert top != "torch", path
            if top == "gossamer":
                assert rest.split(".")[0] in allowed, f"{path}: {name}"
    program = (
        "import sys, gossamer.runtime; "
        "print(sorted(m for m in sys.modules if m in ('torch', 'optuna', 'plotly')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_type_checkers_see_the_names_that_exist() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    seen = {
        alias.name: statement.module or ""
        for statement in type_checking(tree)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    rooms = {name for name, module in seen.items() if module == "gossamer"}
    names = {n: ".".join(m.split(".")[:2]) for n, m in seen.items() if n not in rooms}
    assert names == gossamer._HOMES
    assert sorted([*names, *rooms]) == sorted(gossamer.__all__)
    for name in gossamer.__all__:
        assert getattr(gossamer, name) is not None


@pytest.mark.parametrize("room", sorted({path.parent.name for path in ROOT.glob("*/__init__.py")}))
def test_a_room_shows_its_public_names_alone(room: str) -> None:
    module = importlib.import_module(f"gossamer.{room}")
    if room == "kernels":  # no names of its own: `runtime` and `sparsity` are its users
        return
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert not name.startswith("_")
        assert getattr(module, name) is not None


def test_the_top_shows_its_public_names_alone() -> None:
    assert dir(gossamer) == sorted(gossamer.__all__)
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"cli", "kernels"} == {
        *gossamer._ROOMS
    }


def test_the_top_has_few_names() -> None:
    names = [name for name in gossamer.__all__ if name not in gossamer._ROOMS]
    assert len(names) <= 26
    assert {"Sparsifier", "Block", "RigL", "Experiment", "Float", "Maximize", "Minimize"} < {*names}
    assert {"compile", "Engine"} < {*names}


def test_completion_sees_the_names_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    jedi = pytest.importorskip("jedi", reason="comes with the notebook of the examples")
    # jedi cannot follow the finder of an editable installation.
    finders = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    monkeypatch.setattr(sys, "meta_path", finders)
    here = jedi.InterpreterEnvironment()
    project = jedi.Project(ROOT, added_sys_path=[str(ROOT.parent)])

    script = jedi.Script("import gossamer as gs\ngs.", project=project, environment=here)
    assert {*gossamer.__all__} <= {completion.name for completion in script.complete(2, 3)}

    source = "import gossamer as gs\ngs.Sparsifier("
    (signature,) = jedi.Script(source, project=project, environment=here).get_signatures(2, 14)
    assert "density" in [parameter.name for parameter in signature.params]


@pytest.mark.slow
def test_mypy_knows_the_types_of_the_names(tmp_path: Path) -> None:
    source = tmp_path / "user.py"
    source.write_text(
        "import gossamer as gs\n"
        "x: int = gs.Float('x', 0, 1)\n"
        "y: gs.search.LinearConstraint = gs.search.LinearConstraint({'x': 1}, at_most=0)\n"
        "gs.Sparsifiers\n"
    )
    # Without torch's sources, which take a minute to check.
    options = ["--strict", "--no-site-packages", "--ignore-missing-imports", "--cache-dir=cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(source)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    errors = re.findall(r"^user\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert errors == [("2", "assignment"), ("4", "attr-defined")], done.stdout + done.stderr
