"""MNIST from its original IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.data.download import Root, data_root, fetch, find, missing
from gossamer.data.images import Images
from gossamer.data.task import Split, Task
from gossamer.errors import UserError

_NAMES = ("mnist", "MNIST/raw", "MNIST")
_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {  # of the original files, to verify downloads
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
_SPLIT_SEED = 1998


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read the array in an IDX file of unsigned bytes, gzipped if the name ends in ``.gz``.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, the values. Raises UserError naming the file when it
    is damaged, of another type or of another length than its header says.
    """
    remedy = "fetch it again"
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or unreadable ({error}): {remedy}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise UserError(f"{path}: not an IDX file of unsigned bytes ({data[:4]!r}): {remedy}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise UserError(f"{path}: ends within its header: {remedy}")
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
    expected = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != expected:
        raise UserError(
            f"{path}: holds {len(data) - start} values where its header says {expected}: {remedy}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _pair(folder: Path, prefix: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    arrays = []
    for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
        paths = [path for path in (folder / f"{name}.gz", folder / name) if path.exists()]
        if not paths:
            raise UserError(
                f"mnist: no {name}.gz in {folder}; fetch it with "
                f"gossamer.data.load('mnist', download=True)"
            )
        arrays.append(read_idx(paths[0]))
    x, y = arrays
    if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
        raise UserError(
            f"{folder}: {prefix} images of shape {x.shape} do not go with labels of shape "
            f"{y.shape}: fetch both files again"
        )
    if len(y) and y.max() > 9:
        raise UserError(f"{folder}: {prefix} labels go up to {y.max()}, not 9: fetch them again")
    return x, y.astype(np.int64)


def mnist(root: Root = None, *, download: bool = False, validation: int = 5_000) -> Task:
    """Load MNIST: 28 x 28 digits, 60,000 for training (less ``validation``) and 10,000 for test.

    The files ``train-images-idx3-ubyte.gz`` and so on (or uncompressed) are looked for in
    ``root/mnist``, ``root/MNIST/raw``, ``root/MNIST`` and ``root`` itself. The validation images
    are drawn from the training images with a fixed seed. Final figures by the common protocol (all
    60,000 trained on) come with ``validation=0``: then the validation split is empty.

    Raises UserError when files are missing or damaged, or a download fails.
    """
    folder = data_root(root)
    landmarks = [f"train-images-idx3-ubyte{suffix}" for suffix in (".gz", "")]
    dataset = find(folder, _NAMES, landmarks)
    if dataset is None and download:
        dataset = folder / _NAMES[0]
        _fetch(dataset)
    if dataset is None:
        raise missing("mnist", folder, _NAMES, landmarks[:1])
    x, y = _pair(dataset, "train")
    test = Split(*_pair(dataset, "t10k"))
    if not 0 <= validation < len(x):
        raise UserError(f"mnist: validation must be from 0 to {len(x) - 1}, not {validation}")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(x))
    train_rows, validation_rows = np.sort(order[validation:]), np.sort(order[:validation])
    train = Split(x[train_rows], y[train_rows])
    return Task(
        name="mnist",
        classes=tuple("0123456789"),
        train=train,
        validation=Split(x[validation_rows], y[validation_rows]),
        test=test,
        domain=Images.fitted(train.x),
        source="MNIST, Y. LeCun, C. Cortes, C. Burges; commonly stated CC BY-SA 3.0",
    )


def _fetch(folder: Path) -> None:
    for name, checksum in _FILES.items():
        fetch(f"{_MIRROR}{name}.gz", checksum, folder)
