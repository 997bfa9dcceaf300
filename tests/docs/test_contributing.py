"""The files and names of CONTRIBUTING.md exist, and its walks are short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.docs.workspace import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SOURCES = ROOT / "src" / "gossamer"
STEP = re.compile(r"^(\d+)\. `([^`]+)`: `([^`]+)`", re.MULTILINE)


def names_of(path: Path) -> set[str]:
    """What a module defines, and ``Class.method``; of other files, every word."""
    if path.suffix != ".py":
        return set(re.findall(r"\w+", path.read_text()))
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        targets += node.targets if isinstance(node, ast.Assign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef))
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


@pytest.mark.parametrize(("path", "name"), [step.groups()[1:] for step in STEP.finditer(TEXT)])
def test_a_step_of_a_walk_leads_somewhere(path: str, name: str) -> None:
    assert name in names_of(SOURCES / path)


def test_there_are_three_walks_of_at_most_ten_steps() -> None:
    numbers = [int(step[1]) for step in STEP.finditer(TEXT)]
    assert numbers.count(1) == 3
    assert max(numbers) <= 10
    assert len(numbers) == len(re.findall(r"^\d+\. ", TEXT, re.MULTILINE))


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`([\w./]+(?:\.\w+|/))`", TEXT))
    files = {name for name in named if "/" in name and "NAME" not in name}
    assert len(files) > 30
    for name in files:
        assert (SOURCES / name).exists() or (ROOT / name).exists(), name
