"""``gossamer report --compare`` and ``gossamer robustness`` on a run that was really trained."""

import json

import pytest


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


def test_robustness_is_kept_and_the_table_shows_it(run_directory, place, gossamer):
    before = json.loads((run_directory / "metrics.json").read_text())
    status, out, _ = gossamer("robustness", "run", "--kind", "contrast", "--examples", "10")
    assert status == 0
    assert "contrast (severity)" in out
    after = json.loads((run_directory / "metrics.json").read_text())
    (curve,) = after.pop("robustness")
    assert after == before
    assert curve["of"] == 10

    status, out, _ = gossamer("robustness", "run", "--json")
    assert status == 0
    assert len(json.loads(out)) == 8

    status, out, _ = gossamer("report", "--compare", "run")
    assert status == 0
    assert "Energy, weights in L1" in " ".join(out.split())
    assert "corrupted or in" in out

    status, out, _ = gossamer("report", "--compare", "run", "--json", "-o", "t.md")
    found = json.loads(out)
    assert found["runs"] == ["run"]
    rows = {row["figure"]: row for row in found["figures"]}
    low, high = rows["Energy, weights in L2"]["values"]["run"]
    assert 0 < low <= high
    assert "| Accuracy |" in (place / "t.md").read_text()


def test_mistakes_are_one_line(run_directory, gossamer):
    for arguments, told in (
        (("report", "--compare", "nowhere"), "no run at nowhere"),
        (("report", "--compare", "run", "run"), "given twice"),
        (("report", "--compare", "run", "-o", "t.pdf"), "must end in one of .html, .md, .json"),
        (("report", "run", "--json"), "--json needs --compare"),
        (("robustness", "run", "--kind", "fog"), "no disturbance 'fog'"),
        (("robustness", "nowhere"), "no run at nowhere"),
    ):
        status, out, err = gossamer(*arguments)
        assert status == 2, arguments
        assert out == ""
        assert err.startswith("gossamer: ")
        assert err.count("\n") == 1
        assert told in err
