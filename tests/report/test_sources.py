"""Reading runs: good ones, missing ones and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_fakes import run

from gossamer.errors import UserError
from gossamer.report import load_run
from gossamer.report.sources import named_runs


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "metrics.json").write_text(text)
    return folder


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_run(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_load_run_gives_back_what_was_written(tmp_path: Path) -> None:
    assert load_run(write(tmp_path / "run", run())) == run()


def test_run_without_noise_and_timing_is_whole(tmp_path: Path) -> None:
    quick = {key: value for key, value in run().items() if key not in ("noise", "seconds")}
    assert load_run(str(write(tmp_path / "run", quick))) == quick


def test_missing_directory_and_missing_file(tmp_path: Path) -> None:
    message = refused(tmp_path / "nowhere")
    assert "nowhere" in message
    assert "gossamer train" in message
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path / "empty")
    assert "metrics.json" in message
    assert "gossamer train" in message
    (tmp_path / "file").write_text("{}")
    assert "sqlite:///" in refused(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"task": "mni', "line 1"),
        ("", "line 1"),
        ("[1, 2]", "not a table"),
        ({}, "'task'"),
        (run(accuracy="high"), "'accuracy'"),
        (run(accuracy=True), "'accuracy'"),
        (run(weights=None), "'weights.total'"),
        (run(weights={"total": 1, "nonzero": "1", "density": 1}), "'weights.nonzero'"),
        (run(macs={"dense": 1, "weights": 1}), "'macs.both'"),
        (run(layers=[{"weights": 3}]), "'layers'"),
        (run(noise={"levels": [0.0], "correct": "x", "score": 1, "of": 2}), "'noise.correct'"),
    ],
)
def test_damaged_file_names_file_field_and_remedy(tmp_path: Path, content: Any, said: str) -> None:
    message = refused(write(tmp_path / "run", content))
    assert str(tmp_path / "run" / "metrics.json") in message
    assert "damaged" in message
    assert said in message
    assert "gossamer train" in message


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    """As gossamer compress makes one."""
    dense = write(tmp_path / "dense", run())
    assert refused(tmp_path).endswith(f"holds no metrics.json; name a run in it: {dense}")


def test_binary_file_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "run", "")
    (tmp_path / "run" / "metrics.json").write_bytes(b"\xff\xfe\x00")
    assert "damaged" in refused(tmp_path / "run")


def test_runs_are_named_by_their_folders_and_longer_where_they_collide(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, run()) for name in ("dense", "a/sparse", "b/sparse")]
    assert list(named_runs(paths)) == ["dense", "sparse", "b/sparse"]


def test_a_run_named_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "dense", run())
    with pytest.raises(UserError, match="twice"):
        named_runs([path, path])
