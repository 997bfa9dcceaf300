"""What is printed under every encoding and width: no traceback, no number split in the middle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys

import pytest
from tests.report.report_fakes import run as metrics

import gossamer as gs
from gossamer.cli.main import main
from gossamer.search import Experiment

SIGNS = "größe–≥×µ"

TOML = f"""
name = "{SIGNS}"
budget = 3
storage = "sqlite:///{SIGNS}.db"
command = "true {{learning_rate}}"

[metrics.accuracy]
goal = "maximize"
threshold = 0.965

[metrics.energy_of_one_inference_nj]
goal = "minimize"
threshold = 12345678.9

[parameters.learning_rate]
type = "float"
low = 0.001
high = 0.3
log = true
"""

# Figures that the outputs hold, whole: from the fakes and the experiment.
COMMANDS = {
    "frontier": (["frontier", f"{SIGNS}.toml"], 0, ["0.981", "12,340,000"]),
    "search": (["search", f"{SIGNS}.toml"], 0, ["0.981", "12,340,000"]),
    "trials": (["trials", f"{SIGNS}.toml"], 0, ["0.981", "12,345,678", "0.9713"]),
    "frontier --json": (["frontier", f"{SIGNS}.toml", "--json"], 0, ["12340000.0"]),
    "compare": (["report", "--compare", "dense", f"sparse {SIGNS}"], 0, ["1,716,000", "96.90"]),
    "compare three": (["report", "--compare", "dense", "sparse", "third"], 0, ["1,716,000"]),
    "report": (["report", "dense", "-o", f"{SIGNS}.html"], 0, []),
    "help": (["train", "--help"], 0, []),
    "no run": (["report", f"none {SIGNS}"], 2, []),
    "no option": (["train", f"--{SIGNS}"], 2, []),
}

ENCODINGS = ("utf-8", "cp1252", "ascii", "latin-1", "cp437", "utf-16")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = tmp_path_factory.mktemp("output")
    with contextlib.chdir(made):
        for name in ("dense", "sparse", f"sparse {SIGNS}", "third"):
            os.makedirs(name)
            run = metrics(sparse=name != "dense")
            (made / name / "metrics.json").write_text("\ufeff" + json.dumps(run), "utf-8")
        (made / f"{SIGNS}.toml").write_text("\ufeff" + TOML, "utf-8")  # as Windows saves it
        experiment = Experiment.from_toml(f"{SIGNS}.toml")
        for accuracy, energy in ((0.9713, 12345678.0), (0.981, 12340000.0), (0.5, 1.0)):
            trial = experiment.ask()
            experiment.tell(trial, {"accuracy": accuracy, "energy_of_one_inference_nj": energy})
    return made


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(monkeypatch, arguments, encoding):
    """Exit status, output and errors of a process whose streams have this encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
    monkeypatch.setattr(sys, "argv", ["gossamer", *arguments])
    status = 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    return status, *texts


def numbers(text):
    return sorted(re.findall(r"\d[\d,.]*(?:e[+-]\d+)?%?", text))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding_and_width(folder, monkeypatch, name):
    arguments, expected, figures = COMMANDS[name]
    monkeypatch.setenv("COLUMNS", "500")
    _, out, err = printed(monkeypatch, arguments, "utf-8")
    whole = numbers(out + err)
    widths = (20, 40, 60, 80, 120, 200)
    for encoding, columns in [(e, 32) for e in ENCODINGS] + [("utf-8", w) for w in widths]:
        monkeypatch.setenv("COLUMNS", str(columns))
        status, out, err = printed(monkeypatch, arguments, encoding)
        assert status == expected, err
        assert "Traceback" not in err
        for figure in figures:
            assert figure in out
        if name not in ("help", "search"):  # a progress bar shows the time
            assert set(numbers(out + err)) <= set(whole)
        if expected:
            assert (out, err.count("\n")) == ("", 1)
        elif name in ("frontier", "search", "trials", "compare") and columns >= 80:
            assert max(map(len, out.splitlines())) <= columns


def test_colors_go_to_terminals_only_and_never_with_no_color(folder, monkeypatch):
    for name in ("frontier", "no run"):
        for variables in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
            for key, value in variables.items():
                monkeypatch.setenv(key, value)
            _, out, err = printed(monkeypatch, COMMANDS[name][0], "utf-8")
            assert "\x1b" not in out + err


def test_signs_become_the_nearest_ones(monkeypatch, capsys):
    from gossamer.console import accept_every_encoding

    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    accept_every_encoding()
    print("größe 3×4 ≥ 1 µs ± – “a” 字 \udc80")
    stream.flush()
    assert stream.buffer.getvalue() == b'groe 3x4 >= 1 us +- - "a" ? ?\n'.replace(
        b"groe", "große".encode("ascii", "gossamer")
    )
    assert gs.__version__


def test_a_line_of_a_list_keeps_its_indent_where_a_name_is_too_long():
    from rich.text import Text

    from gossamer.console import Console, show

    shown = io.StringIO()
    show(Text(f"7\n  {'n' * 30}: 0.5\n  a: {'w ' * 12}"), Console(file=shown, width=20))
    assert shown.getvalue() == f"7\n  {'n' * 30}:\n  0.5\n  a: {'w ' * 7}w\n  w w w w\n"
