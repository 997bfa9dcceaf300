import subprocess
import sys

import numpy as np
import pytest

import gossamer.data
from gossamer.data import TASKS, load
from gossamer.errors import UserError


def test_names():
    assert list(TASKS) == ["spoken_words", "speech_commands", "mnist", "spoken_digits"]
    for name in gossamer.data.__all__:
        assert hasattr(gossamer.data, name)
    assert all(TASKS[name] is getattr(gossamer.data, name) for name in TASKS)


def test_an_unknown_task_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown task 'mnst': did you mean 'mnist'\?.*\.npz"):
        load("mnst")


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(UserError, match=r"spoken_words has no option 'clip': did you mean 'clips'"):
        load("spoken_words", clip=100)
    with pytest.raises(UserError, match="takes no options"):
        load("own.npz", clips=100)


def test_a_path_loads_an_npz(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x_train=rng.random((40, 5)), y_train=np.arange(40) % 4)
    task = load(tmp_path / "mine.npz")
    assert task.name == "mine"
    assert task.input_shape == (5,)


def test_importing_the_data_room_does_not_import_torch():
    program = "import sys, gossamer.data; print(sorted({'torch', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
