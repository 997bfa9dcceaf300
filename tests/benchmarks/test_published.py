"""Published figures come from one table with sources, and pages state them as it does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from gossamer.models import MODELS

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load():
    spec = importlib.util.spec_from_file_location("published", BENCHMARKS / "published.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


published = load()
TABLE = published.TABLE


def test_every_entry_has_a_source_and_figures_in_range():
    assert len({(e.task, e.network, e.source) for e in TABLE}) == len(TABLE)
    for entry in TABLE:
        assert entry.source
        assert any((entry.accuracy, entry.nonzero))
        assert entry.accuracy is None or 90 < entry.accuracy < 100
        assert entry.score is None or 0 < entry.score < entry.scored


def test_an_accuracy_belongs_to_the_network_of_its_source():
    """The paper's sparse speech networks are not the later library's, which are ours."""
    assert {task_model[1] for task_model in published.OURS} <= set(MODELS)
    for name in ("speech_cnn_sparse", "speech_cnn_super_sparse"):
        entry = published.OURS["speech_commands", name]
        assert entry.accuracy is entry.score is None
        assert f"{entry.nonzero:,}" in MODELS[name].summary


@pytest.mark.parametrize(
    "file",
    sorted(set(BENCHMARKS.glob("*.py")) - {BENCHMARKS / "published.py"}),
    ids=lambda f: f.name,
)
def test_no_benchmark_repeats_a_figure(file):
    text = file.read_text()
    for entry in TABLE:
        figures = [f"{n:,}" for n in (entry.score, entry.nonzero) if n and n % 1000]
        for figure in [*figures, *([f"{entry.accuracy:.2f}"] if entry.accuracy else [])]:
            assert figure not in text, f"{entry.network}: {figure}"
            assert figure.replace(",", "_") not in text


def test_the_seed_page_states_them_alike():
    text = (ROOT / "docs" / "results" / "seed.md").read_text()
    for entry in TABLE:
        if "CNN-2" in entry.network or "thresholds" in entry.network:
            if entry.deviation:
                assert entry.shown_accuracy() in text, entry
            elif entry.accuracy:
                assert f"{entry.accuracy:.2f} %" in text, entry
            if entry.score:
                assert f"{entry.score:,}" in text, entry
            if entry.nonzero and entry.nonzero > 1000:
                assert f"{entry.nonzero:,}" in text, entry
