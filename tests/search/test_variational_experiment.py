"""The ten-parameter experiment as it ships, run for real with a small budget."""

import json
import re
from pathlib import Path

import pytest

from gossamer.cli import main
from gossamer.search import Experiment

SHIPPED = Path(__file__).parents[2] / "experiments" / "speech_variational.toml"


def test_ten_parameters_two_constraints_two_thresholds(tmp_path):
    experiment = Experiment.from_toml(SHIPPED, storage=f"sqlite:///{tmp_path / 'x.db'}")
    assert len(experiment.parameters) == 10
    assert len(experiment.constraints) == 2
    assert {m.name: m.threshold for m in experiment.metrics} == {"accuracy": 0.965, "density": 0.15}
    assert experiment.budget == 1000


@pytest.mark.slow
def test_it_searches(tmp_path, monkeypatch, capsys):
    text = SHIPPED.read_text()
    # The embedded data, a small network, few epochs; all else is as it ships.
    text = text.replace('"speech_commands"', '"spoken_words"')
    text = text.replace(
        'model = "speech_cnn"', 'model = "speech_cnn"\nchannels = [8, 8]\nhidden = 32'
    )
    text = re.sub(r"low = 30\nhigh = 200", "low = 1\nhigh = 2", text)
    file = tmp_path / "small.toml"
    file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gossamer", "search", str(file), "--trials", "3", "--json"])
    main()
    found = json.loads(capsys.readouterr().out)
    assert sum(found["trials"].values()) == 3
    assert found["trials"]["complete"] >= 1
    for trial in found["frontier"]:
        assert 0.0 <= trial["values"]["density"] <= 1.0
        p = trial["parameters"]
        assert p["penalty_warmup_start"] <= p["penalty_warmup_end"]
        assert p["penalty_start"] <= p["penalty_end"]
