"""The page: what it holds, what it must not load, and every state of an experiment."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_fakes import (
    ACCURACY,
    DENSITY,
    LATENCY,
    experiment,
    goal,
    pair,
    record,
    run,
    snapshot,
)

import gossamer
from gossamer.errors import UserError
from gossamer.report import page, report
from gossamer.report.choice import knee
from gossamer.search import (
    Choice,
    Experiment,
    Float,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    Snapshot,
)
from gossamer.search.trials.attachments import TrialFile

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028<!--"
VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Tags, attributes, visible text, and the JSON of the plots; checks the nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.figures: dict[str, dict[str, Any]] = {}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            key = self.tags[-1][1].get("data-plot")
            if key is not None:
                self.figures[key] = json.loads(data)
        elif inside == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def written(tmp_path: Path, runs: dict[str, Any], searched: Any = None, **more: Any) -> Reader:
    target = tmp_path / "report.html"
    assert page(target, runs, searched, **more) == target
    return read(target)


def test_full_page_has_every_part(tmp_path: Path) -> None:
    found = written(tmp_path, pair(), experiment(), title="Speech on a budget")
    assert set(found.figures) == {
        "noise",
        "layers-0",
        "layers-1",
        "scatter-0-1",
        "history-0",
        "history-1",
        "hypervolume",
        "parallel",
        "importance-0",
        "importance-1",
    }
    for said in (
        "Speech on a budget",
        "The sparse network reaches 96.90 % test accuracy (dense: 97.30 %)",
        "8.9× fewer non-zero weights",
        "120 of 1,000 trials: 115 complete",
        "5 failed",
        "the loss became NaN in epoch 2",
        "7, 30, 53, 76, 99",
        "Best parameters: the frontier",
        "warmup.start − warmup.end ≤ 0",
        "speech_commands",
        "Xeon Example 2.1 GHz",
        "density.conv2",
        f"gossamer {gossamer.__version__}",
    ):
        assert said in found.text
    assert "Synthetic data" not in found.text


def test_every_plot_has_a_place_words_and_a_provenance(tmp_path: Path) -> None:
    found = written(tmp_path, pair(), experiment())
    places = {attrs["id"]: attrs for _, attrs in found.tags if attrs.get("role") == "img"}
    assert set(places) == set(found.figures)
    assert all(len(attrs["aria-label"] or "") > 40 for attrs in places.values())
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", source, re.DOTALL)
    assert len(captions) == len(places)
    assert all(re.search(r'class="tag (counted|measured|modeled)"', c) for c in captions)


def test_every_row_of_figures_has_its_provenance(tmp_path: Path) -> None:
    written(tmp_path, pair())
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    side = source[source.index('id="side"') : source.index('id="closer"')]
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', side, re.DOTALL)
    assert len(rows) == 16
    assert all('class="tag ' in row for row in rows)


def test_page_loads_nothing(tmp_path: Path) -> None:
    found = written(tmp_path, pair(), experiment())
    for tag, attrs in found.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for attribute in ("src", "href", "srcset", "action", "data", "poster"):
            assert attribute not in attrs
    assert not re.search(r"url\(|@import", "".join(found.styles))
    policy = next(
        attrs["content"] or ""
        for tag, attrs in found.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "form-action 'none'" in policy
    assert "http" not in policy
    assert "connect-src" not in policy
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    # plotly.js names XML's vocabularies; beside these there is no address in any text.
    assert set(re.findall(r"""["'`]https?://([^/"'`]*)""", source)) == {"www.w3.org"}
    assert "cloud.plotly" not in source


@pytest.mark.filterwarnings("error")
def test_what_users_name_is_escaped_everywhere(tmp_path: Path) -> None:
    records = [
        record(n, "complete", {EVIL: EVIL, "x": 0.1 * n}, {EVIL: 0.1 * n, "density": 0.2 * n})
        for n in range(4)
    ]
    records.append(record(4, "failed", {EVIL: EVIL, "x": 1.0}, {}, EVIL))
    fake = Snapshot(
        EVIL,
        (goal(EVIL), goal("density", "minimize", 0.5)),
        (Choice(EVIL, [EVIL, "other"]), Float("x", 0.0, 1.0)),
        settings={EVIL: EVIL},
        trials=tuple(records),
        importances={EVIL: {EVIL: 1.0}},
    )
    evil = run(task=EVIL, source=EVIL, machine=EVIL, synthetic=True, settings={EVIL: EVIL})
    evil["layers"][0] |= {"name": EVIL, "kind": EVIL}
    plain = written(tmp_path, pair(), experiment())
    found = written(tmp_path, {EVIL: run(), "b" + EVIL: evil}, fake, title=EVIL)
    assert found.count("img") == 0
    # Every script element is the page's own: plotly, one per plot, what the script shows of the
    # frontier, and the script.
    for reader in (plain, found):
        assert reader.count("script") == len(reader.figures) + 3
    assert all("onerror" not in attrs for _, attrs in found.tags)
    assert "<script>alert(1)" in found.text  # as words
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in source
    assert "<img" not in re.sub(r"<script>/\*\*.*?</script>", "", source, flags=re.DOTALL)
    # Inside the plots too, where plotly reads a small HTML of its own.
    names = [trace["name"] for trace in found.figures["noise"]["data"]]
    assert names[0].startswith("&lt;/script&gt;")


def test_synthetic_banner(tmp_path: Path) -> None:
    found = written(tmp_path, {"sparse": run(synthetic=True, task="spoken_words")})
    assert "Synthetic data: the examples of spoken_words are computer-made" in found.text


def test_one_run_without_noise_layers_or_timing(tmp_path: Path) -> None:
    bare = {key: run()[key] for key in ("task", "accuracy", "weights", "macs")}
    found = written(tmp_path, {"mine": bare})
    assert found.figures == {}
    assert "The mine network reaches 96.90 % accuracy" in found.text
    assert "Noise score" not in found.text
    assert "machine" not in found.text
    assert "Gain" not in found.text
    # Without a plot the page has no need of five megabytes of plotly.
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_no_trials(tmp_path: Path) -> None:
    found = written(tmp_path, {}, experiment(0, importances={}))
    assert found.figures == {}
    assert "0 of 1,000 trials" in found.text
    assert "No trial is complete yet" in found.text


def test_complete_trials_of_a_cheaper_task(tmp_path: Path) -> None:
    values = {"accuracy": 0.97, "density": 0.1}
    found = written(tmp_path, {}, snapshot([record(0, values=values, fidelity="small")]))
    assert "No trial of the full task is complete yet; of the cheaper small" in found.text


def test_only_failed_trials(tmp_path: Path) -> None:
    records = [record(n, "failed", {}, {}, f"reason {n % 60}") for n in range(130)]
    found = written(tmp_path, {}, snapshot(records))
    assert found.figures == {}
    assert "130 of 1,000 trials: 0 complete" in found.text
    assert "Failed trials: 130" in found.text
    assert "10 further reasons are left out" in found.text


def test_all_infeasible_shows_the_nearest_and_says_so(tmp_path: Path) -> None:
    tight = (goal("accuracy", "maximize", 0.999), goal("density", "minimize", 0.001))
    found = written(tmp_path, {}, experiment(40, tight))
    assert "No trial is inside the thresholds" in found.text
    assert "Nearest to the thresholds" in found.text
    assert "misses ≥ 0.999" in found.text
    assert "Best parameters" not in found.text
    names = [trace["name"] for trace in found.figures["scatter-0-1"]["data"]]
    assert names == ["outside the thresholds", "nearest to the thresholds"]
    assert "hypervolume" not in found.figures
    # All on one side of the thresholds: colored by the first metric instead.
    assert "accuracy" in found.figures["parallel"]["data"][0]["line"]["colorbar"]["title"]["text"]


def test_one_metric(tmp_path: Path) -> None:
    found = written(tmp_path, {}, experiment(40, (ACCURACY,)))
    assert {key for key in found.figures if key.startswith("scatter")} == set()
    assert {"history-0", "parallel"} <= set(found.figures)


@pytest.mark.parametrize(
    ("count", "pairs"),
    [(3, {"0-1", "0-2", "1-2"}), (5, {"0-1", "0-2", "0-3", "0-4"})],
)
def test_more_than_two_metrics(tmp_path: Path, count: int, pairs: set[str]) -> None:
    metrics = (ACCURACY, DENSITY, LATENCY, goal("extra"), goal("more", "minimize"))[:count]
    fake = experiment(40, metrics)
    for trial in fake.trials:
        if trial.values:
            trial.values.update(extra=trial.values["density"], more=trial.number)
    found = written(tmp_path, {}, fake)
    scatters = {key for key in found.figures if key.startswith("scatter")}
    assert scatters == {f"scatter-{pair}" for pair in pairs}
    assert sum(key.startswith("history") for key in found.figures) == count


def test_no_thresholds(tmp_path: Path) -> None:
    found = written(tmp_path, {}, experiment(30, (goal("accuracy"), goal("density", "minimize"))))
    assert "inside the thresholds" not in found.text
    assert "shapes" not in found.figures["scatter-0-1"]["layout"]


def test_one_trial_and_equal_values(tmp_path: Path) -> None:
    same = [
        record(n, "complete", {"x": 1.0, "y": 0}, {"accuracy": 0.97, "density": 0.1})
        for n in range(3)
    ]
    axes = (Float("x", 1.0, 1.0), Int("y", 0, 0))
    for records in (same[:1], same):
        found = written(tmp_path, {}, snapshot(records, parameters=axes))
        assert "parallel" not in found.figures or len(records) > 1
        assert "scatter-0-1" in found.figures


def test_scatter_shades_what_fails_and_only_once(tmp_path: Path) -> None:
    found = written(tmp_path, {}, experiment(60))
    layout = found.figures["scatter-0-1"]["layout"]
    shades = [shape for shape in layout["shapes"] if shape["type"] == "rect"]
    lines = [shape for shape in layout["shapes"] if shape["type"] == "line"]
    dense, inexact = shades
    assert dense["x0"] == 0.15  # too dense, whatever the accuracy
    assert inexact["y1"] == 0.965  # too inexact, up to the limit of density: no overlap
    assert inexact["x1"] == 0.15
    assert {line["x0"] for line in lines if line["x0"] == line["x1"]} == {0.15}
    assert {line["y0"] for line in lines if line["y0"] == line["y1"]} == {0.965}
    # Ranges of a logarithmic axis are exponents; density spans decades here.
    assert layout["xaxis"]["type"] == "log"
    low, high = (10**end for end in layout["xaxis"]["range"])
    values = [trial.values["density"] for trial in experiment(60).complete]
    assert low < min(values)
    assert high > max(values)
    traces = {trace["name"]: trace for trace in found.figures["scatter-0-1"]["data"]}
    frontier, bend = traces["frontier"], knee(experiment(60))
    assert frontier["line"]["shape"] == "hv"
    assert frontier["x"] == sorted(frontier["x"])
    assert bend is not None
    assert traces["knee"]["x"] == [bend.values["density"]]
    assert traces["knee"]["y"] == [bend.values["accuracy"]]


def test_parallel_axes_are_logarithmic_or_categories(tmp_path: Path) -> None:
    fake = experiment(50)
    found = written(tmp_path, {}, fake)
    axes = {axis["label"]: axis for axis in found.figures["parallel"]["data"][0]["dimensions"]}
    rate = axes["learning_rate"]
    assert rate["range"] == [0, 1]
    assert rate["ticktext"] == ["0.0001", "0.001", "0.01", "0.1"]
    # From 1e-4 to 0.3, 3.477 decades.
    assert rate["tickvals"] == pytest.approx([0, 1 / 3.4771, 2 / 3.4771, 3 / 3.4771], rel=1e-4)
    assert axes["rule"]["ticktext"] == ["static", "set", "rigl"]
    assert set(axes["rule"]["values"]) == {0, 1, 2}
    assert axes["log2_batch"]["ticktext"] == ["5", "6", "7", "8"]
    assert axes["log2_batch"]["tickvals"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    lengths = {len(axis["values"]) for axis in axes.values()}
    assert lengths == {len(fake.complete)}


def test_noise_curve_is_the_share_of_each_level(tmp_path: Path) -> None:
    curve = {"levels": [0.0, 0.5], "correct": [9, 3], "score": 12, "of": 20}
    found = written(tmp_path, {"a": run(noise=curve)})
    assert found.figures["noise"]["data"][0]["y"] == [0.9, 0.3]


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        page(tmp_path / "report.html", {})
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="choose another -o"):
        page(tmp_path / "file" / "report.html", pair())
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="choose a place"):
        page(tmp_path / "folder", pair())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def run_folder(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def test_report_of_folders_and_experiment(tmp_path: Path) -> None:
    dense = run_folder(tmp_path / "dense", run(sparse=False))
    sparse = run_folder(tmp_path / "sparse", run())
    target = tmp_path / "new" / "page.html"
    assert report(dense, str(sparse), experiment(20), output=target, title="Both") == target
    found = read(target)
    assert "The sparse network reaches" in found.text
    assert "scatter-0-1" in found.figures
    assert [entry.name for entry in target.parent.iterdir()] == ["page.html"]


def test_failed_report_leaves_the_older_page(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")
    with pytest.raises(UserError, match="no run at"):
        report(tmp_path / "nowhere", output=target)
    with pytest.raises(UserError, match="two experiments are called 'speech'"):
        report(experiment(2), experiment(2), output=target)
    with pytest.raises(UserError, match="not of int"):
        report(3, output=target)  # type: ignore[arg-type]
    assert target.read_text() == "older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.fixture
def searched(tmp_path: Path) -> Experiment:
    made = Experiment(
        "real",
        parameters=[
            Float("rate", 1e-4, 0.3, log=True),
            Float("start", 0.0, 1.0),
            Float("end", 0.0, 1.0),
            Choice("rule", [None, "set", True]),
        ],
        metrics=[Maximize("accuracy", threshold=0.5), Minimize("density", threshold=0.6)],
        constraints=[LinearConstraint({"start": 1.0, "end": -1.0}, at_most=0.0)],
        budget=30,
        storage=f"sqlite:///{tmp_path / 'real.db'}",
        sampler="random",
        settings={"task": "spoken_words", "epochs": 3},
    )
    for _ in range(24):
        trial = made.ask()
        if trial.number == 5:
            made.tell(trial, error="the loss became NaN")
        else:
            accuracy = 1 - trial.parameters["rate"] - 0.5 * trial.parameters["start"]
            made.tell(trial, {"accuracy": accuracy, "density": trial.parameters["end"]})
    made.ask()
    return made


def test_real_experiment_by_object_and_by_storage(tmp_path: Path, searched: Experiment) -> None:
    address = f"sqlite:///{tmp_path / 'real.db'}"
    for source in (searched, address, tmp_path / "real.db"):
        target = report(source, output=tmp_path / "real.html")
        found = read(target)
        assert "25 of 30 trials: 23 complete" in found.text
        assert "1 failed, 1 unfinished" in found.text
        assert "the loss became NaN" in found.text
        assert "start − end ≤ 0" in found.text
        assert {"scatter-0-1", "parallel", "importance-0"} <= set(found.figures)
        axes = found.figures["parallel"]["data"][0]["dimensions"]
        rule = next(axis for axis in axes if axis["label"] == "rule")
        assert rule["ticktext"] == ["none", "set", "yes"]


def test_real_experiment_by_toml(tmp_path: Path) -> None:
    file = tmp_path / "fresh.toml"
    file.write_text(
        f"""
        name = "fresh"
        budget = 7
        storage = "sqlite:///{tmp_path / "fresh.db"}"
        [metrics.accuracy]
        goal = "maximize"
        threshold = 0.9
        [parameters.rate]
        type = "float"
        low = 0.1
        high = 0.2
        """
    )
    found = read(report(file, output=tmp_path / "fresh.html"))
    assert "0 of 7 trials" in found.text


def test_missing_toml_and_storage_are_one_line_errors(tmp_path: Path) -> None:
    for source in (tmp_path / "none.toml", f"sqlite:///{tmp_path / 'none.db'}"):
        with pytest.raises(UserError) as caught:
            report(source, output=tmp_path / "report.html")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_files_of_trials_are_in_the_page(tmp_path):
    shown = experiment(5)
    number = shown.frontier.trials[0].number
    image, log = tmp_path / "curve.svg", tmp_path / "run.log"
    image.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    log.write_text("done")
    files = (
        TrialFile("curve.svg", "image", image.stat().st_size, str(image)),
        TrialFile("run.log", "text", 4, str(log)),
        TrialFile("gone.png", "image", 4, str(tmp_path / "gone.png")),
    )
    trials = [
        dataclasses.replace(trial, files=files) if trial.number == number else trial
        for trial in shown.trials
    ]
    target = page(tmp_path / "page.html", {}, [dataclasses.replace(shown, trials=tuple(trials))])
    text = target.read_text("utf-8")
    content = base64.b64encode(image.read_bytes()).decode()
    assert f'src="data:image/svg+xml;base64,{content}"' in text
    assert "run.log" in text
    assert "gone.png" in text
    assert str(tmp_path) not in text


def test_images_of_one_trial_are_embedded_while_there_is_room(tmp_path, monkeypatch):
    shown = experiment(5)
    number = shown.frontier.trials[0].number
    image = tmp_path / "curve.svg"
    image.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    size = image.stat().st_size
    files = tuple(TrialFile(f"{i}.svg", "image", size, str(image)) for i in range(5))
    trials = [
        dataclasses.replace(trial, files=files) if trial.number == number else trial
        for trial in shown.trials
    ]
    monkeypatch.setattr("gossamer.report.html._LARGEST_IMAGES", 2 * size)
    target = page(tmp_path / "page.html", {}, [dataclasses.replace(shown, trials=tuple(trials))])
    text = target.read_text("utf-8")
    assert text.count('src="data:image/svg+xml;base64,') == 2
    assert "4.svg" in text
