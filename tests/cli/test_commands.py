"""The commands, as they are typed."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

from gossamer import __version__
from gossamer.cli.app import settings_of
from gossamer.kernels.registry import ISAS
from gossamer.search import Experiment

TRAIN = ["train", "data.npz", "--model", "net.py:build"]
SETTINGS = ["--set", "epochs=1", "--set", "batch_size=16", "--set", "device=cpu"]


def test_help_and_version(gossamer, monkeypatch):
    status, out, err = gossamer()
    assert (status, err) == (0, "")
    assert "Usage" in out
    assert gossamer("--help") == (0, out, "")
    for isa in ISAS:
        monkeypatch.setenv("GOSSAMER_ISA", isa)
        assert gossamer("--version") == (0, f"gossamer {__version__} ({isa})\n", "")
    monkeypatch.setenv("GOSSAMER_ISA", "abacus")
    status, _, err = gossamer("--version")
    assert (status, err.count("\n")) == (2, 1)


def test_a_full_disk_is_one_line(place, gossamer, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gossamer.report.named_runs", full)
    status, _, err = gossamer("report", "--compare", "a")
    assert (status, err.count("\n")) == (2, 1)
    assert "No space left on device" in err


# Functions and modules that do not give the network of a 12 x 12 image.
ODD = {
    "raises.py": "raise RuntimeError('boom')",
    "odd.py": """
import torch
def boom(classes, input_shape): raise RuntimeError("boom")
def number(classes, input_shape): return 3
def narrow(classes, input_shape): return torch.nn.Linear(3, 4)
def unlike(classes, input_shape):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 7))
""",
}

BAD = [
    (["trian"], "train"),
    (["train", "--bogus"], "--bogus"),
    (["train"], "name a task and a model"),
    ([*TRAIN, "--trial", "3"], "--from"),
    ([*TRAIN, "--name", "small"], "--from"),
    ([*TRAIN, "--trial", "three"], "--trial"),
    (["train", "spoken_wrods", "--model", "net.py:build"], "'spoken_words'"),
    (["train", "nowhere.npz", "--model", "net.py:build"], "nowhere.npz"),
    (["train", "data.npz", "--model", "speech_cn"], "'speech_cnn'"),
    (["train", "data.npz", "--model", "none.py:build"], "none.py"),
    (["train", "data.npz", "--model", "net.py:biuld"], "'build'"),
    ([*TRAIN, "--set", "epoch=3"], "'epochs'"),
    ([*TRAIN, "--set", "hiden=3"], "'hidden'"),
    ([*TRAIN, "--set", "epochs"], "name=value"),
    ([*TRAIN, "--set", "=3"], "name=value"),
    ([*TRAIN, "--set", "epochs=3", "--set", "epochs=4"], "twice"),
    ([*TRAIN, "--set", "epochs=none"], "epochs"),
    ([*TRAIN, "--set", "weight_density=0"], "above 0"),
    ([*TRAIN, "--set", "weight_density.linear=0.1"], "'linear1'"),
    ([*TRAIN, "--set", "batch_size=500"], "batch_size"),
    ([*TRAIN, "--out", "net.py/run"], "net.py"),
    ([*TRAIN, "--out", "one", "--out", "two"], "--out appears twice; remove one"),
    (["bench", "m.onnx", "--against", "torch", "--against", "openvino"], "--against appears twice"),
    (["trials", "list", "x.db", "--name", "a", "--name", "b"], "--name appears twice"),
    ([*TRAIN, "--threads", "1_0"], "--threads 1_0: write numbers without '_'"),
    ([*TRAIN, "--set", "epochs=1_0"], "--set epochs=1_0: write numbers without '_'"),
    ([*TRAIN, "--set", "channels=8,1_6"], "--set channels=8,1_6: write numbers without '_'"),
    (["compress", "run", "data.npz", "--minutes", "1_0"], "--minutes 1_0: write numbers without"),
    (["bench", "m.onnx", "--shape", "x=1_0,3"], "--shape x=1_0,3: write numbers without '_'"),
    (["trials", "delete", "x.db", "2", "1_0"], "1_0: write numbers without '_'"),
    ([*TRAIN, "--set", "device=cup"], "cuda:N"),
    ([*TRAIN, "--data", "."], "leave the folder . out"),
    (
        ["train", "data.npz", "--model", "speech_cnn", "--set", "hidden=0"],
        "hidden must be a whole number of at least 1",
    ),
    ([*TRAIN, "--set", "seed=1e30"], "seed must be between 0 and"),
    ([*TRAIN, "--init", "nowhere"], "nowhere is not a run directory"),
    (["train", "data.npz", "--model", "raises.py:build"], "RuntimeError: boom"),
    (["train", "data.npz", "--model", "odd.py:boom"], "RuntimeError: boom"),
    (["train", "data.npz", "--model", "odd.py:number"], "gives int, not a torch.nn.Module"),
    (["train", "data.npz", "--model", "odd.py:narrow"], "cannot take inputs [batch, 1, 12, 12]"),
    (["train", "data.npz", "--model", "odd.py:unlike"], "gives [2, 7] for two examples"),
    (["train", "far.npz", "--model", "net.py:build"], "label 2000000000"),
    (["train", "--from", "missing.toml"], "missing.toml"),
    (["search", "missing.toml"], "missing.toml"),
    (["frontier", "missing.toml"], "missing.toml"),
    (["frontier", "sqlite:///missing.db"], "missing.db"),
    (["frontier", "sqlite:///empty.db"], "no experiment yet"),
    (["report", "missing"], "missing"),
    (["export", "."], "not a run directory"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:50])
def test_a_mistake_is_one_line_and_status_2(place, gossamer, arguments, message):
    for name, text in ODD.items():
        (place / name).write_text(text)
    arrays = dict(np.load(place / "data.npz"))
    np.savez(place / "far.npz", **{**arrays, "y_train": arrays["y_train"] * 10**9})
    (place / "empty.db").touch()
    before = sorted(place.iterdir())
    status, out, err = gossamer(*arguments)
    assert (status, out.strip()) == (2, "")  # a progress bar clears its line
    assert err.startswith("gossamer: ")
    assert err.count("\n") == 1
    assert message in err
    assert [path for path in sorted(place.iterdir()) if path.name != "__pycache__"] == before
    assert not (place / "empty.db").read_bytes()


@pytest.mark.parametrize("name", ["plan.json", "model.onnx", "metrics.json"])
def test_a_folder_in_the_place_of_a_runs_file_is_refused_before_training(place, gossamer, name):
    (place / "run" / name).mkdir(parents=True)
    status, out, err = gossamer(*TRAIN, *SETTINGS, "--out", "run")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"cannot write run/{name}: Is a directory" in err
    assert [path.name for path in (place / "run").iterdir()] == [name]


def test_a_compression_does_not_lose_its_network(place, gossamer):
    (place / "out").mkdir()
    (place / "out" / "experiment.toml").write_text("")
    status, _, err = gossamer(*TRAIN, *SETTINGS, "--out", "out")
    assert (status, err.count("\n")) == (2, 1)
    assert "out holds a compression, whose model.onnx would be lost; choose another --out" in err


def test_train_export_report(place, gossamer):
    status, out, err = gossamer(*TRAIN, *SETTINGS, "--out", "runs/a", "--json")
    assert (status, err) == (0, "")
    metrics = json.loads(out)
    assert metrics == json.loads((place / "runs/a/metrics.json").read_text())
    files = {"config.toml", "examples.npy", "metrics.json", "plan.json"}
    files |= {"model.onnx", "model.safetensors"}
    assert {path.name for path in (place / "runs/a").iterdir()} == files
    assert metrics["weights"]["density"] == 1.0
    sparse = ["--set", "weight_density=0.2", "--out", "runs/b"]
    status, out, _ = gossamer(*TRAIN, *SETTINGS, *sparse)
    assert status == 0
    assert "runs/b" in out

    status, out, err = gossamer(*TRAIN, *SETTINGS, "--out", "runs/a")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "finished run" in err

    status, out, err = gossamer("export", "runs/b", "-o", "b.onnx")
    assert (status, err) == (0, "")
    assert f"{(place / 'b.onnx').stat().st_size:,} bytes" in out
    for calibration in ([], ["--calibrate", "x.npy"]):
        np.save(place / "x.npy", np.ones((4, 1, 12, 12), np.float32))
        status, out, err = gossamer(
            "export", "runs/b", "--int8", "--trust", *calibration, "-o", "b8.onnx"
        )
        assert (status, err) == (0, "")
        kinds = {tensor.data_type for tensor in onnx.load(place / "b8.onnx").graph.initializer}
        assert onnx.TensorProto.INT8 in kinds
        assert f"in 32 bits {(place / 'runs/b/model.onnx').stat().st_size:,}" in out
    status, out, err = gossamer("export", "runs/b", "--float16", "--trust", "-o", "b16.onnx")
    assert (status, err) == (0, "")
    kinds = {tensor.data_type for tensor in onnx.load(place / "b16.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert f"in 32 bits {(place / 'runs/b/model.onnx').stat().st_size:,}" in out
    for wrong, message in (
        (np.zeros((4, 1, 12, 12)), "all zero"),
        (np.full((4, 1, 12, 12), 1e200), "NaN or infinity"),
    ):
        np.save(place / "x.npy", wrong)
        status, _, err = gossamer("export", "runs/b", "--int8", "--trust", "--calibrate", "x.npy")
        assert (status, err.count("\n")) == (2, 1)
        assert message in err
    for wrong in (np.zeros((4, 12), "f4"), np.full((4, 1, 12, 12), "a"), np.float32(3)):
        np.save(place / "x.npy", wrong)
        status, _, err = gossamer("export", "runs/b", "--int8", "--trust", "--calibrate", "x.npy")
        assert (status, err.count("\n")) == (2, 1)
        assert "takes numbers [batch, 1, 12, 12]" in err
    status, _, err = gossamer("export", "runs/b", "--calibrate", "x.npy")
    assert (status, err.count("\n")) == (2, 1)
    status, _, err = gossamer("export", "runs/b", "-o", "net.py/b.onnx")
    assert (status, err.count("\n")) == (2, 1)

    status, _, err = gossamer("report", "runs/a", "runs/b", "-o", "page.html")
    assert (status, err) == (0, "")
    page = (place / "page.html").read_text()
    assert page.startswith("<!")
    assert "runs/b" in page or ">b<" in page


def test_search_frontier_train_from(place, experiment, gossamer):
    experiment()
    status, out, err = gossamer("search", "e.toml", "--json")
    assert status == 0
    assert re.match(r"small .*3/3 .*\n  3 inside; best: trial \d, ", err)
    result = json.loads(out)
    assert result["trials"] == {"complete": 3}
    assert result["thresholds"] == {"accuracy": 0.2, "density": 0.9}
    status, out, _ = gossamer("frontier", "e.toml", "--json")
    assert (status, json.loads(out)) == (0, result)
    status, out, _ = gossamer("frontier", "sqlite:///small.db", "--json")
    assert (status, json.loads(out)) == (0, result)
    status, out, _ = gossamer("frontier", "e.toml")
    assert status == 0
    assert "accuracy" in out

    number = result["frontier"][0]["trial"]
    chosen = ["train", "--from", "e.toml", "--trial", number, "--set", "epochs=2"]
    status, out, err = gossamer(*chosen, "--out", "runs/c", "--json")
    assert (status, err) == (0, "")
    settings = json.loads(out)["settings"]
    assert settings["epochs"] == 2
    parameters = result["frontier"][0]["parameters"]
    assert {name: settings[name] for name in parameters} == parameters
    status, _, err = gossamer(*chosen, "--set", "tc_resnet.width=2", "--out", "runs/e")
    assert (status, err.count("\n")) == (2, 1)
    assert "--set tc_resnet.width: the trial's model is 'net.py:build', so this would have" in err
    # The address of a database may come from others; the file is the user's own.
    stored = ["train", "--from", "sqlite:///small.db", "--out", "runs/d", "--set", "epochs=1"]
    status, _, err = gossamer(*stored)
    assert (status, err.count("\n")) == (2, 1)
    assert "is Python code, net.py:build" in err
    assert "--trust" in err
    status, _, err = gossamer(*stored, "--name", "smal")
    assert (status, err.count("\n")) == (2, 1)
    assert "'small'" in err
    assert gossamer(*stored, "--trust", "--name", "small", "--json")[0] == 0
    status, _, err = gossamer("train", "--from", "e.toml", "--trial", 99)
    assert (status, err.count("\n")) == (2, 1)
    assert "99" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, "epochs must be between 0"),
        ({"metric": "acuracy"}, "'accuracy'"),
        ({"parameter": "hiden"}, "'hidden'"),
        ({"parameter": "epochs"}, "'epochs' is in [settings] and in [parameters]"),
        ({"parameter": '"weight_density.linear2"'}, "'linear1'"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_is_stored_and_may_be_corrected(
    place, experiment, gossamer, changes, message
):
    if "density" in changes.get("parameter", ""):
        changes = {**changes, "options": "[0.1, 0.2]"}
    experiment(**changes)
    status, _, err = gossamer("search", "e.toml")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("gossamer: e.toml: ")
    assert message in err
    assert not (place / "small.db").exists()
    experiment(budget=1)
    assert gossamer("search", "e.toml", "--json")[0] == 0


def test_a_diverging_trial_fails_and_the_search_goes_on(place, experiment, gossamer):
    experiment(parameter="poison", options="[0, 1]", budget=8)
    status, out, err = gossamer("search", "e.toml", "--json")
    assert (status, "Traceback" in err) == (0, False)
    states = json.loads(out)["trials"]
    assert states["complete"] + states["failed"] == 8
    for trial in Experiment.from_toml("e.toml").trials():
        if trial.parameters["poison"]:
            assert trial.state == "failed"
            assert "loss became nan in epoch 1" in trial.reason
        else:
            assert trial.state == "complete"


def test_ctrl_c_while_the_commands_load_is_one_line(place):
    """The package that is imported just then is one that raises it."""
    (place / "typer.py").write_text("raise KeyboardInterrupt")
    ended = subprocess.run(
        [sys.executable, "-m", "gossamer", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(place)},
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "gossamer: stopped\n")


def test_an_interrupted_search_goes_on(place, experiment, gossamer):
    experiment(budget=40, epochs=2)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from gossamer.cli import main; main()",
            "search",
            "e.toml",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def complete():
        if not (place / "small.db").exists():
            return []
        return [t for t in Experiment.from_toml("e.toml").trials() if t.state == "complete"]

    try:
        for _ in range(1200):
            if process.poll() is not None or len(complete()) >= 2:
                break
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("gossamer: stopped after")
    assert "again to continue" in err
    before = {t.number: t for t in complete()}
    assert 2 <= len(before) < 40
    status, out, err = gossamer("search", "e.toml", "--json", "--trials", 1)
    assert status == 0, err
    assert json.loads(out)["trials"]["complete"] > len(before)
    after = {t.number: t for t in complete()}
    assert len(after) == len(before) + 1
    assert {number: after[number].values for number in before} == {
        number: t.values for number, t in before.items()
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8,16", [8, 16]),
        ("[8,16]", [8, 16]),
        ("8,", [8]),
        ("0.1,a", "0.1,a"),
        ("a", "a"),
        ("a_1_0", "a_1_0"),
        ("a_1_0,b", "a_1_0,b"),
        ("'1_0'", "1_0"),
        ('1,"1_0"', [1, "1_0"]),
        ("", ""),
        ("1e-3", 0.001),
        ("true", True),
    ],
)
def test_settings_are_written_as_in_toml_or_as_a_shell_lets_them(text, value):
    assert settings_of([f"x = {text}"]) == {"x": value}


@pytest.mark.parametrize(
    ("command", "goes_on"), [("train", True), ("bench", False), ("profile", False)]
)
def test_only_commands_that_go_on_say_so(gossamer, monkeypatch, command, goes_on):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.invoke", interrupted)
    status, _, err = gossamer(command)
    assert status == 130
    assert err == "gossamer: stopped" + "; run the same command again to continue" * goes_on + "\n"
