"""The main job on the embedded data, shortened."""

import pytest
from rich.console import Console

from gossamer.demo import demo


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(3600)
def test_the_demo_leaves_runs_and_page_and_goes_on(tmp_path):
    folder = tmp_path / "demo"
    first = demo(folder, trials=3, workers=1, console=Console(quiet=True))
    assert first.page == folder / "report.html"
    assert first.page.read_text().startswith("<!")
    files = [folder / kind / "metrics.json" for kind in ("dense", "sparse")]
    written = [file.stat().st_mtime_ns for file in files]
    ended = first.experiment.trials()
    assert len(ended) == 3
    assert first.dense["weights"]["density"] == 1.0
    assert first.sparse["weights"]["density"] < 0.6

    again = demo(folder, trials=3, workers=1, console=Console(quiet=True))
    assert [file.stat().st_mtime_ns for file in files] == written
    assert again.experiment.trials() == ended
    assert again.dense["weights"] == first.dense["weights"]
    assert again.sparse["correct"] == first.sparse["correct"]
