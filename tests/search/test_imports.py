"""The direction of imports between the folders of the search."""

import ast
from pathlib import Path

import gossamer.search

ROOT = Path(gossamer.search.__file__).parent
# Each may import those before it, and itself.
ORDER = (
    "validation",
    "metrics",
    "space",
    "trials",
    "distinct",
    "coverage",
    "improvement",
    "frontier",
    "ranking",
    "stopping",
    "samplers",
    "added",
    "importances",
    "execution",
    "definition",
    "schema",
    "opening",
    "transfer",
    "experiment",
    "importers",
    "for_optuna",
    "optuna_export",
    "snapshot",
    "networks",
    "testing",
    "__init__",
)


def place(module: str) -> str:
    """The folder, or the module above the folders."""
    return [*module.split("."), "__init__"][2]


def imported(path: Path) -> set[str]:
    found = set()
    tree = ast.parse(path.read_text())
    types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in types:  # names a type, and imports nothing
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "gossamer.search":
            for alias in node.names:
                inner = (ROOT / alias.name).exists() or (ROOT / f"{alias.name}.py").exists()
                found.add(f"gossamer.search.{alias.name}" if inner else "gossamer.search")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gossamer.search"):
            found.add(node.module)
    return found


def test_every_module_imports_only_what_comes_before_it():
    seen = set()
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        here = ORDER.index(parts[0])
        seen.add(parts[0])
        for module in imported(path):
            assert ORDER.index(place(module)) <= here, f"{path} imports {module}"
    assert seen == set(ORDER)
