import gzip
import struct
import sys

import numpy as np
import pytest

from gossamer.data import load, mnist
from gossamer.errors import UserError

read_idx = sys.modules["gossamer.data.mnist"].read_idx


def _idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def _write(folder, suffix=".gz", train=60, test=10):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        x, y = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for name, array in ((f"{prefix}-images-idx3-ubyte", x), (f"{prefix}-labels-idx1-ubyte", y)):
            content = _idx(array)
            content = gzip.compress(content) if suffix else content
            (folder / f"{name}{suffix}").write_bytes(content)


def test_read_idx_by_hand(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes([1, 2, 3, 4, 5, 255]))
    assert read_idx(path).tolist() == [[1, 2, 3], [4, 5, 255]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\0", "not an IDX file"),
        (b"\x1f\x8b\x08\x00", "not an IDX file"),
        (b"\0\0\x08\x03\0\0\0\x01", "ends within its header"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "holds 3 values where its header says 5"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "holds 3 values where its header says 2"),
        (b"\0\0\x08\x04" + b"\xff" * 16, "holds 0 values"),
    ],
)
def test_damaged_idx(tmp_path, content, reason):
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"some-idx: {reason}.*fetch it again"):
        read_idx(path)


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(_idx(np.arange(200)))
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for name, content in (("a.gz", whole[:-30]), ("b.gz", b"plain"), ("c.gz", bytes(broken))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: damaged or unreadable"):
            read_idx(tmp_path / name)


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
def test_finds_and_splits(tmp_path, suffix, place):
    _write(tmp_path / place, suffix)
    task = mnist(tmp_path, validation=12)
    assert (len(task.train), len(task.validation), len(task.test)) == (48, 12, 10)
    assert task.input_shape == (1, 28, 28)
    assert not task.synthetic
    both = np.concatenate([task.train.x, task.validation.x]).reshape(60, -1)
    assert len(np.unique(both, axis=0)) == 60  # each image in one split
    assert np.isclose(task.features(task.train.x).mean(), 0, atol=1e-5)
    assert task.augment(task.train.x, np.random.default_rng(0)) is task.train.x


def test_all_images_can_be_trained_on(tmp_path):
    _write(tmp_path)
    task = load("mnist", tmp_path, validation=0)
    assert len(task.train) == 60
    assert len(task.validation) == 0
    np.testing.assert_array_equal(task.train.y, np.arange(60) % 10)
    with pytest.raises(UserError, match="validation must be from 0 to 59, not 60"):
        mnist(tmp_path, validation=60)


def test_nothing_there_says_where_and_how(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"train-images-idx3.*GOSSAMER_DATA.*download=T"):
        mnist(tmp_path)
    monkeypatch.setenv("GOSSAMER_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="elsewhere"):
        mnist()


def test_one_file_missing_is_named(tmp_path):
    _write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"no t10k-labels-idx1-ubyte\.gz in"):
        mnist(tmp_path)


def test_images_and_labels_must_agree(tmp_path):
    _write(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(_idx(np.zeros(59))))
    with pytest.raises(UserError, match="do not go with labels"):
        mnist(tmp_path)
    labels.write_bytes(gzip.compress(_idx(np.full(60, 11))))
    with pytest.raises(UserError, match="labels go up to 11"):
        mnist(tmp_path)


def test_real(real_data):
    if not (real_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {real_data}")
    task = mnist(real_data)
    assert (len(task.train), len(task.validation), len(task.test)) == (55_000, 5_000, 10_000)
    # published moments of the 60,000 training images: 0.1307, 0.3081 of 255
    assert task.domain.mean / 255 == pytest.approx(0.1307, abs=5e-4)
    assert task.domain.std / 255 == pytest.approx(0.3081, abs=5e-4)
    # class counts of the test split, as published
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(task.test.y).tolist() == counts
