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


@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_examples_as_they_are(form):
    task = task_of({"train": FORMS[form], "test": FORMS[form]})
    assert isinstance(task, Task)
    np.testing.assert_array_equal(task.test.x, X)
    np.testing.assert_array_equal(task.test.y, Y)
    np.testing.assert_array_equal(task.features(X), X)
    assert (task.input_shape, len(task.classes)) == ((4,), 3)
    assert len(task.train) + len(task.validation) == 30


@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_splits_by_position_and_a_task_as_it_is():
    task = task_of([(X, Y), (X[:9], Y[:9]), (X[:6], Y[:6])])
    assert (len(task.train), len(task.validation), len(task.test)) == (30, 9, 6)
    assert task_of(task) is task


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, "train is int; give a pair of arrays"),
        ("x.csv", "train is str; give a pair of arrays"),
        (X, "train is ndarray; give a pair of arrays"),
        ({"train": (X, Y), "test": {"x": X, "y": Y}}, "test is dict; give a pair of arrays"),
        (
            (X.tolist(), Y.tolist()),
            r"example 0 of train is not a pair .*, but list of 4; .*numpy\.asarray",
        ),
        ({"training": (X, Y)}, "no split 'training'"),
        ({"test": (X, Y)}, "no examples to train with"),
        ([(X, Y)] * 4, r"a list of 4 is read as so many splits; .*\{'train': examples\}"),
        ((X[:20], Y[20:], Y[:20], X[20:]), "a tuple of 4 is read as so many splits"),
        ({"train": iter([])}, "train has no batches"),
        ({"train": iter([X])}, "a batch of train is not a pair .*, but ndarray"),
        ({"train": iter([(X, Y, Y)])}, "a batch of train is not a pair .*, but tuple of 3"),
        (zip(X, Y, strict=True), "train yields single examples; yield batches"),
        (iter([(X, Y), (X[:, :2], Y)]), r"examples of train differ in shape, \(2,\) and \(4,\)"),
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
    with pytest.raises(UserError, match=r"name a function in it: .*mine\.py:FUNCTION"):
        load(path)
    with pytest.raises(UserError, match="your own code: leave --data and options out"):
        load(f"{path}:made", tmp_path)


def test_tensors_that_numpy_has_no_type_for():
    task = task_of((torch.from_numpy(X).bfloat16().requires_grad_(), torch.from_numpy(Y)))
    np.testing.assert_array_equal(task.train.x, torch.from_numpy(task.train.x).bfloat16().float())


def test_images_of_bytes_are_used_as_they_are():
    images = (np.arange(30 * 16) % 251).astype(np.uint8).reshape(30, 4, 4)
    with pytest.warns(UserWarning, match="mine: images of bytes .*, from 0 to 255; .*x / 255"):
        task = task_of((images, Y), "mine")
    assert set(np.unique(task.features(task.train.x))) <= {*map(float, range(256))}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def made(root, size=3, *, seed):", "without arguments, but needs root, seed"),
        ("def made():\n    yield 1 / 0", r"ZeroDivisionError: .*mine\.py, line 2"),
        ("def made():\n    raise SystemExit(3)", r"it exits \(with 3\) .*__name__ == '__main__'"),
        ("raise SystemExit\ndef made():", r"it exits \(with None\)"),
        ("import absent_module\ndef made():", "No module named 'absent_module'"),
        ("def made(:", r"syntax.*\(mine\.py, line 1\)"),
        (
            "class Pictures:\n    def __len__(self):\n        return 9\n"
            "    def __getitem__(self, i):\n        raise OSError('broken.png')\n"
            "def made():\n    return Pictures()\n#",
            r"OSError: broken\.png \(.*mine\.py, line 5\)",
        ),
    ],
)
def test_a_function_that_fails(tmp_path, code, message):
    path = tmp_path / "mine.py"
    path.write_text(f"{code}\n    pass\n" if code.endswith(":") else code)
    with pytest.raises(UserError, match=f"data '.*mine.py:made': .*{message}"):
        load(f"{path}:made")


def test_an_npz_as_it_is(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=X, y_train=Y)
    task = load(tmp_path / "x.npz", standardize=False)
    np.testing.assert_array_equal(task.features(X), X)
    assert abs(load(tmp_path / "x.npz").features(X).mean()) < 1.0
