import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data import arrays, from_dataset, load
from gossamer.data.own import task_of
from gossamer.errors import UserError


def _pair(count=60, shape=(5,), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(3, 2, (count, *shape)), np.arange(count) % classes


def test_three_splits_are_read_unchanged():
    train, validation, test = _pair(60), _pair(9, seed=1), _pair(6, seed=2)
    task = arrays(train, validation, test, classes=["a", "b", "c"], name="mine")
    assert task.name == "mine"
    assert task.classes == ("a", "b", "c")
    assert not task.synthetic
    np.testing.assert_array_equal(task.train.x, train[0])
    np.testing.assert_array_equal(task.validation.x, validation[0])
    np.testing.assert_array_equal(task.test.y, test[1])
    assert task.test.y.dtype == np.int64


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(1, 5), st.booleans())
def test_held_out_examples_are_a_stratified_15_percent(count, classes, has_test):
    x, y = np.arange(count, dtype=float)[:, None], np.arange(count) % classes
    test = (x[:5] + 0.5, np.zeros(5, int)) if has_test else None
    task = arrays((x, y), test=test)
    parts = [task.train, task.validation, *([] if has_test else [task.test])]
    assert sorted(np.concatenate([part.x[:, 0] for part in parts])) == list(range(count))
    for part in parts:
        np.testing.assert_array_equal(part.y, part.x[:, 0] % classes)
    for label in range(classes):
        members = np.sum(y == label)
        for part in parts[1:]:
            assert np.sum(part.y == label) == max(1, round(0.15 * members))
    again = arrays((x, y), test=test)
    np.testing.assert_array_equal(again.validation.x, task.validation.x)


def test_columns_are_standardized_one_by_one():
    x = np.array([[0.0, 100.0, 7.0], [2.0, 300.0, 7.0]] * 10)
    task = arrays((x, np.zeros(20, int)), _pair(3, (3,), 1), _pair(3, (3,), 1, 1))
    out = task.features(x)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:2], [[-1, -1, 0], [1, 1, 0]], atol=1e-6)


def test_noise_of_vectors_is_gaussian_in_units_of_each_column():
    rng = np.random.default_rng(0)
    x = rng.normal(0, [1.0, 50.0], (4_000, 2))
    task = arrays((x, np.arange(4_000) % 2))
    assert task.noise(x, 0.0, rng) is x
    assert task.augment(x, rng) is x
    noise = task.noise(x, 0.3, rng) - x
    np.testing.assert_allclose(noise.std(axis=0), [0.3, 15.0], rtol=0.05)


@pytest.mark.parametrize(("shape", "expected"), [((6, 7), (1, 6, 7)), ((3, 6, 7), (3, 6, 7))])
def test_images_are_treated_as_images(shape, expected):
    task = arrays(_pair(40, shape))
    assert task.input_shape == expected
    assert task.features(task.train.x).shape == (len(task.train), *expected)
    assert task.features(task.train.x).std() == pytest.approx(1, abs=1e-4)
    noisy = task.noise(task.test.x, 0.5, np.random.default_rng(0))
    changed = (noisy != task.test.x.astype(np.float32)).reshape(len(task.test), -1).sum(axis=1)
    assert (changed == int(42 * 0.5) * np.prod(expected) // 42).all()


def test_other_shapes_are_standardized_as_a_whole():
    task = arrays(_pair(40, (2, 3, 4, 5)))
    assert task.input_shape == (2, 3, 4, 5)
    assert task.features(task.train.x).std() == pytest.approx(1, abs=1e-4)


_X, _Y = _pair(30)


def _with(x, at, value):
    x = x.copy()
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((_X, _Y[:-1]), "train has 30 examples but 29 labels"),
        ((_X, _Y + 0.5), "whole numbers"),
        ((_X, _Y - 1), "y holds -1; it must be whole numbers"),
        ((_Y, _X), "x seems to be the labels and y the examples"),
        ((_X[:20], _X[20:]), r"y \(10, 5\): .* x are the examples and y their labels"),
        ((_X, _Y * 2), r"no training example of class 1 \(1\)"),
        ((_X, _Y + 1), r"no training example of class 0 \(0\).*numpy\.unique"),
        ((_X, _Y[:, None]), r"x has shape \(30, 5\), y \(30, 1\).*take y\[:, 0\]"),
        ((_X, np.eye(3)[_Y]), r"one-hot labels take y.argmax\(1\)"),
        ((_X, np.array(["cat", "dog", "é"])[_Y]), r"type <U3; .*numpy.unique\(y, return_inverse"),
        ((_X[:, 0], _Y), r"must be \[N, ...\] and \[N\]"),
        ((_with(_X, (7, 2), np.nan), _Y), r"x\[7\] holds NaN"),
        ((_with(_X, (9, 0), np.inf), _Y), r"x\[9\] holds NaN or infinity"),
        ((_X.astype(str), _Y), "not numbers"),
        ((_X[:0], _Y[:0]), "no examples"),
        ((_X * 1e300, _Y), r"x\[0\] holds NaN or infinity, or a number too large for float32"),
        ((_X, _Y.astype(np.uint64) + np.uint64(2**63)), "whole numbers"),
        ((_X[:5], _Y[:5]), "too few to hold out validation and test"),
    ],
)
def test_bad_arrays(train, message):
    with pytest.raises(UserError, match=message):
        arrays(train)


def test_splits_must_go_together():
    with pytest.raises(UserError, match=r"examples of test have shape \(4,\)"):
        arrays(_pair(), test=_pair(shape=(4,)))
    with pytest.raises(UserError, match="label 2 in train, but only 2 classes are named"):
        arrays(_pair(), classes=["a", "b"])
    with pytest.raises(UserError, match="no training example of class 3"):
        arrays(_pair(), test=_pair(classes=4))


def test_splits_of_other_units():
    """Pixels of bytes to train with, and of 0 to 1 to test."""
    (x, y), (tx, ty) = _pair(shape=(6, 7)), _pair(9, shape=(6, 7))
    pixels = np.clip(x * 64 + 128, 0, 255).astype(np.uint8)
    with pytest.raises(UserError, match=r"pixels of test have a standard deviation of 0\.\d+, "):
        arrays((pixels, y), test=(np.clip(tx / 4 + 0.5, 0, 1), ty))
    arrays((x, y), test=(tx * 10, ty))
    arrays((x, y), test=(np.zeros_like(tx), ty))


def test_features_of_other_units():
    (x, y), (tx, ty) = _pair(shape=(6,)), _pair(9, shape=(6,))
    x[:, 0] = 0
    with pytest.raises(UserError, match=r"features of test have a standard deviation of \d\d\d, "):
        arrays((x, y), test=(tx * 255, ty))
    with pytest.raises(UserError, match=r"those of train \d\d\d: bring them to one scale"):
        arrays((x * 255, y), test=(tx, ty))
    arrays((x, y), test=(tx * [9, 255, 255, 1, 1, 1], ty))  # some are of heavy tails
    arrays((x, y), test=(tx[:1], ty[:1]))


def test_channels_that_seem_to_be_last():
    with pytest.warns(UserWarning, match=r"\(12, 10, 3\) are read as 12 channels .*x\.transpose"):
        arrays(_pair(shape=(12, 10, 3)))
    for shape in ((3, 12, 10), (1, 12, 3), (12, 10)):
        arrays(_pair(shape=shape))


def test_examples_in_two_splits_give_a_warning():
    (x, y), (fresh, labels) = _pair(400), _pair(200, seed=1)
    arrays((x, y), _pair(90, seed=2), (fresh, labels))
    some = np.concatenate([x[:3].astype(np.float64), fresh[3:]])
    with pytest.warns(UserWarning, match="own: 3 of 200 test examples are training examples too"):
        arrays((x, y), _pair(90, seed=2), (some, labels))
    arrays((x, y), _pair(90, seed=2), (np.concatenate([x[:2], fresh[2:]]), labels))  # 1 %
    with pytest.warns(UserWarning, match="own: 200 of 200 test examples are validation examples"):
        arrays((x, y), (fresh, labels), (fresh, labels))
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    with pytest.warns(UserWarning, match="validation examples are training examples too"):
        arrays(twice, test=(fresh, labels))  # held out, while a copy stays
    blank = np.zeros_like(x)
    arrays((blank, y), (blank, y), (blank, y))


def test_npz(tmp_path):
    (x, y), (tx, ty) = _pair(), _pair(9, seed=4)
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=x, y_train=y, x_test=tx, y_test=ty, classes=["a", "b", "c"])
    task = load(path)
    assert task.classes == ("a", "b", "c")
    np.testing.assert_array_equal(task.test.x, tx)
    assert len(task.train) + len(task.validation) == 60


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"x_train": _X}, "key 'y_train' is missing"),
        ({"x_test": _X, "y_test": _Y}, "key 'x_train' is missing"),
        ({"x_train": _X, "y_train": _Y, "x_test": _X}, "key 'y_test' is missing"),
        ({"x_train": _X, "y_trian": _Y}, "unknown key 'y_trian'; did you mean 'y_train'"),
        ({"x_train": np.array([{}, []], object), "y_train": _Y}, "plain arrays"),
        ({"x_train": _X, "y_train": _Y, "classes": np.array("abc")}, r"<U3 of shape \(\); give a"),
        ({"x_train": _X, "y_train": _Y, "classes": np.array([b"a", b"b", b"c"])}, r"\|S1 of shape"),
    ],
)
def test_bad_npz(tmp_path, keys, message):
    np.savez(tmp_path / "bad.npz", **keys)
    with pytest.raises(UserError, match=rf"bad\.npz.*{message}"):
        load(tmp_path / "bad.npz")


@pytest.mark.parametrize("classes", [["a", "a", "b"], ["", "b", ""]])
def test_classes_of_one_name(classes):
    with pytest.raises(UserError, match="give each another name"):
        arrays((_X, _Y), classes=classes)


def test_a_single_class_is_no_task(tmp_path):
    np.savez(tmp_path / "one.npz", x_train=_X, y_train=_Y * 0)
    with pytest.raises(UserError, match="one: all labels are 0; give examples of two classes"):
        load(tmp_path / "one.npz")
    with pytest.raises(UserError, match="own: all labels are 0"):
        task_of((_X, _Y * 0))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no archive"),
        (b"PK\x03\x04 broken", "File is not a zip file"),
        (b"text", "no archive"),
        (b"\x93NUMPY\x01\x00", "no archive"),
    ],
)
def test_no_npz_at_all(tmp_path, content, reason):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.npz: not an \.npz of plain arrays \({reason}\)"):
        load(path)
    np.save(tmp_path / "array.npy", _X)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(UserError, match=r"array\.npz: not an \.npz"):
        load(tmp_path / "array.npz")
    with pytest.raises(UserError, match=r"gone\.npz: no such file"):
        load(tmp_path / "gone.npz")


class _Dataset:
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_from_dataset():
    (x, y), test = _pair(30), _pair(9, seed=1)
    task = from_dataset(_Dataset(list(zip(x, y, strict=True))), test=list(zip(*test, strict=True)))
    np.testing.assert_array_equal(task.test.x, test[0])
    assert len(task.train) + len(task.validation) == 30


def test_bad_datasets():
    with pytest.raises(UserError, match="example 1 of train is not a pair"):
        from_dataset(_Dataset([(np.zeros(2), 0), np.zeros(3)]))
    with pytest.raises(UserError, match=r"differ in shape, \(2,\) and \(3,\)"):
        from_dataset(_Dataset([(np.zeros(2), 0), (np.zeros(3), 1)]))
    with pytest.raises(UserError, match="no examples in train"):
        from_dataset(_Dataset([]))


def test_torch_tensors_are_read():
    import torch

    x = torch.arange(120.0).reshape(3, 20, 2)
    data, *others = (torch.utils.data.TensorDataset(x[i], torch.arange(20) % 2) for i in range(3))
    task = from_dataset(data, *others)
    assert task.train.x.tolist() == x[0].tolist()
    assert task.test.x.tolist() == x[2].tolist()
    assert task.train.y.tolist() == [0, 1] * 10
