"""The commands that run networks, as they are typed."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import threading

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, save
from torch import nn

from gossamer.deploy import Choice
from gossamer.nn import KWinners, export


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network with k-winners, exported once."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(100, 20), KWinners(20, 0.25), nn.Linear(20, 3))
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    return export(model, torch.randn(2, 1, 12, 12), path)


def strict(text):
    """JSON as its standard has it: without the words that Python adds."""

    def refuse(word):
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def files(place, network):
    """The network as ``model.onnx`` and an input ``x.npy`` for it."""
    shutil.copy(network, place / "model.onnx")
    x = np.random.default_rng(0).standard_normal((5, 1, 12, 12)).astype(np.float32)
    np.save(place / "x.npy", x)
    return place


def test_run_writes_what_onnxruntime_computes(files, gossamer):
    # With one plan for both runs: other kernels round otherwise.
    status, out, err = gossamer(
        "run", "model.onnx", "--input", "x.npy", "--output", "y.npy", "--plan", "plan.json"
    )
    assert (status, err) == (0, "")
    assert "y.npy" in out
    assert "[5, 3]" in out
    session = onnxruntime.InferenceSession(files / "model.onnx")
    (wanted,) = session.run(None, {"input": np.load("x.npy")})
    np.testing.assert_allclose(np.load("y.npy"), wanted, rtol=1e-4, atol=1e-5)
    status, out, _ = gossamer(
        "run", "model.onnx", "--input", "x.npy", "--output", "z.npz", "--threads", 1,
        "--plan", "plan.json", "--json",
    )  # fmt: skip
    result = json.loads(out)
    assert (status, result["shapes"], result["threads"]) == (0, {"output": [5, 3]}, 1)
    np.testing.assert_array_equal(np.load("z.npz")["output"], np.load("y.npy"))
    assert json.loads((files / "plan.json").read_text())["single"]


def test_run_says_that_outputs_are_nan(files, gossamer):
    x = np.load("x.npy")
    x[1, 0, 0, 0] = np.nan
    np.save("x.npy", x)
    status, _, err = gossamer("run", "model.onnx", "--input", "x.npy", "--output", "y.npy")
    assert (status, err) == (0, "gossamer: output: 3 of 15 numbers are NaN\n")


@pytest.mark.parametrize("command", ["run", "profile", "bench"])
def test_a_plan_of_another_machine_is_reported_and_renewed(files, gossamer, command):
    more = {
        "run": ["--input", "x.npy", "--output", "y.npy"],
        "profile": [],
        "bench": ["--turns", 3],
    }[command]
    call = [command, "model.onnx", *more, "--threads", 1, "--plan", "plan.json", "--json"]
    status, _, err = gossamer(*call)
    assert (status, err) == (0, "")
    plan = json.loads((files / "plan.json").read_text())
    (files / "plan.json").write_text(json.dumps({**plan, "machine": "Abacus"}))
    status, _, err = gossamer(*call)
    assert status == 0
    assert err.startswith("plan.json: was made for another machine (Abacus); ")
    assert err.count("\n") == 1
    assert json.loads((files / "plan.json").read_text())["machine"] == plan["machine"]
    assert gossamer(*call)[2] == ""


def test_profile_names_every_layer(files, gossamer):
    status, out, err = gossamer("profile", "model.onnx", "--batch", 3, "--json", "--threads", 1)
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["batch"], result["threads"]) == (3, 1)
    assert result["total"]["dense_macs"] == 4 * 9 * 100 + 100 * 20 + 20 * 3
    assert result["limits"]["macs"] > 0
    assert result["call_seconds"] > 0
    assert all(layer["kernel"] and layer["limit_share"] > 0 for layer in result["layers"])
    status, out, _ = gossamer("profile", "model.onnx", "--input", "x.npy")
    assert status == 0
    assert "winners" in out
    assert "batch 5" in out


def test_profile_forecasts_what_zeros_would_gain(files, gossamer, monkeypatch):
    module = importlib.import_module("gossamer.deploy.forecast")
    monkeypatch.setattr(module, "CHOICES", (Choice(0.9, 1), Choice(0.9, 1, True)))
    call = ["profile", "model.onnx", "--forecast", "--threads", 1]
    before = set(files.iterdir())
    status, out, err = gossamer(*call, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    sparse = [layer for layer in result["layers"] if not layer["dense"]]
    assert [layer["operation"] for layer in sparse] == ["conv", "linear", "linear"]
    assert all(gain > 0 for layer in sparse for gain in layer["faster"])
    assert all(gain > 0 for gain in result["faster"])
    assert sum(layer["share"] for layer in result["layers"]) == pytest.approx(1)
    status, out, _ = gossamer(*call, "--input", "x.npy")
    assert status == 0
    assert "batch 5" in out
    assert "whole network" in out
    status, _, err = gossamer(*call, "--plan", "plan.json")
    assert (status, err.count("\n")) == (2, 1)
    assert "leave out --plan" in err
    assert set(files.iterdir()) == before


def test_json_holds_no_words_that_json_lacks(files, gossamer, monkeypatch):
    """Another runtime's NaN beside the engine's number is an infinite difference."""
    module = importlib.import_module("gossamer.deploy.bench")
    monkeypatch.setattr(module, "_difference", lambda outputs, expected: float("inf"))
    arguments = ("bench", "model.onnx", "--turns", 3, "--threads", 1)
    status, out, err = gossamer(*arguments, "--json")
    assert (status, err) == (0, "")
    differences = {c["network"]: c["difference"] for c in strict(out)["contestants"]}
    assert differences == {"file": "Infinity", "dense": None}
    status, out, _ = gossamer(*arguments)
    assert status == 0
    assert " inf " in out


def test_bench_stands_beside_the_peers(files, gossamer):
    status, out, err = gossamer(
        "bench", "model.onnx", "--against", "onnxruntime, torch", "--turns", 3, "--json",
        "--threads", 1,
    )  # fmt: skip
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert [(c["name"], c["network"]) for c in result["contestants"]] == [
        ("gossamer", "file"),
        *((peer, network) for network in ("dense", "file") for peer in ("onnxruntime", "torch")),
    ]
    assert all(c["difference"] < 1e-4 for c in result["contestants"][3:])
    assert list(result["ratios"]) == ["dense", "file"]
    assert list(result["ratios"]["dense"]) == ["onnxruntime", "torch"]
    assert result["machine"]
    status, out, _ = gossamer("bench", "model.onnx", "--turns", 3, "--batch", 2)
    assert status == 0
    rows = [line.split()[:2] for line in out.splitlines() if "onnxruntime" in line]
    assert rows == [["onnxruntime", "dense"], ["onnxruntime", "file"]]


@pytest.mark.parametrize(
    ("more", "batch"), [([], 5), (["--batch", 1], 1), (["--batch", 7], 7), (["--batch", 2], 2)]
)
def test_the_batch_of_examples_from_a_file(files, gossamer, more, batch):
    for command in (["profile"], ["bench", "--turns", 3]):
        status, out, err = gossamer(
            command[0], "model.onnx", "--input", "x.npy", *more, *command[1:], "--json"
        )
        assert (status, err) == (0, "")
        assert json.loads(out)["batch"] == batch


BAD = [
    (["run", "none.onnx", "--input", "x.npy", "--output", "y.npy"], "none.onnx: cannot be read"),
    (["run", "x.npy", "--input", "x.npy", "--output", "y.npy"], "not an ONNX model"),
    (["run", "model.onnx", "--input", "none.npy", "--output", "y.npy"], "none.npy: cannot be"),
    (["run", "model.onnx", "--input", "net.py", "--output", "y.npy"], "numpy.save"),
    (["run", "model.onnx", "--input", "bad.npy", "--output", "y.npy"], "wanted [batch, 1, 12, 12]"),
    (["run", "model.onnx", "--input", "two.npz", "--output", "y.npy"], "no array 'input'"),
    (
        ["run", "model.onnx", "--input", "object.npy", "--output", "y.npy"],
        "not an array of numbers",
    ),
    (
        ["run", "model.onnx", "--input", "x.npy", "--output", "none/y.npy"],
        "cannot write none",
    ),
    (["run", "model.onnx", "--input", "x.npy"], "--output"),
    (["run", "model.onnx", "--input", "x.npy", "--output", "y", "--threads", "0"], "--threads"),
    (["run", "model.onnx", "--input", "minus.npy", "--output", "y.npy"], "numpy.save"),
    (["run", "model.onnx", "--input", "x.npy", "--output", ""], "not the name of a file"),
    (["profile", "none.onnx"], "none.onnx"),
    (["profile", "."], ".: cannot be read (a folder, not a file; give model.onnx)"),
    (["bench", "."], ".: cannot be read (a folder, not a file; give model.onnx)"),
    (["profile", ".."], "..: cannot be read (a folder, not a file)"),
    (["profile", "model.onnx", "--batch", "10000000000"], "--batch"),
    (["profile", "model.onnx", "--batch", "0"], "--batch"),
    (["profile", "model.onnx", "--input", "empty.npy"], "batch is empty"),
    (["bench", "model.onnx", "--against", "onnxrutime"], "did you mean 'onnxruntime'"),
    (["bench", "model.onnx", "--against", ","], "names no peer"),
    (["bench", "none.onnx"], "none.onnx"),
    (["profile", "model.onnx", "--shape", "input=1,1,9"], "does not fit input 'input'"),
    (["bench", "model.onnx", "--shape", "y=1,1,12,12"], "for input 'y'"),
    (["profile", "model.onnx", "--shape", "input=1,one"], "--shape input=1,one: write it as"),
    (["profile", "model.onnx", "--shape", "a=1", "--shape", "a=2"], "--shape a appears twice"),
    (["bench", "model.onnx", "--value", "y=3"], "a value for input 'y'"),
    (["profile", "model.onnx", "--value", "input=[1]"], "--value input=[1]: write it as sr=16000"),
    (["bench", "model.onnx", "--input", "empty.npy"], "batch is empty"),
]


def test_a_shape_fixes_what_the_file_leaves_free(files, gossamer):
    options = ["--shape", "input=3,1,12,12", "--threads", "1", "--json"]
    status, out, _ = gossamer("bench", "model.onnx", "--batch", "3", "--turns", "3", *options)
    assert (status, json.loads(out)["batch"]) == (0, 3)
    status, _, err = gossamer("profile", "model.onnx", "--batch", "2", *options)
    assert status == 2
    assert "fixed at 3" in err


def test_a_value_makes_an_input_a_constant_for_peers_too(place, gossamer):
    node = helper.make_node("Mul", ["x", "by"], ["y"])
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3]), ("by", []), ("y", [1, 3]))
    ]
    save(helper.make_model(helper.make_graph([node], "g", infos[:2], infos[2:])), "scaled.onnx")
    options = ["--value", "by=2.5", "--threads", 1, "--json"]
    status, out, err = gossamer("bench", "scaled.onnx", "--turns", "3", *options)
    assert status == 0, err
    assert all(c["difference"] in (None, 0.0) for c in json.loads(out)["contestants"])
    np.save("x.npy", np.array([[1, 2, 4]], np.float32))
    status, _, err = gossamer(
        "run", "scaled.onnx", "--input", "x.npy", "--output", "y.npy", *options
    )
    assert status == 0, err
    np.testing.assert_array_equal(np.load("y.npy"), [[2.5, 5, 10]])


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:60])
def test_a_mistake_is_one_line_and_status_2(files, gossamer, arguments, message):
    np.save("bad.npy", np.zeros((2, 7), np.float32))
    written = (files / "bad.npy").read_bytes()
    (files / "minus.npy").write_bytes(written.replace(b"(2, 7)", b"(-2,7)"))
    np.save("empty.npy", np.zeros((0, 1, 12, 12), np.float32))
    np.savez("two.npz", a=np.zeros(2), b=np.zeros(2))
    np.save("object.npy", np.array([{}]), allow_pickle=True)
    before = sorted(files.iterdir())
    status, out, err = gossamer(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("gossamer: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(files.iterdir()) == before


def test_a_peer_that_is_not_installed_is_named(files, gossamer, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = gossamer("bench", "model.onnx", "--against", "openvino")
    assert status == 2
    assert "pip install openvino" in err


def test_only_a_plain_file_is_replaced_and_no_input(files, gossamer):
    whole = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    (files / "link.npy").symlink_to("x.npy")
    call = ["run", "model.onnx", "--input", "x.npy", "--threads", 1]
    for output in ("model.onnx", "x.npy", "link.npy", "./x.npy"):
        status, out, err = gossamer(*call, "--output", output)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "is read as" in err
    for plan in ("model.onnx", "x.npy"):
        status, _, err = gossamer(*call, "--output", "y.npy", "--plan", plan)
        assert (status, err.count("\n")) == (2, 1)
    assert {path: path.read_bytes() for path in whole} == whole
    assert (files / "link.npy").is_symlink()
    os.mkfifo(files / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((files / "pipe").read_bytes()))
    reader.start()
    status, out, err = gossamer(*call, "--output", "pipe")
    reader.join(30)
    assert (status, out) == (0, "")
    assert err.startswith("pipe: ")
    assert np.load(io.BytesIO(read[0])).shape == (5, 3)


def test_a_batch_that_a_shape_fixes_is_the_default(files, gossamer):
    options = ["--shape", "input=2,1,12,12", "--threads", "1", "--json"]
    status, out, err = gossamer("profile", "model.onnx", *options)
    assert status == 0, err
    assert json.loads(out)["batch"] == 2
    status, out, err = gossamer("bench", "model.onnx", "--turns", "3", *options)
    assert status == 0, err
    assert json.loads(out)["batch"] == 2
    status, _, err = gossamer("profile", "model.onnx", "--batch", "1", *options)
    assert status == 2
    assert "fixed at 2" in err
