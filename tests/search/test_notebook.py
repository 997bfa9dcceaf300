"""The notebook of the examples, run as a reader runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples/search.ipynb"


def printed(cell: Any) -> str:
    return "".join(part.text for part in cell.outputs if part.get("name") == "stdout")


@pytest.mark.slow
def test_the_search_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat")
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, os.fspath(tmp_path / variable.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": os.fspath(tmp_path)}},
    )
    client.execute()  # raises what a cell raises
    *_, searched, frontier, drawn, again = (c for c in notebook.cells if c.cell_type == "code")
    # Without widgets the bar is a line, not a warning about them.
    assert "40/40" in "".join(part.get("text", "") for part in searched.outputs)
    head, *trials = printed(frontier).splitlines()
    assert head == "inside the thresholds:"
    for line in trials:
        share, nodes = line.split("% with ")
        assert float(share) >= 93
        assert int(nodes.split()[0].replace(",", "")) <= 4000
    figure = drawn.outputs[0].data["application/vnd.plotly.v1+json"]
    best = next(data for data in figure["data"] if data["name"] == "frontier")
    assert len(best["customdata"]) == len(trials)
    assert printed(again).startswith(("inside:", "nearest:"))
