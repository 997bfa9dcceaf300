"""``gossamer report --compare`` and ``gossamer robustness`` on a run that was really trained."""

import importlib
import json

import pytest

ROBUSTNESS = ("robustness", "run", "--trust")


@pytest.fixture
def run_directory(place, gossamer):
    status, _, err = gossamer(
        "train",
        "data.npz",
        "--model",
        "net.py:build",
        "--set",
        "epochs=1",
        "--out",
        "run",
        "--json",
    )
    assert status == 0, err
    return place / "run"


def test_robustness_is_stored_and_the_table_shows_it(run_directory, place, gossamer):
    before = json.loads((run_directory / "metrics.json").read_text())
    status, out, _ = gossamer(*ROBUSTNESS, "--kind", "contrast", "--examples", "10")
    assert status == 0
    assert "contrast (severity)" in out
    after = json.loads((run_directory / "metrics.json").read_text())
    (curve,) = after.pop("robustness")
    assert after == before
    assert curve["of"] == 10

    status, out, _ = gossamer(*ROBUSTNESS, "--json")
    assert status == 0
    assert len(json.loads(out)) == 8

    status, out, _ = gossamer("report", "--compare", "run")
    assert status == 0
    assert "Energy, weights in L1" in " ".join(out.split())
    assert "corrupted or in" in out

    status, out, _ = gossamer("report", "--compare", "run", "--json", "-o", "t.md")
    result = json.loads(out)
    assert result["runs"] == ["run"]
    rows = {row["figure"]: row for row in result["figures"]}
    low, high = rows["Energy, weights in L2"]["values"]["run"]
    assert 0 < low <= high
    assert "| Accuracy |" in (place / "t.md").read_text()


def test_interrupted_robustness_goes_on_from_there(run_directory, gossamer, monkeypatch):
    status, out, _ = gossamer(*ROBUSTNESS, "--examples", "10", "--json")
    whole = json.loads(out)
    before = (run_directory / "metrics.json").read_text()
    module = importlib.import_module("gossamer.training.robustness")
    correct_answers = module.correct_answers
    measured = 0

    def interrupted(*arguments, **options):
        nonlocal measured
        measured += 1
        if measured == 18:  # three curves of five levels, and into the fourth
            raise KeyboardInterrupt
        return correct_answers(*arguments, **options)

    monkeypatch.setattr(module, "correct_answers", interrupted)
    status, out, err = gossamer(*ROBUSTNESS, "--examples", "10")
    assert status == 130
    assert len(out.splitlines()) == 3
    assert err == "gossamer: stopped; run the same command again to continue\n"
    assert (run_directory / "metrics.json").read_text() == before
    status, out, _ = gossamer(*ROBUSTNESS, "--examples", "10", "--json")
    assert status == 0
    assert measured == 18 + 5 * 5
    assert json.loads(out) == whole
    assert json.loads((run_directory / "metrics.json").read_text())["robustness"] == whole
    assert not list(run_directory.glob("*unfinished*"))


def test_mistakes_are_one_line(run_directory, place, gossamer):
    (place / "e.toml").write_text("an experiment")
    for arguments, message in (
        (("report", "--compare", "nowhere"), "no run at nowhere"),
        (("report", "--compare", "e.toml"), "e.toml is not a run directory; give the folder that"),
        (("report", "--compare", "run", "run"), "named twice"),
        (("report", "--compare", "run", "-o", "t.pdf"), "must end in one of .html, .md, .json"),
        (("report", "run", "--json"), "--json needs --compare"),
        (("report", "run", "-o", "page.pdf"), "must end in .html"),
        ((*ROBUSTNESS, "--kind", "fog"), "no corruption 'fog'"),
        (("robustness", "nowhere"), "no run at nowhere"),
    ):
        status, out, err = gossamer(*arguments)
        assert status == 2, arguments
        assert out == ""
        assert err.startswith("gossamer: ")
        assert err.count("\n") == 1
        assert message in err
