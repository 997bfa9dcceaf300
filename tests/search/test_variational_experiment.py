"""The ten-parameter experiment as it ships, run for real with a small budget."""

import json
import re
from pathlib import Path

import pytest

from gossamer.cli import main
from gossamer.deploy import METRICS
from gossamer.search import Experiment, Minimize

SHIPPED = Path(__file__).parents[2] / "experiments" / "speech_variational.toml"


def test_ten_parameters_two_constraints_two_thresholds(tmp_path):
    experiment = Experiment.from_toml(SHIPPED, storage=f"sqlite:///{tmp_path / 'x.db'}")
    assert len(experiment.parameters) == 10
    assert len(experiment.constraints) == 2
    assert experiment.metrics == [
        Minimize("error_rate", 0.035, log=True),
        Minimize("nonzero", 0.15 * 1_716_000, log=True),
    ]
    assert experiment.budget == 1000
    ranges = {p.name: (p.decode(0.0), p.decode(1.0)) for p in experiment.parameters}
    assert ranges == {
        "epochs": (30, 200),
        "batch_size": (32, 256),
        "learning_rate": (pytest.approx(1e-5), pytest.approx(0.3)),
        "learning_rate_decay_before": (0.5, 1.0),
        "learning_rate_decay_during": (0.5, 1.0),
        "learning_rate_decay_after": (0.5, pytest.approx(0.97)),
        "penalty_warmup_start": (0.0, 1.0),
        "penalty_warmup_end": (0.0, 1.0),
        "penalty_start": (pytest.approx(1e-4), pytest.approx(1.0)),
        "penalty_end": (pytest.approx(0.1), pytest.approx(10.0)),
    }
    assert {"error_rate", "nonzero"} <= set(METRICS)
    (batch,) = (p for p in experiment.parameters if p.name == "batch_size")
    assert list(batch.values) == [32, 64, 128, 256]


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
        values = trial["values"]
        assert 0.3 < values["error_rate"] <= 1.0  # a tenth is right by chance
        assert 1 < values["nonzero"] <= 8 * 25 + 64 * 25 + 200 * 32 + 32 * 12
        p = trial["parameters"]
        assert p["penalty_warmup_start"] <= p["penalty_warmup_end"]
        assert p["penalty_start"] <= p["penalty_end"]
