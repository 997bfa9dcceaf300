"""The progress bar: where it is written, and what it says."""

import pytest

from gossamer import progress
from gossamer.progress import progress_bar


def work(bar):
    with bar:
        row = bar.add_task("work", total=3, below="all is well, " * 5)
        for _ in range(3):
            bar.advance(row)


def test_the_last_state_is_on_standard_error_and_what_is_said_of_it_below(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    work(progress_bar())
    out, err = capsys.readouterr()
    assert out == ""
    bar, below = err.splitlines()
    for part in ("work", "3/3", "left"):
        assert part in bar
    assert below == "  " + "all is well, " * 5


@pytest.mark.parametrize("arguments", [{"show": False}, {"transient": True}])
def test_what_is_not_shown_or_not_to_stay_writes_nothing(arguments, capsys):
    work(progress_bar(**arguments))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("widgets", [True, False])
def test_notebooks_without_widgets_are_no_terminals(monkeypatch, capsys, widgets):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda name: widgets or None)
    bar = progress_bar()
    assert bar.console.is_jupyter is widgets
    if not widgets:
        work(bar)  # a warning would be an error
        assert capsys.readouterr().err.count("\n") == 2
