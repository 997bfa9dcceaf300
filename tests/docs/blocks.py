"""The code blocks of a page, in order, and how each is run.

Before a block, ``<!-- slow -->`` leaves it to the slow tests, ``<!-- not run: why -->`` leaves it
out. Pages under ``results`` are left out: their commands are measurements of hours.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.workspace import ROOT

PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "results" not in p.parts)

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>slow|not run: .+?) -->\n+)?```(?P<info>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """``language`` of a fence, its ``code``, and the ``line`` where that begins."""

    page: Path
    line: int
    language: str
    title: str
    code: str
    mark: str

    @property
    def slow(self) -> bool:
        return self.mark == "slow"

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run")

    def run(self, folder: Path, names: dict[str, Any]) -> None:
        """In ``folder``; Python shares ``names`` with the page's other blocks."""
        RUNNERS[self.language](self, folder, names)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    for match in _BLOCK.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        line = text.count("\n", 0, match.start("code")) + 1
        blocks.append(
            Block(
                page, line, language, title[1] if title else "", match["code"], match["mark"] or ""
            )
        )
    return blocks


def commands_of(code: str) -> list[str]:
    """What stands behind ``$``, with continued lines joined; the rest is output."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line[2:].strip() for line in lines if line.startswith("$ ")]


def _python(block: Block, folder: Path, names: dict[str, Any]) -> None:
    if block.title:
        (folder / block.title).write_text(block.code)
    # Blank lines in front, so that a traceback has the page's own line.
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
    exec(code, names)


def _console(block: Block, folder: Path, names: dict[str, Any]) -> None:
    commands = commands_of(block.code)
    assert commands, f"{block.page}:{block.line}: a console block without a command"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, (
            f"{block.page}:{block.line}: {command}\n{done.stdout}\n{done.stderr}"
        )


def _toml(block: Block, folder: Path, names: dict[str, Any]) -> None:
    read = tomllib.loads(block.code)
    if "metrics" in read and "name" in read:  # a whole experiment, not a part of one
        from gossamer.search import Experiment

        file = folder / "block.toml"
        file.write_text(block.code)
        Experiment.from_toml(file, storage=f"sqlite:///{folder / 'block.db'}")


def _json(block: Block, folder: Path, names: dict[str, Any]) -> None:
    json.loads(block.code)


RUNNERS = {"python": _python, "console": _console, "toml": _toml, "json": _json}
