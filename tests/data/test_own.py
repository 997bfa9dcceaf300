"""Data in the forms that users have them in."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gossamer.data import Task, load, task_of
from gossamer.errors import UserError

X = np.linspace(-3, 5, 120, dtype=np.float32).reshape(30, 4)
Y = np.arange(30) % 3
DATASET = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
FORMS = {
    "arrays": (X, Y),
    "tensors": (torch.from_numpy(X), torch.from_numpy(Y)),
    "data set": DATASET,
    "loader": DataLoader(DATASET, batch_size=7),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_examples_as_they_are(form):
    task = task_of({"train": FORMS[form], "test": FORMS[form]})
    assert isinstance(task, Task)
    np.testing.assert_array_equal(task.test.x, X)
    np.testing.assert_array_equal(task.test.y, Y)
    np.testing.assert_array_equal(task.features(X), X)
    assert (task.input_shape, len(task.classes)) == ((4,), 3)
    assert len(task.train) + len(task.validation) == 30


def test_splits_by_position_and_a_task_as_it_is():
    task = task_of([(X, Y), (X[:9], Y[:9]), (X[:6], Y[:6])])
    assert (len(task.train), len(task.validation), len(task.test)) == (30, 9, 6)
    assert task_of(task) is task


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, "train is int; give a pair of arrays"),
        ({"training": (X, Y)}, "no split 'training'"),
        ({"test": (X, Y)}, "no examples to train with"),
        ([(X, Y)] * 4, "4 splits"),
        ({"train": iter([])}, "train has no batches"),
        ({"train": iter([X])}, "a batch of train is not a pair"),
    ],
)
def test_what_is_no_data_is_refused(found, message):
    with pytest.raises(UserError, match=message):
        task_of(found, "mine")


def test_a_function_in_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n\n\ndef made():\n    return np.eye(9, 4), np.arange(9) % 3\n\n\n"
        "def broken():\n    raise KeyError('x')\n"
    )
    assert load(f"{path}:made").input_shape == (4,)
    with pytest.raises(UserError, match=r"broken': KeyError: 'x'"):
        load(f"{path}:broken")
    with pytest.raises(UserError, match="has no function 'maed': did you mean 'made'"):
        load(f"{path}:maed")
    with pytest.raises(UserError, match="your own code: leave --data and options out"):
        load(f"{path}:made", tmp_path)


def test_an_npz_as_it_is(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=X, y_train=Y)
    task = load(tmp_path / "x.npz", standardize=False)
    np.testing.assert_array_equal(task.features(X), X)
    assert abs(load(tmp_path / "x.npz").features(X).mean()) < 1.0
