"""The progress bar: where it is written, and what it says."""

import time

import pytest

from gossamer import progress
from gossamer.progress import progress_bar


def work(bar):
    with bar:
        row = bar.add_task("work", total=3, below="all is well, " * 5)
        for _ in range(3):
            bar.advance(row)


def test_the_last_state_is_on_standard_error_with_its_notes_below(capsys, monkeypatch):
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


def test_a_pipe_gets_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    for arguments in ({}, {"transient": True}):
        with progress_bar(**arguments) as bar:
            bar.add_task("work", total=12_000, completed=3_000, below="2 inside")
            time.sleep(0.2)
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert "work 3,000/12,000, 0:00; 2 inside" in lines
        time.sleep(0.05)
        assert capsys.readouterr().err == ""  # it ends with the bar


def test_a_deadline_ends_the_time_left(capsys, monkeypatch):
    """Of a search without an end but its minutes, and of one that its budget would outlast."""
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    with progress_bar() as bar:
        bar.add_task("search", total=None, completed=3, deadline=time.monotonic() + 3_600)
        time.sleep(0.1)
    err = capsys.readouterr().err
    assert "search 3, 0:00, 1:00:00 left" in err
    assert "1:00:00" in err.splitlines()[-1]
    with progress_bar(show=False) as bar:
        row = bar.add_task("search", total=1_000, deadline=time.monotonic() - 1)
        assert progress._seconds_left(bar.tasks[row]) == 0.0


@pytest.mark.parametrize("columns", [12, 24, 32, 50, 80, 200])
def test_no_number_is_split_at_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress_bar() as bar:
        bar.add_task("work", total=1234, completed=1234)
    _, err = capsys.readouterr()
    assert ("1234/1234" in err) == (columns > 12)
    assert max(map(len, err.splitlines())) <= columns
    assert ("0:00:00" in err) == (columns > 12)


@pytest.mark.parametrize("widgets", [True, False])
def test_notebooks_without_widgets_are_no_terminals(monkeypatch, capsys, widgets):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda name: widgets or None)
    bar = progress_bar()
    assert bar.console.is_jupyter is widgets
    row = bar.add_task("search", total=40, completed=12, below="3 inside")
    assert [line.plain for line in bar.get_renderables()] == ["search 12/40, 0:00; 3 inside"]
    bar.remove_task(row)
    if not widgets:
        work(bar)  # a warning would be an error
        assert capsys.readouterr().err == f"work 3/3, 0:00; {'all is well, ' * 5}\n"
