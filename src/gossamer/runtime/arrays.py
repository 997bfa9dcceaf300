"""A network's inputs and outputs as ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gossamer.errors import UserError
from gossamer.files import writing
from gossamer.runtime.graph import Array, Graph


def read_arrays(path: Path, names: Sequence[str]) -> list[Array]:
    """Return the inputs called ``names``, from a ``.npy`` file or by name from an ``.npz``.

    A ``.npy`` file is memory-mapped. A scalar becomes an array of one number. Pickled objects are
    refused.

    Raises:
        UserError: the file does not exist or is not NumPy's, or arrays are missing.
    """
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError, ArithmeticError, MemoryError, zipfile.BadZipFile):
        raise UserError(
            f"{path}: not an array of numbers; write it with numpy.save or numpy.savez"
        ) from None
    if isinstance(loaded, np.ndarray):
        if len(names) != 1:
            raise UserError(
                f"{path}: holds one array, the network takes {len(names)}: {', '.join(names)}; "
                "write them by name with numpy.savez"
            )
        return [np.atleast_1d(loaded)]
    with loaded:
        known = set(loaded.files)
        if len(names) == 1 and len(known) == 1:
            names = loaded.files
        missing = [name for name in names if name not in known]
        if missing:
            raise UserError(
                f"{path}: has no array {missing[0]!r}, only {', '.join(sorted(known)) or 'none'}"
            )
        try:
            return [np.atleast_1d(loaded[name]) for name in names]
        except (ValueError, EOFError, SyntaxError, MemoryError, OSError, zipfile.BadZipFile):
            raise UserError(
                f"{path}: damaged, or holds objects; write it with numpy.savez"
            ) from None


def batches(graph: Graph, inputs: Sequence[Array], size: int, most: int) -> list[list[Array]]:
    """Return up to ``most`` batches of a network's inputs, with ``size`` rows of the first input.

    Rows are taken in order, starting again from the first if there are fewer than a batch.

    Raises:
        UserError: the network's batch is fixed at another size.
    """
    graph.check_batch(size)
    items = graph.input_items
    rows = [size * n // items[0] for n in items]
    count = max(1, min(most, len(inputs[0]) // size))
    return [
        [
            np.resize(x[i * n : (i + 1) * n], (n, *x.shape[1:]))
            for x, n in zip(inputs, rows, strict=True)
        ]
        for i in range(count)
    ]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write outputs atomically: one as ``.npy``, any number as ``.npz``.

    Raises:
        UserError: the file cannot be written, or is a ``.npy`` for several outputs.
    """
    if len(arrays) > 1 and path.suffix != ".npz":
        raise UserError(
            f"{path}: the network has {len(arrays)} outputs ({', '.join(arrays)}); "
            "name an .npz file for them"
        )
    with writing(path) as file:
        if path.suffix == ".npz":
            np.savez(file, allow_pickle=False, **arrays)
        else:
            np.save(file, next(iter(arrays.values())), allow_pickle=False)
