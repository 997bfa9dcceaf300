"""Every code block of the documentation is run as it is written, page by page."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from tests.docs import workspace
from tests.docs.blocks import PAGES, RUNNERS, blocks_of, commands_of

RUN = [page for page in PAGES if any(block.runs for block in blocks_of(page))]

# Each takes 4 to 15 s of a core: only the slow test below runs them, as it runs every page.
DEAR = ("explanation/activations", "howto/deploy", "howto/listen", "howto/search")


def name_of(page: Path) -> str:
    return page.relative_to(workspace.ROOT / "docs").with_suffix("").as_posix()


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    monkeypatch.chdir(folder)
    blocks = [b for b in blocks_of(page) if b.runs and (slow or not b.slow)]
    python = any(block.language == "python" for block in blocks)
    # A module of the page's own: dataclasses and worker processes look their names up in it.
    module = type(sys)("page")
    monkeypatch.setitem(sys.modules, "page", module)
    if python:
        module.__dict__.update(workspace.names(folder))
    for block in blocks:
        block.run(folder, module.__dict__)


@pytest.mark.parametrize("page", [p for p in RUN if name_of(p) not in DEAR], ids=name_of)
def test_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.files(tmp_path)
    run_page(page, tmp_path, monkeypatch, slow=False)


def in_order(folder: Path) -> list[Path]:
    """The pages below a folder in the order of its navigation; what is not named comes last."""
    navigation = folder / ".nav.yml"
    names = (
        re.findall(r"([\w.]+)$", navigation.read_text(), re.MULTILINE)
        if navigation.exists()
        else []
    )
    rest = sorted(path.name for path in folder.glob("*.md"))
    pages: list[Path] = []
    for name in [*names, *rest]:
        path = folder / name
        if path.is_dir():
            pages += in_order(path)
        elif path.suffix == ".md" and path.exists() and path not in pages:
            pages.append(path)
    return pages


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_reader_runs_every_page_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder for all pages, in the order of the navigation, with a clone's experiments."""
    shutil.copytree(workspace.ROOT / "experiments", tmp_path / "experiments")
    workspace.recording(tmp_path)
    pages = [page for page in in_order(workspace.ROOT / "docs") if page in RUN]
    assert set(pages) == set(RUN)
    assert {name_of(page) for page in pages} >= set(DEAR)
    for page in pages:
        run_page(page, tmp_path, monkeypatch, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_goes_by_unread(page: Path) -> None:
    text = page.read_text()
    blocks = blocks_of(page)
    assert len(blocks) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE))
    for block in blocks:
        assert not block.runs or block.language in RUNNERS, (
            f"{page}:{block.line}: no way to run {block.language!r}"
        )
    # Commands outside a fence would not be run.
    assert not re.findall(r"^ {4}(?:\$ )?(?:gossamer|python|pip|make|gcc) .*", text, re.MULTILINE)


def test_commands_are_separated_from_output() -> None:
    code = "$ gossamer train a \\\n    --out b\nsaved in b\n$ gossamer run\n"
    assert [command.split() for command in commands_of(code)] == [
        ["gossamer", "train", "a", "--out", "b"],
        ["gossamer", "run"],
    ]
