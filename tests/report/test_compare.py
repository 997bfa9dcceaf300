"""The side-by-side table in every format: what is written reads back as the same figures."""

import json

import pytest
from report_fakes import pair, run

from gossamer.energy import EnergyModel, Work
from gossamer.errors import UserError
from gossamer.report import comparison, figures, markdown, write_comparison
from gossamer.report.plots.runs import disturbed

DENSE = [Work("linear", "dense", 1000, 0, 4000, 400, 6000).as_dict()]
COUNTS = ("macs", "operations", "stored", "values", "repeats")
SPARSE = [Work("linear", "both", 10, 0, 60, 300, 80).as_dict()]


def curve(name, correct, unit="severity"):
    return {"name": name, "unit": unit, "levels": [1, 2], "correct": correct, "of": 100}


@pytest.fixture
def runs():
    """A dense and a sparse run with energy counts and robustness."""
    made = pair()
    made["dense"] |= {
        "energy": {"own": DENSE, "dense": DENSE},
        "robustness": [curve("gaussian_blur", [90, 60]), curve("jpeg", [80, 70])],
    }
    made["sparse"] |= {
        "energy": {"own": SPARSE, "dense": DENSE},
        "robustness": [curve("gaussian_blur", [92, 80]), curve("jpeg", [80, 76])],
    }
    return made


def parsed(text):
    """The rows of the first Markdown table, cells stripped."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert set(rows[1]) <= set("|-:")
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in (rows[0], *rows[2:])]


def test_json_holds_every_line_with_values_and_reads_back(runs):
    found = json.loads(json.dumps(comparison(runs), allow_nan=False))
    assert found["runs"] == ["dense", "sparse"]
    assert found["compared_with"] == "dense"
    rows = {row["figure"]: row for row in found["figures"]}
    assert list(rows) == [line.label for line in figures.compare(runs)]
    assert rows["Accuracy"]["values"]["dense"] == runs["dense"]["accuracy"]
    assert rows["Non-zero weights"]["values"]["sparse"] == runs["sparse"]["weights"]["nonzero"]
    disturbed_share = rows["Accuracy, corrupted or in background noise"]
    assert disturbed_share["values"] == pytest.approx({"dense": 0.75, "sparse": 0.82})
    assert disturbed_share["gains"] == {"sparse": "+7.00 points"}
    assert {row["provenance"] for row in rows.values()} == {"counted", "measured", "modeled"}


def test_energy_rows_are_ranges_priced_by_the_model(runs):
    rows = {row["figure"]: row for row in comparison(runs)["figures"]}
    own, dense = [Work(**w) for w in SPARSE], [Work(**w) for w in DENSE]
    for memory in ("L1", "L2", "DRAM"):
        row = rows[f"Energy, weights in {memory}"]
        assert row["provenance"] == "modeled"
        expected = EnergyModel().ratio(dense, own, memory)
        assert row["values"]["sparse"] == [expected.low, expected.high]
        assert row["gains"]["sparse"].endswith("× less")
    # Joules are nowhere: nothing here has counted any.
    assert "oule" not in json.dumps(comparison(runs))


def test_runs_that_counted_no_bits_are_of_floats_and_eight_bits_cost_less(runs):
    def row():
        found = comparison(runs)["figures"]
        return next(r for r in found if r["figure"] == "Energy, weights in L1")["values"]["sparse"]

    as_floats = row()
    old = {key: value for key, value in SPARSE[0].items() if key != "bits"}
    runs["sparse"]["energy"] = {"own": [old], "dense": DENSE}
    assert row() == as_floats
    runs["sparse"]["energy"] = {"own": [{**old, "bits": 8}], "dense": DENSE}
    assert row() > as_floats


def test_runs_of_different_tasks_have_no_energy_gain(runs):
    runs["sparse"]["task"] = "other"
    row = next(r for r in comparison(runs)["figures"] if r["figure"] == "Energy, weights in L2")
    assert row["gains"] == {"sparse": None}
    assert row["values"]["sparse"] is not None


def test_more_energy_is_printed_as_more(runs):
    swapped = {"sparse": runs["sparse"], "dense": runs["dense"]}
    row = next(r for r in comparison(swapped)["figures"] if r["figure"] == "Energy, weights in L2")
    assert row["gains"]["dense"].endswith("× more")


@pytest.mark.parametrize(
    "energy",
    [
        None,
        {},
        {"own": 3},
        {"own": [{"layer": "a"}], "dense": []},
        {"own": [], "dense": []},
        {"own": [{**SPARSE[0], "bits": 16}], "dense": DENSE},
        {"own": [{**SPARSE[0], "macs": "many"}], "dense": DENSE},
        {"own": [{**SPARSE[0], "stored": -1}], "dense": DENSE},
        {"own": [{**SPARSE[0], **dict.fromkeys(COUNTS, 0)}], "dense": DENSE},
    ],
)
def test_a_run_without_or_with_odd_counts_has_no_energy(runs, energy):
    runs["sparse"]["energy"] = energy
    row = next(r for r in comparison(runs)["figures"] if r["figure"] == "Energy, weights in L1")
    assert row["values"]["sparse"] is None
    assert row["texts"]["sparse"] == "–"


def test_markdown_parses_back_to_the_same_texts(runs):
    rows = parsed(markdown(runs))
    assert rows[0] == ["Figure", "How known", "dense", "sparse", "Gain"]
    lines = figures.compare(runs)
    assert len(rows) == len(lines) + 1
    for row, line in zip(rows[1:], lines, strict=True):
        assert len(row) == 5
        assert row[0].startswith(line.label)
        assert row[1] == line.provenance
        assert row[2].startswith(line.cells[0].text)
        assert row[3].startswith(line.cells[1].text)
        assert row[4] == ("–" if line.gains[0] is None else line.gains[0].text)


def test_markdown_of_three_runs_and_of_odd_names(runs):
    rows = parsed(markdown({"a|b": runs["dense"], "c": runs["sparse"], "d": run()}))
    assert rows[0][2:] == [r"a\|b", "c", "Gain, c", "d", "Gain, d"]
    assert {len(row) for row in rows} == {7}


def test_warnings_are_in_markdown_and_json(runs):
    runs["sparse"]["synthetic"] = True
    assert "> Synthetic data" in markdown(runs)
    assert comparison(runs)["warnings"][0].startswith("Synthetic data")


def test_one_file_for_each_suffix(tmp_path, runs):
    for name, made in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(made))
    sources = [tmp_path / name for name in runs]
    found = json.loads(write_comparison(*sources, output=tmp_path / "new" / "t.json").read_text())
    assert found == json.loads(json.dumps(comparison(runs)))
    assert write_comparison(*sources, output=tmp_path / "t.md").read_text() == markdown(runs)
    page = write_comparison(*sources, output=tmp_path / "t.HTML").read_text()
    assert "Energy, weights in L2" in page
    assert 'data-plot="disturbed-gaussian_blur"' in page
    with pytest.raises(UserError, match=r"must end in one of \.html, \.md, \.json"):
        write_comparison(*sources, output=tmp_path / "t.txt")
    assert not (tmp_path / "t.txt").exists()


def test_a_plot_for_each_disturbance(runs):
    runs["sparse"]["robustness"].append(curve("pink", [9, 3], unit="dB"))
    plots = disturbed(runs)
    assert [plot.key for plot in plots] == [
        "disturbed-gaussian_blur",
        "disturbed-jpeg",
        "disturbed-pink",
    ]
    first, _, last = plots
    assert list(first.figure.data[1].y) == [0.92, 0.8]
    assert first.title == "Accuracy under gaussian blur"
    # A run keeps its color in every plot; decibels run from quiet to loud.
    assert last.figure.data[0].line.color == first.figure.data[1].line.color
    assert last.figure.layout.xaxis.autorange == "reversed"
    assert last.title == "Accuracy in pink noise"
