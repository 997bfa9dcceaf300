"""The package as a whole: the direction of imports, and the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gossamer

ROOT = Path(gossamer.__file__).parent

# Each room imports rooms before it alone.
ROOMS = (
    "errors",
    "files",
    "extras",
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
    assert names == gossamer._PUBLIC
    assert sorted([*names, *rooms]) == sorted(gossamer.__all__)
    for name in gossamer.__all__:
        assert getattr(gossamer, name) is not None
