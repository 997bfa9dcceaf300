"""The built site: without warnings, complete, and without requests to anywhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.workspace import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the 'docs' extra")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).exists()


def test_every_page_is_in_the_navigation(site: Path) -> None:
    shown = (site / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        address = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert f'href="{address}"' in shown or address == "index.html", address


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"?https?://[^>]+>")
    for page in site.rglob("*.html"):
        assert not loads.findall(page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?https?:", sheet.read_text()), sheet


def test_the_reference_lists_the_public_names_alone(site: Path) -> None:
    import gossamer as gs

    for room in gs._ROOMS:
        html = (site / f"reference/{room}.html").read_text()
        documented = set(re.findall(rf'id="gossamer\.{room}\.(\w+)"', html))
        # A function that has its module's name stands on the page under both.
        documented |= set(re.findall(rf'id="gossamer\.{room}\.(\w+)\.\1"', html))
        module = getattr(gs, room)
        # Constants have no docstrings.
        public = {name for name in module.__all__ if callable(getattr(module, name))}
        assert public <= documented <= {*module.__all__}, documented ^ public


def test_commands_are_in_the_reference(site: Path) -> None:
    html = (site / "reference/commands.html").read_text()
    commands = "train search frontier trials-export export run profile bench report"
    for command in commands.split():
        assert f'id="gossamer-{command}"' in html
    assert "--workers" in html


def test_roles_of_docstrings_do_not_show(site: Path) -> None:
    for page in (site / "reference").glob("*.html"):
        assert not re.findall(r":(?:class|func|meth|attr):<", page.read_text()), page
