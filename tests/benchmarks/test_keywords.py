"""The pages of the keyword experiment say what its file holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import keywords_page

    yield keywords_page
    for name in ("keywords_page", "scatter", "published", "results"):
        sys.modules.pop(name, None)


@pytest.fixture
def result():
    return json.loads((RESULTS / "keywords.json").read_text())


def test_the_tables_are_those_of_the_file(page, result):
    assert (RESULTS / "keywords_runs.md").read_text() == page.tables(result)


def test_the_goals_are_those_of_the_file_and_the_search(page, result):
    text = (RESULTS / "keywords.md").read_text()
    for goal in page.goals(result, page.searched()):
        assert goal.line() in text


def test_a_goal_says_by_how_much_it_was_missed(page):
    words = ("weights", 100, 50)
    verdicts = [page.Goal(*words, value, "x").line().split("|")[5] for value in (120, 90, 50)]
    assert verdicts == [" missed by 20 ", " reached ", " aim reached "]
    share = page.Goal("accuracy", 97, 98, 96.5, "x", more=True, shown="{:.1f}")
    assert "missed by 0.5" in share.line()
    assert "| measured | 1 | 5 | measured |" in page.Goal("lost", None, 1, 5, "x").line()


def test_the_frontier_has_what_no_other_network_betters(page):
    import scatter

    points = [
        scatter.Point(cost, accuracy, "sparse")
        for cost, accuracy in ((3, 95.0), (1, 90.0), (2, 89.0), (3, 96.0), (4, 96.0), (9, 97.0))
    ]
    best = [(point.cost, point.accuracy) for point in scatter.frontier(points)]
    assert best == [(1, 90.0), (3, 96.0), (9, 97.0)]


def test_the_part_written_by_hand_stays(page, tmp_path):
    file = tmp_path / "keywords.md"
    assert page.by_hand(file) == f"{page.BY_HAND}\n"
    file.write_text(f"# Title\n\nold\n\n{page.BY_HAND}\n\nA sentence.\n")
    assert page.by_hand(file) == f"{page.BY_HAND}\n\nA sentence.\n"
