"""What a run directory may do, and what must leave it alone."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from gossamer.data import arrays, load
from gossamer.errors import UserError
from gossamer.models import mlp, reference
from gossamer.training import EXAMPLES, Recipe, folder_for, load_recipe, train
from gossamer.training.folder import exclusive
from gossamer.training.initial import load_weights

MLP = ["train", "data.npz", "--model", "mlp"]
NARROW = ["train", "data.npz", "--model", "narrow.py:build"]
SETTINGS = {"hidden": 8, "epochs": 1, "batch_size": 16, "device": "cpu"}
EVIL = """
from gossamer.models import mlp as build
open("ran", "w").close()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on arrays that have no file, and those arrays."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    task = arrays((rng.normal(size=(60, 12, 12)).astype(np.float32), y), name="mine")
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(Recipe("mine", "mlp", SETTINGS), task).save(folder)
    return folder, task


@pytest.fixture
def run(trained, place):
    return shutil.copytree(trained[0], place / "run")


def one_line(result, *messages):
    status, _, err = result
    assert (status, err.strip().count("\n")) == (2, 0)
    for part in messages:
        assert part in err


def test_a_received_run_is_exported_without_running_its_code(place, run, gossamer):
    (place / "evil.py").write_text(EVIL)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('"mlp"', '"evil.py:build"'))
    status, out, err = gossamer("export", "run", "-o", "a.onnx")
    assert (status, err) == (0, "")
    assert "as training wrote it" in out
    assert (place / "a.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    messages = ("is Python code, evil.py:build", "--trust")
    one_line(gossamer("export", "run", "--int8", "-o", "b.onnx"), *messages)
    one_line(gossamer("robustness", "run"), *messages)
    load_weights(mlp(3, input_shape=(1, 12, 12), hidden=8), run)  # what --init does
    assert not (place / "ran").exists()
    (run / "model.onnx").unlink()
    one_line(gossamer("export", "run", "-o", "b.onnx"), "run: has no model.onnx")
    assert gossamer("export", "run", "--trust", "-o", "b.onnx")[0] == 0
    assert (place / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.int32), "is int32 [8, 144] in the file, float32 [8, 144]"),
        (lambda t: t * torch.nan, "holds NaN"),
    ],
)
def test_damaged_weights_are_refused(place, run, gossamer, change, message):
    file = run / "model.safetensors"
    tensors = load_file(file)
    with file.open("rb") as raw:
        head = json.loads(raw.read(int.from_bytes(raw.read(8), "little")))
    tensors["model.linear1.weight"] = change(tensors["model.linear1.weight"])
    save_file(tensors, file, head["__metadata__"])
    where = f"'linear1.weight' {message}"
    one_line(gossamer("export", "run"), "model.safetensors", where)
    init = ["--init", "run", "--set", "hidden=8", "--out", "b"]
    one_line(gossamer(*MLP, *init), "model.safetensors", where)


def test_several_runs_teach(place, run, gossamer):
    shutil.copytree(run, place / "other")
    few = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    both = [*MLP, *few, "--teacher", "run", "--teacher", "other", "--out", "taught"]
    assert gossamer(*both)[0] == 0
    assert load_recipe(place / "taught").settings["teacher"] == ["run", "other"]
    one_line(gossamer(*both[:-3], "gone", "--out", "b"), "gone is not a run directory")


def test_one_training_at_a_time_writes_to_a_folder(place, gossamer):
    hold = "from filelock import FileLock; lock = FileLock('run/.lock'); lock.acquire()"
    (place / "run").mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(flush=True); import time; time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.read(1) == b"\n"
        one_line(gossamer(*MLP, "--out", "run"), "another training is writing to run")
        assert [path.name for path in (place / "run").iterdir()] == [".lock"]
        other.send_signal(signal.SIGKILL)
    finally:
        other.kill()
        other.communicate()
    with folder_for(place / "run") as folder:
        one_line(gossamer(*MLP, "--out", "run"), "another training is writing to run")
    assert not list(folder.iterdir()), "no lock is left"


def test_a_checkpoint_is_written_by_one_training_at_a_time(trained, tmp_path):
    file = tmp_path / "c.safetensors"
    recipe = Recipe("mine", "mlp", SETTINGS)
    with (
        exclusive(file),
        pytest.raises(UserError, match="another training is writing"),
    ):
        train(recipe, trained[1], checkpoint=file)
    train(recipe, trained[1], checkpoint=file)
    assert list(tmp_path.iterdir()) == [file]


def test_a_network_imports_the_modules_beside_it(tmp_path):
    for folder, hidden in (("one", 3), ("two", 5), ("one", 3)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "net.py").write_text(
            "from layers import make\ndef build(classes, input_shape):\n    return make(classes)\n"
        )
        (tmp_path / folder / "layers.py").write_text(
            f"from torch import nn\ndef make(classes):\n    return nn.Linear(classes, {hidden})\n"
        )
        build = reference(f"{tmp_path / folder}/net.py:build").build
        assert build(classes=2, input_shape=(1,)).out_features == hidden


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MLP, "--set", "hidden=[16,16]"], "hidden"),
        ([*MLP, "--set", "epochs=1e99"], "epochs must be between 0 and 1000000"),
        ([*MLP, "--set", "batch_size=1e99"], "batch_size must be between"),
        ([*MLP, "--set", "patience=1e99"], "patience must be between"),
        ([*NARROW, "--set", "int8=true"], "cannot take inputs [batch, 1, 12"),
    ],
)
def test_settings_that_cannot_be(place, gossamer, arguments, message):
    (place / "narrow.py").write_text(
        "from torch import nn\ndef build(classes, input_shape, hidden=3):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(100, classes))\n"
    )
    one_line(gossamer(*arguments), message)


def test_a_run_on_data_that_are_gone_is_exported_in_8_bits(trained, place, run, gossamer):
    task = trained[1]
    np.testing.assert_array_equal(np.load(run / EXAMPLES), task.features(task.train.x))
    status, _, err = gossamer("export", "run", "--int8", "-o", "b.onnx")
    assert (status, err) == (0, "")
    kinds = {tensor.data_type for tensor in onnx.load(place / "b.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_hugging_faces_cache_of_links(place, run, gossamer):
    blobs, snapshot = place / "models--a/blobs", place / "models--a/snapshots/1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate([*run.iterdir(), place / "data.npz"]):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert gossamer("export", snapshot, "--int8", "-o", "b.onnx")[0] == 0
    assert gossamer("export", snapshot, "--c", "-o", "b.c")[0] == 0
    assert len(load(snapshot / "data.npz").train) == 120
    Recipe("mine", "mlp", {**SETTINGS, "init": str(snapshot)}).network(3, (1, 12, 12))
