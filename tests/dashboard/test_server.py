"""The page over HTTP: what it answers, and what it refuses."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import resource
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from gossamer.cli.main import main
from gossamer.dashboard import Dashboard
from gossamer.dashboard.view import export_json
from gossamer.errors import UserError
from gossamer.search import Experiment, Float, Maximize, Minimize, Snapshot, TrialRecord
from gossamer.search.trials.attachments import TrialFile
from gossamer.search.trials.storage import DEFINITION


def thresholds(storage: str) -> dict[str, float | None]:
    return {m.name: m.threshold for m in Experiment.from_storage(storage).metrics}


def test_view_judges_by_the_stored_thresholds(page: Any) -> None:
    view = page.get("/api/view").json
    assert view["feasible"]
    assert view["frontier"] == [2, 1]  # trial 3 is dominated by 1, trial 0 is outside
    assert view["inside"] == 3
    assert view["budget"] == 10
    assert view["states"] == {"complete": 4, "stopped": 0, "failed": 1, "running": 1, "waiting": 0}
    # Gains over (0.92, 0.35): (0.05, 0.05), (0.03, 0.15).
    assert view["hypervolume"] == pytest.approx(0.05 * 0.05 + 0.03 * 0.10)
    assert view["measure"] == ["hypervolume inside the thresholds", "0.0055"]
    assert [best["number"] for best in view["best"]] == [2, 1]
    assert set(view["best"][0]["parameters"]) == {"rate", "rule"}
    assert set(view["plots"]) == {"scatter", "hypervolume", "coverage"}
    assert {group: len(drawn) for group, drawn in page.get("/api/plots").json.items()} == {
        "history": 2,
        "parallel": 1,
        "curves": 0,
    }
    assert view["secondsLeft"] > 0
    assert view["timeLeft"] not in ("done", "–")


def test_other_thresholds_change_frontier_and_nothing_stored(page: Any, storage: str) -> None:
    view = page.get("/api/view?threshold.accuracy=0.96&threshold.density=").json
    assert view["frontier"] == [2]
    assert view["inside"] == 1
    assert view["hypervolume"] is None
    assert [m["threshold"] for m in view["metrics"]] == [0.96, None]
    assert [m["stored"] for m in view["metrics"]] == [0.92, 0.35]
    assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}


def test_nearest_trials_when_none_is_inside(page: Any) -> None:
    view = page.get("/api/view?threshold.accuracy=0.99").json
    assert not view["feasible"]
    assert view["frontier"][0] == 2
    assert view["best"][0]["missed"] == ["accuracy"]


BAD_QUERIES = [
    ("threshold.acuracy=0.9", "did you mean 'accuracy'"),
    ("threshold.accuracy=high", "must be a number, not 'high'"),
    ("threshold.accuracy=1_0", "must be a number, not '1_0'"),
    ("threshold.accuracy=nan", "finite"),
    ("accuracy=0.9", "threshold.METRIC"),
]


def test_bad_thresholds_are_named(page: Any) -> None:
    for query, said in BAD_QUERIES:
        for path in ("/api/view", "/api/plots", "/api/trials", "/export.csv"):
            answer = page.get(f"{path}?{query}")
            assert answer.status == 400
            assert said in answer.json["error"]


def test_unchanged_is_not_sent_again(page: Any, storage: str) -> None:
    first = page.get("/api/view")
    tag = first.headers["ETag"]
    again = page.get("/api/view", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")
    experiment = Experiment.from_storage(storage)
    experiment.tell(experiment.ask(), {"accuracy": 0.98, "density": 0.1})
    deadline = 100
    while (later := page.get("/api/view", If_None_Match=tag)).status == 304 and deadline:
        deadline -= 1
        time.sleep(0.1)
    assert later.status == 200
    assert later.json["frontier"] == [6]


def test_other_hosts_are_refused(page: Any) -> None:
    port = page.host.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}", ""):
        answer = page.get("/api/trials", Host=host)
        assert answer.status == 403, host
        assert b"accuracy" not in answer.body
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost"):
        assert page.get("/api/trials", Host=host).status == 200, host


def test_reading_page_stores_nothing(page: Any, storage: str) -> None:
    answer = page.post("/api/thresholds", {"accuracy": 0.5})
    assert answer.status == 403
    assert "--write" in answer.json["error"]
    assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}
    assert b'id="store"' not in page.get("/").body


def test_writing_page_steers_other_processes(writing: Any, storage: str) -> None:
    worker = Experiment.from_storage(storage)
    answer = writing.post(
        "/api/thresholds",
        {"accuracy": 0.96, "density": None},
        Origin=writing.address.rstrip("/"),
    )
    assert answer.status == 200
    assert answer.json["frontier"] == [2]
    assert thresholds(storage) == {"accuracy": 0.96, "density": None}
    worker.ask()
    assert [m.threshold for m in worker.metrics] == [0.96, None]
    assert b'id="store"' in writing.get("/").body


BAD_BODIES: list[tuple[object, str]] = [
    ({"accuracy": 0.5, "acuracy": 0.9}, "did you mean"),
    ({"accuracy": 0.5, "density": "low"}, "finite number"),
    ({"accuracy": 0.5, "density": True}, "finite number"),
    ([0.5], "JSON object"),
    ({}, "at least one"),
    (b"{", "not JSON"),
    (b"[" * 50_000, "not JSON"),
    (b"\xff", "not JSON"),
]


def test_all_thresholds_are_stored_or_none(writing: Any, storage: str) -> None:
    for body, said in BAD_BODIES:
        answer = writing.post("/api/thresholds", body)
        assert answer.status == 400
        assert said in answer.json["error"]
        assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}


def test_forged_requests_are_refused(writing: Any, storage: str) -> None:
    body = {"accuracy": 0.5}
    assert writing.post("/api/thresholds", body, Origin="http://evil.example").status == 403
    assert writing.post("/api/thresholds", body, Origin="null").status == 403
    assert writing.post("/api/thresholds", body, Content_Type="text/plain").status == 415
    assert writing.post("/api/thresholds", body, Host="evil.example").status == 403
    assert writing.post("/api/thresholds", b" " * 200_000).status == 413
    assert writing.post("/api/view", body).status == 404
    assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}


def test_unknown_addresses(page: Any) -> None:
    for path in ("/api", "/../conftest.py", "/templates/page.js", "/%2e%2e/server.py"):
        assert page.get(path).status == 404
    assert page.ask("PUT", "/", b"", {}).status == 501
    assert page.ask("HEAD", "/", None, {}).body == b""


def test_trials_hold_reasons_and_states(page: Any) -> None:
    trials = page.get("/api/trials").json
    assert [trial["number"] for trial in trials] == list(range(6))
    assert [trial["inside"] for trial in trials] == [False, True, True, True, False, False]
    assert trials[4]["reason"] == "ValueError: loss, it is nan"
    assert trials[5]["state"] == "running"
    assert trials[0]["values"]["loss"] == 0.5


def test_csv_reads_back(page: Any, storage: str) -> None:
    answer = page.get("/export.csv")
    assert 'filename="some--b-trials--b-.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    records = Experiment.from_storage(storage).trials()
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert int(row["trial"]) == record.number
        assert row["state"] == record.state
        assert row["fidelity"] == (record.fidelity or "")
        assert float(row["parameter:rate"]) == record.parameters["rate"]
        assert row["parameter:rule"] == record.parameters["rule"]
        for name, value in record.values.items():
            assert float(row[f"value:{name}"]) == value
    assert [row["frontier"] for row in rows] == ["0", "1", "1", "0", "0", "0"]
    assert rows[4]["reason"] == "ValueError: loss, it is nan"


def test_json_reads_back(page: Any) -> None:
    content = page.get("/export.json?threshold.accuracy=0.96").json
    assert content["experiment"] == "some <b>trials</b>"
    assert content["frontier"] == [2]
    assert content["metrics"][0]["threshold"] == 0.96
    assert len(content["trials"]) == 6
    assert set(content["trials"][0]) >= {"number", "state", "parameters", "values", "reason"}


FILE = """
name = "{name}"
{storage}
[metrics.accuracy]
goal = "maximize"
threshold = 0.5
[metrics.density]
goal = "minimize"
[parameters.rate]
type = "float"
low = 0.01
high = 1.0
log = true
[parameters.rule]
type = "choice"
options = ["set", "rigl"]
"""


def test_file_does_not_undo_stored_thresholds(
    storage: str, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    path = tmp_path / "some.toml"
    path.write_text(FILE.format(name="some <b>trials</b>", storage=f'storage = "{storage}"'))
    with serve(str(path)) as page:
        assert [m["stored"] for m in page.get("/api/view").json["metrics"]] == [0.92, 0.35]
    assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}


def test_an_sqlite_file_is_a_storage(storage: str, serve: Callable[..., Any]) -> None:
    file = Path(storage.removeprefix("sqlite:///"))
    with serve(str(file)) as page:
        assert page.get("/api/view").status == 200
    with pytest.raises(UserError, match="is a folder; name an experiment file, or a storage"):
        Dashboard(file.parent)


def test_what_cannot_be_opened_is_named(storage: str, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(FILE.format(name="other", storage=""))
    with pytest.raises(UserError, match="without a storage"):
        Dashboard(str(path))
    path.write_text(FILE.format(name="other", storage=f'storage = "{storage}"'))
    with pytest.raises(UserError, match=r"no experiment 'other'.*start it with gossamer search"):
        Dashboard(str(path))
    with pytest.raises(UserError, match="does not exist"):
        Dashboard(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


def test_taken_port_is_named(storage: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="in use; choose another with --port"):
            Dashboard(storage, port=taken.getsockname()[1])


def test_command_names_mistakes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "none.toml")
    monkeypatch.setattr("sys.argv", ["gossamer", "dashboard", missing])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not exist" in said


@pytest.mark.parametrize("threshold", ["1e308", "-1e308", "1e301"])
def test_threshold_that_cannot_be_drawn_is_refused_and_not_stored(
    writing: Any, storage: str, threshold: str
) -> None:
    asked = writing.get(f"/api/view?threshold.accuracy={threshold}")
    stored = writing.post("/api/thresholds", {"accuracy": float(threshold)})
    for answer in (asked, stored):
        assert answer.status == 400
        assert "too large to compare with" in answer.json["error"]
    assert thresholds(storage) == {"accuracy": 0.92, "density": 0.35}
    assert writing.post("/api/thresholds", b'{"accuracy": 1' + b"0" * 400 + b"}").status == 400
    # What can be drawn is drawn, however far off.
    assert writing.get("/api/view?threshold.accuracy=1e300").status == 200
    assert writing.get("/api/plots?threshold.accuracy=-1e300").status == 200


def raw(page: Any, text: bytes) -> bytes:
    """The status line that answers to bytes that no client library would send."""
    host, _, port = page.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(text)
        return connection.recv(65536).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"9" * 5000, b"413"), (b"\xb2", b"413"), (b"-1", b"413"), (b"1e3", b"413"), (b"", b"413")],
)
def test_lengths_that_are_none_are_refused(writing: Any, length: bytes, status: bytes) -> None:
    head = b"POST /api/thresholds HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    assert status in raw(writing, head + length + b"\r\n\r\n")


def test_address_that_is_none_is_refused(page: Any) -> None:
    assert b"400" in raw(page, b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_fault_is_answered_and_the_page_goes_on(
    page: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("some fault")

    with monkeypatch.context() as patched:
        patched.setattr("gossamer.dashboard.view.trials", broken)
        answer = page.get("/api/trials")
    assert answer.status == 500
    assert "ZeroDivisionError: some fault" in answer.json["error"]
    assert "Traceback" in caplog.text
    assert page.get("/api/trials").status == 200


def replaced(path: Path, how: str) -> None:
    if how == "renamed":
        path.rename(path.with_name("other.db"))
    elif how == "deleted":
        path.unlink()
    else:
        shutil.copy(path, path.with_name("new.db"))
        path.with_name("new.db").replace(path)


@pytest.mark.parametrize("how", ["renamed", "deleted", "replaced"])
def test_a_replaced_database_is_an_error(
    writing: Any, storage: str, tmp_path: Path, how: str
) -> None:
    assert writing.get("/api/view").status == 200
    path = tmp_path / "copy.db"
    replaced(path, how)
    assert writing.post("/api/thresholds", {"accuracy": 0.5}).status == 503
    time.sleep(0.6)  # until the trials are read again
    for address in ("/api/view", "/api/trials", "/export.csv"):
        answer = writing.get(address)
        assert answer.status == 503
        assert "was renamed, deleted or replaced" in answer.json["error"]
    for kept in tmp_path.glob("*.db"):
        assert thresholds(f"sqlite:///{kept}") == {"accuracy": 0.92, "density": 0.35}
    if how == "renamed":
        path.with_name("other.db").rename(path)
        assert writing.get("/api/view").status == 200


def test_a_database_overwritten_in_place_is_an_error(
    database: Path, storage: str, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    experiment = Experiment.from_storage(storage)
    experiment.tell(experiment.ask(), {"accuracy": 0.98, "density": 0.1})
    with serve(storage) as page:
        (tmp_path / "copy.db").write_bytes(database.read_bytes())
        time.sleep(0.6)
        answer = page.get("/api/view")
        assert answer.status == 503
        assert "has lost trials" in answer.json["error"]


def test_another_experiment_copied_over_the_file_is_an_error(
    database: Path, storage: str, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    """It has the same name, the same place on the disk, and more trials."""
    described = Experiment.from_storage(storage)
    other = Experiment(
        described.name,
        described.parameters,
        described.metrics,
        sampler="random",
        storage=f"sqlite:///{tmp_path / 'other.db'}",
    )
    for _ in range(len(described.trials()) + 3):
        other.tell(other.ask(), {"accuracy": 0.98, "density": 0.1})
    with serve(storage) as page:
        assert page.get("/api/view").status == 200
        (tmp_path / "copy.db").write_bytes((tmp_path / "other.db").read_bytes())
        time.sleep(0.6)
        answer = page.get("/api/view")
        assert answer.status == 503
        assert "was overwritten with another experiment" in answer.json["error"]


def test_many_connections_that_say_nothing_keep_nobody_out(page: Any) -> None:
    many = 1_300
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 2 * many + 200 > most:
        pytest.skip(f"only {most} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 2 * many + 200), most))
    host, _, port = page.host.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            connection = socket.create_connection((host, int(port)), timeout=60)
            stack.callback(connection.close)
        begun = time.perf_counter()
        assert page.get("/api/view").status == 200
        assert time.perf_counter() - begun < 10


@pytest.fixture
def several(storage: str) -> str:
    """A storage of four experiments, one of them not readable, and of a foreign study."""
    for name, metric in (("other/one, ü", "time"), ("..", "time"), ("later", "time")):
        made = Experiment(
            name, [Float("x", 0.0, 1.0)], [Minimize(metric)], storage=storage, sampler="random"
        )
        made.tell(made.ask(), {metric: 2.5})
    study = optuna.load_study(study_name="later", storage=storage)
    study.set_user_attr(DEFINITION, {"parameters": 3})
    optuna.create_study(study_name="foreign", storage=storage)
    return storage


def test_several_experiments_stand_side_by_side(several: str, serve: Callable[..., Any]) -> None:
    with serve(several, write=True) as page:
        answer = page.get("/")
        text = answer.body.decode()
        assert text.startswith("<!doctype html>")
        assert "4 experiments" in text
        assert "some &lt;b&gt;trials&lt;/b&gt;" in text
        assert "foreign" not in text
        assert page.get("/", If_None_Match=answer.headers["ETag"]).status == 304
        links = re.findall(r'href="(/experiment:[^"]*/)"', text)
        assert len(links) == 4
        assert "/experiment:other%2Fone%2C%20%C3%BC/" in links
        shown = {page.get(link + "api/view").json.get("name") for link in links}
        assert shown == {"some <b>trials</b>", "other/one, ü", "..", None}  # None: not readable
        some = next(link for link in links if "some" in link)
        assert b'<a href="/"' in page.get(some).body
        assert page.get(some + "api/view").json["frontier"] == [2, 1]
        assert page.post(some + "api/thresholds", {"accuracy": 0.96}).json["frontier"] == [2]
        assert page.get(some + "export.csv").status == 200
        for wrong in ("/api/view", "/export.csv", "/experiment:some/", some + "nothing"):
            assert page.get(wrong).status in (400, 404), wrong
        assert page.post("/api/thresholds", {"accuracy": 0.5}).status == 404


def test_new_experiments_and_trials_appear_side_by_side(
    several: str, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.dashboard.sites._LISTED_SECONDS", 0.0)
    with serve(several) as page:
        added = Experiment(
            "new",
            [Float("x", 0.0, 1.0)],
            [Minimize("time", 3.0)],
            storage=several,
            sampler="random",
        )
        added.tell(added.ask(), {"time": 1.25})
        text = page.get("/").body.decode()
        assert "5 experiments" in text
        assert "1.25" in text


def test_one_of_several_by_its_name(several: str, serve: Callable[..., Any]) -> None:
    with serve(several, name="..") as page:
        assert page.get("/api/view").json["name"] == ".."
        assert page.get("/experiment:other/").status == 404
        assert b'href="/"' not in page.get("/").body


def test_view_helps_to_choose(page: Any) -> None:
    view = page.get("/api/view").json
    assert [trial["number"] for trial in view["choice"]["trials"]] == [2, 1]
    assert view["choice"]["knee"] is None  # of two trials
    assert view["choice"]["steps"][0]["changes"][0]["price"] == "+0.05"
    assert view["beside"] == ["loss"]
    assert page.get("/api/view?threshold.accuracy=0.96").json["choice"] is None
    rows = page.get("/api/trials").json
    assert rows[0]["missed"] == ["accuracy"]
    assert rows[0]["texts"]["value:loss"] == "0.5"


def test_files_of_a_trial_are_served_and_nothing_else(
    storage: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "a curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "train.log").write_text("<script>epoch 1</script>")
    (tmp_path / "state.bin").write_bytes(bytes(2_000))
    experiment = Experiment.from_storage(storage)
    trial = experiment.ask()
    for name in ("a curve.svg", "train.log", "state.bin"):
        trial.attach(tmp_path / name)
    experiment.tell(trial, {"accuracy": 0.5, "density": 0.5})
    with serve(storage) as page:
        row = page.get("/api/trials").json[trial.number]
        assert row["files"] == [
            {"name": "a curve.svg", "kind": "image", "size": "41 B"},
            {"name": "state.bin", "kind": "other", "size": "2 kB"},
            {"name": "train.log", "kind": "text", "size": "24 B"},
        ]
        at = f"/files/{trial.number}/"
        image, log = page.get(at + "a%20curve.svg"), page.get(at + "train.log")
        assert image.headers["Content-Type"] == "image/svg+xml"
        assert log.headers["Content-Type"].startswith("text/plain")
        assert log.body == b"<script>epoch 1</script>"
        other = page.get(at + "state.bin")
        assert other.headers["Content-Disposition"] == 'attachment; filename="state.bin"'
        for answer in (image, log, other):
            assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src")
        for wrong in ("../../copy.db", "%2e%2e%2f%2e%2e%2fcopy.db", "", "train.log/", "state"):
            assert page.get(at + wrong).status == 404, wrong
        assert page.get("/files/0/train.log").status == 404


def test_exported_files_are_named_without_their_place():
    files = (TrialFile("curve.png", "image", 9, "/home/someone/curve.png"),)
    trial = TrialRecord(0, "complete", {"x": 1}, {"a": 1.0}, None, 1.0, files=files)
    snapshot = Snapshot("s", (Maximize("a"),), trials=(trial,))
    exported = json.loads(export_json(snapshot))["trials"][0]["files"]
    assert exported == [{"name": "curve.png", "kind": "image", "bytes": 9}]
